"""Waveforms as one padded array, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config


def pad_batch(waveforms: Sequence[np.ndarray], rows: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms as one array with zeros after each, and the mask that tells them from the zeros.

    Args:
        waveforms: (samples,) each.
        rows, samples: shape of the batch; rows that no waveform fills are silence, marked as valid.

    Returns:
        values (rows, samples) float32 and mask (rows, samples) int32.
    """
    values, mask = np.zeros((rows, samples), np.float32), np.zeros((rows, samples), np.int32)
    mask[len(waveforms) :] = 1
    for row, waveform in enumerate(waveforms):
        values[row, : len(waveform)] = waveform
        mask[row, : len(waveform)] = 1
    return values, mask


def unpad_scores(scores: np.ndarray, waveforms: Sequence[np.ndarray], config: Wav2Vec2Config) -> list[np.ndarray]:
    """What a model made of each waveform: its own frames of (rows, frames, ...), or its vector of (rows, size)."""
    scores = scores[: len(waveforms)]
    if scores.ndim == 2:  # one vector for each utterance
        return list(scores)
    frames = [config.num_frames(len(waveform)) for waveform in waveforms]
    return [row[:count].copy() for row, count in zip(scores, frames, strict=True)]
