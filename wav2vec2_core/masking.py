"""Random draws of training, shared by all back ends: time and feature masks, negatives, layer drop.

All functions take a numpy ``Generator`` and return arrays, so a run can be repeated and two frameworks can use the same
draws.
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
    """Draw the spans of frames to mask, within each utterance's length.

    Paper section 3.1 with fairseq's details: ``int(prob * n / length + U[0, 1))`` starts for n frames, drawn without
    replacement from [0, n - length); spans may overlap. With prob 0.65 (0.065 per frame times 10) and length 10, 49 %
    of 749 frames are masked, in runs of 14.7 frames on average.

    Args:
        lengths: (batch,) valid frames of each utterance; one shorter than a span is not masked.
        frames: width of the result.
        prob: expected share of masked frames if spans did not overlap (``mask_time_prob``).
        length: frames in a span (``mask_time_length``).
        min_masks: least number of spans, if they fit (``mask_time_min_masks``).
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
    """Draw the spans of features to set to zero in all frames of an utterance; arguments as in ``time_mask``.

    Returns:
        bool (batch, features), True where masked.
    """
    mask = np.zeros((batch, features), bool)
    for row in mask:
        _mask_spans(row, prob, length, min_masks, generator)
    return mask


def negative_indices(mask: np.ndarray, num_negatives: int, generator: np.random.Generator) -> np.ndarray:
    """Draw the distractors of the contrastive task: for each masked frame, other masked frames of the same utterance.

    They are drawn uniformly with replacement (paper section 3.2). The only masked frame of an utterance is its own
    distractor, which the loss ignores.

    Args:
        mask: bool (batch, frames), True where masked.
        num_negatives: distractors per frame, 100 in the paper.
        generator: source of randomness.

    Returns:
        int64 (batch, frames, num_negatives), positions in the flattened (batch * frames) axis; rows of unmasked frames
            point to the first frame of their utterance and are not used by the loss.
    """
    batch, frames = mask.shape
    negatives = np.zeros((batch, frames, num_negatives), np.int64)
    for row, masked_row in enumerate(mask):
        masked = np.flatnonzero(masked_row)
        if len(masked) == 1:
            negatives[row, masked] = masked
        elif len(masked) > 1:
            # Draw among the other frames: indices from the frame's own upwards are shifted by one.
            drawn = generator.integers(0, len(masked) - 1, (len(masked), num_negatives))
            drawn += drawn >= np.arange(len(masked))[:, None]
            negatives[row, masked] = masked[drawn]
        negatives[row] += row * frames
    return negatives


def count_negatives(negatives: np.ndarray) -> np.ndarray:
    """How often each frame of an utterance is a distractor of each of its frames.

    A loss takes these counts as it takes the indices, and needs neither a gather nor a copy of a vector for each
    distractor.

    Args:
        negatives: (batch, frames, num_negatives), from ``negative_indices``.

    Returns:
        (batch, frames, frames) uint8, or int32 for more than 255 distractors; rows of unmasked frames mean nothing.
    """
    batch, frames, drawn = negatives.shape
    counts = np.zeros((batch, frames, frames), count_type(drawn))
    rows = np.arange(batch)[:, None, None], np.arange(frames)[:, None]
    np.add.at(counts, (*rows, negatives % frames), 1)
    return counts


def count_type(num_negatives: int) -> type:
    """The type of counts of so many distractors."""
    return np.uint8 if num_negatives < 256 else np.int32


def layer_keep(num_layers: int, layerdrop: float, generator: np.random.Generator) -> np.ndarray:
    """Draw which layers run in a training step: bool (num_layers,), each False with probability ``layerdrop``."""
    return generator.random(num_layers) >= layerdrop


def _mask_spans(row: np.ndarray, prob: float, length: int, min_masks: int, generator: np.random.Generator) -> None:
    """Set spans of ``row``, a bool view (n,), to True in place."""
    count = max(int(prob * len(row) / length + generator.random()), min_masks)
    choices = len(row) - length
    count = min(count, max(choices, 0))
    if count:
        starts = generator.choice(choices, count, replace=False)
        row[starts[:, None] + np.arange(length)] = True
