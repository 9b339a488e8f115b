"""Recordings of any length through a model: exact tiles of the feature encoder, windows of the transformer."""
