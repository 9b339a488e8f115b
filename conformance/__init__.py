"""Proof that the back ends compute the same: run by users on their own hardware, imported by nothing."""
