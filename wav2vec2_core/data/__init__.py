"""Manifests, and batches of recordings."""

from wav2vec2_core.data.bucketing import similar_lengths
from wav2vec2_core.data.collate import pad_batch, unpad_scores

__all__ = ["pad_batch", "similar_lengths", "unpad_scores"]
