"""Serving: an engine that many requests share, and the HTTP server in front of it."""
