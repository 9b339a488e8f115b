"""Inference on recordings of any length: exact tiling of the feature encoder, windows of the transformer."""
