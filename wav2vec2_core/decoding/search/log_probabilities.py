"""Converting a model's output to log probabilities, frame by frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from wav2vec2_core.errors import InputError

#: Probabilities are clipped at 1e-15, as in pyctcdecode.
LEAST_LOG = np.log(1e-15)
#: A row of numbers from 0 to 1 is taken as probabilities if its sum is this close to 1, which allows for float16.
SUM_TOLERANCE = 1e-3


def checked_logits(logits: Any, labels: int) -> np.ndarray:
    """Return logits as (frames, labels), float32 or float64, contiguous. Raises ``InputError`` if the shape or type is
    wrong.
    """
    array = np.asarray(logits)
    if array.dtype.kind not in "fiu":
        raise InputError(f"logits are of type {array.dtype}: real numbers are needed")
    if array.ndim != 2:
        raise InputError(f"logits have shape {array.shape}, (frames, vocab) is needed: decode one utterance at a time")
    if array.shape[1] != labels:
        raise InputError(
            f"logits have {array.shape[1]} columns and the alphabet {labels} labels: "
            "use the alphabet of the model that made them"
        )
    dtype = np.float32 if array.dtype in (np.float16, np.float32) else np.float64
    return np.ascontiguousarray(array, dtype)


def log_probabilities(logits: np.ndarray, first_frame: int = 0) -> np.ndarray:
    """Log softmax of checked logits, (frames, labels) float64, clipped at log 1e-15; for rows of probabilities, their
    log.

    ``first_frame``: number of the first row, for error messages.

    Raises:
        InputError: a frame contains NaN or plus infinity, or only minus infinity.
    """
    best = logits.max(1)
    if not np.isfinite(best).all():
        frame = int(np.flatnonzero(~np.isfinite(best))[0])
        raise InputError(
            f"logits of frame {first_frame + frame} are not finite (largest value {best[frame]}): "
            "check the recording, and the dtype the model runs in"
        )
    shifted = logits - best[:, None]
    sums = np.exp(shifted).sum(1, dtype=np.float64)
    scores = shifted.astype(np.float64)
    scores -= np.log(sums)[:, None]
    given = _are_probabilities(logits, best)
    if given.any():
        with np.errstate(divide="ignore"):
            scores[given] = np.minimum(np.log(logits[given].astype(np.float64)), 0.0)
    return np.maximum(scores, LEAST_LOG, out=scores)


def _are_probabilities(logits: np.ndarray, best: np.ndarray) -> np.ndarray:
    """(frames,) bool: which rows are already probabilities."""
    given = (best > 0) & (best <= 1 + SUM_TOLERANCE)
    if given.any():
        given &= (logits.min(1) >= 0) & (np.abs(logits.sum(1, dtype=np.float64) - 1) < SUM_TOLERANCE)
    return given
