"""Random draws of training, once for every back end: time and feature masks, negatives, layer drop.

A numpy ``Generator`` comes in, arrays go out, so a run can be repeated and two frameworks can be given the same draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def time_mask(
    lengths: Sequence[int] | np.ndarray,
    frames: int,
    *,
    prob: float,
    length: int,
    min_masks: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Spans of frames to mask, per utterance within its own length.

    Paper section 3.1 with fairseq's details: ``int(prob * n / length + U[0, 1))`` starts for n frames, drawn without
    replacement from [0, n - length); spans may overlap. With prob 0.65 (0.065 per frame times 10) and length 10,
    49 % of 749 frames are masked, in runs of 14.7 frames on average.

    Args:
        lengths: (batch,) valid frames of each utterance; what is too short for a span gets no mask.
        frames: width of the result.
        prob: expected share of masked frames if spans did not overlap (``mask_time_prob``).
        length: frames in a span (``mask_time_length``).
        min_masks: spans at least, where they fit (``mask_time_min_masks``).
        generator: source of randomness.

    Returns:
        bool (batch, frames), True where masked.
    """
    mask = np.zeros((len(lengths), frames), bool)
    for row, valid in zip(mask, lengths, strict=True):
        _mask_spans(row[: int(valid)], prob, length, min_masks, generator)
    return mask


def feature_mask(
    batch: int, features: int, *, prob: float, length: int, min_masks: int, generator: np.random.Generator
) -> np.ndarray:
    """Spans of features to set to zero in every frame of an utterance; arguments as ``time_mask``.

    Returns:
        bool (batch, features), True where masked.
    """
    mask = np.zeros((batch, features), bool)
    for row in mask:
        _mask_spans(row, prob, length, min_masks, generator)
    return mask


def negative_indices(mask: np.ndarray, num_negatives: int, generator: np.random.Generator) -> np.ndarray:
    """Distractors of the contrastive task: for each masked frame, other masked frames of the same utterance.

    Drawn uniformly with replacement (paper section 3.2). Where an utterance has a single masked frame it is its own
    distractor, which the loss treats as no distractor at all.

    Args:
        mask: bool (batch, frames), True where masked.
        num_negatives: distractors per frame, 100 in the paper.
        generator: source of randomness.

    Returns:
        int64 (batch, frames, num_negatives), positions in the flattened (batch * frames) axis; rows that are not
        masked point to the first frame of their utterance and are not used by the loss.
    """
    batch, frames = mask.shape
    negatives = np.zeros((batch, frames, num_negatives), np.int64)
    for row, masked_row in enumerate(mask):
        masked = np.flatnonzero(masked_row)
        if len(masked) == 1:
            negatives[row, masked] = masked
        elif len(masked) > 1:
            # Draw among the others: positions from the frame's own upwards move up by one, so it is never drawn.
            drawn = generator.integers(0, len(masked) - 1, (len(masked), num_negatives))
            drawn += drawn >= np.arange(len(masked))[:, None]
            negatives[row, masked] = masked[drawn]
        negatives[row] += row * frames
    return negatives


def layer_keep(num_layers: int, layerdrop: float, generator: np.random.Generator) -> np.ndarray:
    """Which layers run in this training step: bool (num_layers,), each False with probability ``layerdrop``."""
    return generator.random(num_layers) >= layerdrop


def _mask_spans(row: np.ndarray, prob: float, length: int, min_masks: int, generator: np.random.Generator) -> None:
    """Set spans of ``row``, a bool view (n,), to True in place."""
    count = max(int(prob * len(row) / length + generator.random()), min_masks)
    choices = len(row) - length
    count = min(count, max(choices, 0))
    if count:
        starts = generator.choice(choices, count, replace=False)
        row[starts[:, None] + np.arange(length)] = True
