"""Selecting the best candidates of a frame, in order."""

from __future__ import annotations

import numpy as np

from wav2vec2_core.compilation import compiled_in_place, inlined
from wav2vec2_core.decoding.search.beam_state import (
    SCORE,
    Settings,
    State,
)


@inlined
def select(settings: Settings, state: State, candidates: int, best: float) -> int:
    """Write the best ``beam_width`` candidates close enough to the best score into ``order``, best first, ties in their
    former order.
    """
    order, scores = state.order, state.candidate_scores[:, SCORE]
    least = best + settings.beam_prune
    count = 0
    for row in range(candidates):
        if scores[row] >= least:
            order[count] = row
            count += 1
    width = settings.beam_width
    if count > width:
        for at in range(count):
            state.scratch[at] = order[at]
        least = kth_largest(scores, state.scratch, count, width)
        equals = width
        for at in range(count):
            if scores[order[at]] > least:
                equals -= 1
        kept = 0
        for at in range(count):
            row = order[at]
            if scores[row] == least:
                equals -= 1
            if scores[row] > least or (scores[row] == least and equals >= 0):
                order[kept] = row
                kept += 1
        count = kept
    sort_descending(order, state.scratch, scores, count)
    return count


@compiled_in_place
def kth_largest(scores: np.ndarray, rows: np.ndarray, count: int, k: int) -> float:
    """The ``k``-th largest score of ``rows``, by quickselect (Hoare), which reorders ``rows``."""
    low, high = 0, count - 1
    while low < high:
        pivot = scores[rows[(low + high) >> 1]]
        left, right = low, high
        while left <= right:
            while scores[rows[left]] > pivot:
                left += 1
            while scores[rows[right]] < pivot:
                right -= 1
            if left <= right:
                rows[left], rows[right] = rows[right], rows[left]
                left += 1
                right -= 1
        if k - 1 <= right:
            high = right
        elif k - 1 >= left:
            low = left
        else:
            break
    return float(scores[rows[k - 1]])


@compiled_in_place
def sort_descending(order: np.ndarray, scratch: np.ndarray, scores: np.ndarray, count: int) -> None:
    """Sort rows by score, largest first, with a stable bottom-up merge sort."""
    run = 1
    while run < count:
        start = 0
        while start < count:
            middle, end = min(start + run, count), min(start + 2 * run, count)
            left, right = start, middle
            for at in range(start, end):
                if left < middle and (right >= end or scores[order[left]] >= scores[order[right]]):
                    scratch[at] = order[left]
                    left += 1
                else:
                    scratch[at] = order[right]
                    right += 1
            start = end
        for at in range(count):
            order[at] = scratch[at]
        run *= 2
