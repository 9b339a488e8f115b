"""Backtracking from a beam: the labels of its frames, and their characters and words."""

from __future__ import annotations

import math

import numpy as np

from wav2vec2_core.compilation import compiled_in_place
from wav2vec2_core.decoding.search.beam_state import (
    BEAMS,
    BLANK,
    ENDS,
    FRAMES,
    STAMP,
    STARTS,
    State,
)


@compiled_in_place
def trace_back(state: State, frames: int, beam: int, labels: np.ndarray, logp: np.ndarray) -> None:
    """Write the path to a beam after ``frames`` frames: its labels, (frames,) int32, and log probabilities, float32."""
    for frame in range(frames - 1, -1, -1):
        at = state.trace_first[frame] + beam
        labels[frame] = state.traces[at, 1]
        logp[frame] = state.trace_logp[at]
        beam = state.traces[at, 0]


@compiled_in_place
def settled(state: State) -> tuple[int, int]:
    """The number of leading frames that all beams share, and the row of their common beam at the last of these."""
    frame, count = state.counts[FRAMES], state.counts[BEAMS]
    for beam in range(count):
        state.scratch[beam] = beam
    while frame > 0 and count > 1:
        frame -= 1
        state.counts[STAMP] += 1
        parents = 0
        for at in range(count):
            parent = state.traces[state.trace_first[frame] + state.scratch[at], 0]
            if state.slots[parent, 0] != state.counts[STAMP]:
                state.slots[parent, 0] = state.counts[STAMP]
                state.scratch[parents] = parent
                parents += 1
        count = parents
    return frame, state.scratch[0]


@compiled_in_place
def collapse(
    label_flags: np.ndarray,
    label_first: np.ndarray,
    labels: np.ndarray,
    logp: np.ndarray,
    runs: np.ndarray,
    sums: np.ndarray,
) -> tuple[int, int]:
    """The characters of a path: runs of one label, without blanks and word delimiters.

    Args:
        label_flags, label_first: from the ``SearchTables``.
        labels, logp: from ``trace_back``.
        runs: (frames, 4) int32, receives label, first frame, end frame and word number of each character.
        sums: (frames,) float64, receives the sum of its probabilities over these frames.

    Returns:
        The number of characters, and the number of complete words: those that a delimiter or another word follows.
    """
    count, word, last = 0, 0, -1
    inside, ended, extends = False, False, False
    for frame in range(len(labels)):
        label = labels[frame]
        flags = label_flags[label]
        if label == last:
            if extends:
                runs[count - 1, 2] = frame + 1
                sums[count - 1] += math.exp(np.float64(logp[frame]))
            continue
        last = label
        extends = False
        if flags & BLANK:
            continue
        if inside and (flags & STARTS or ended):
            word += 1
            inside = False
        ended = flags & ENDS != 0
        if label_first[label] < label_first[label + 1]:
            runs[count, 0], runs[count, 1], runs[count, 2], runs[count, 3] = label, frame, frame + 1, word
            sums[count] = math.exp(np.float64(logp[frame]))
            count += 1
            inside, extends = True, True
    return count, word
