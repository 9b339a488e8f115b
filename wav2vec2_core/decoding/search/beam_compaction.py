"""Compaction: drops search state that no beam can reach any more, so that a stream's memory stays bounded.

A beam continues from its partial word and its history. If it extends to a partial word or history that exists already,
that one must be found, so that equal beams are merged. Therefore everything between the beams and the last history they
share is kept, with the partial words it consists of. The rest is dropped and the arrays are compacted.
"""

from __future__ import annotations

import heapq

import numpy as np

from wav2vec2_core.decoding.search.beam_state import (
    BEAMS,
    BEFORE,
    FRAMES,
    HISTORIES,
    HISTORY,
    LAST_WORD,
    NODE,
    NODES,
    TAIL,
    TAILS,
    TRACES,
    WORD,
    State,
)
from wav2vec2_core.decoding.search.beam_words import tail_of
from wav2vec2_core.decoding.search.tries import HALF, refill

#: Partial words or histories that a stream may hold before it is compacted: a few megabytes.
ROWS = 1 << 15
#: Frames of traces that a stream may hold before silent ones are dropped.
KEPT_FRAMES = 1000


def compact(state: State, width: int, tail: int) -> None:
    """Drop, in place, what cannot affect any later frame.

    Args:
        state: of a search between two frames, whose ``results`` have been read.
        width: that of the ``SearchTables``.
        tail: number of last words by which histories are compared, 0 if the search does not prune by history.
    """
    beams = state.beams[: state.counts[BEAMS]]
    reachable = _reachable(state, sorted(set(beams[:, HISTORY].tolist())))
    histories = _with_words_before(state, reachable, tail)
    new_node = _compact_nodes(state, np.union1d(beams[:, NODE], state.histories[histories, LAST_WORD]), width)
    new_history = _compact_histories(state, histories, new_node)
    beams[:, NODE] = new_node[beams[:, NODE]]
    beams[:, HISTORY] = new_history[beams[:, HISTORY]]
    state.tail_table.fill(0)
    state.counts[TAILS] = 1
    if tail:
        for history in new_history[reachable].tolist():
            state.histories[history, TAIL] = tail_of(state, history, tail)


def _reachable(state: State, live: list[int]) -> list[int]:
    """Histories from those of the beams back to the last one they all share, which comes first."""
    heap, seen = [-history for history in live], set(live)  # a history has a larger number than its parent
    heapq.heapify(heap)
    while len(heap) > 1:
        before = int(state.histories[-heapq.heappop(heap), BEFORE])
        if before not in seen:
            seen.add(before)
            heapq.heappush(heap, -before)
    return sorted(seen)


def _with_words_before(state: State, reachable: list[int], words: int) -> np.ndarray:
    """These histories, the ``words`` histories before the first of them, and history 0, sorted."""
    before, kept = reachable[0], {0, *reachable}
    for _ in range(words):
        if before <= 0:
            break
        before = int(state.histories[before, BEFORE])
        kept.add(max(before, 0))
    return np.array(sorted(kept))


def _compact_nodes(state: State, needed: np.ndarray, width: int) -> np.ndarray:
    """Keep the needed partial words and their prefixes; returns the new number of each node."""
    count = int(state.counts[NODES])
    entries = state.node_table[state.node_table[:, 0] != 0]
    parents = np.zeros(count, np.int64)
    parents[entries[:, 1]] = (entries[:, 0] - 1) // width
    is_kept = np.zeros(count, bool)
    is_kept[0] = True
    while len(needed := needed[~is_kept[needed]]):
        is_kept[needed] = True
        needed = np.unique(parents[needed])
    kept, new = np.flatnonzero(is_kept), np.cumsum(is_kept) - 1
    state.nodes[: len(kept)] = state.nodes[kept]
    state.nodes[: len(kept), WORD] = new[state.nodes[: len(kept), WORD]]
    state.node_scores[: len(kept)] = state.node_scores[kept]
    state.counts[NODES] = len(kept)
    entries = entries[is_kept[entries[:, 1]]]
    key, child = entries.T - [[1], [0]]
    _refill(state.node_table, new[key // width] * width + key % width + 1, new[child])
    return new


def _compact_histories(state: State, kept: np.ndarray, new_node: np.ndarray) -> np.ndarray:
    """Keep these histories, which include 0; returns the new number of each, -1 for dropped ones."""
    new = np.full(int(state.counts[HISTORIES]) + 1, -1)  # the extra entry maps -1, "no parent", to itself
    new[kept] = np.arange(len(kept))
    rows = state.histories[: len(kept)]
    for array in (state.histories, state.history_scores, state.contexts):
        array[: len(kept)] = array[kept]
    rows[:, BEFORE] = new[rows[:, BEFORE]]
    rows[:, LAST_WORD] = new_node[rows[:, LAST_WORD]]
    state.counts[HISTORIES] = len(kept)
    found = np.flatnonzero(rows[:, BEFORE] >= 0)
    before, word = rows[found, BEFORE].astype(np.int64), rows[found, LAST_WORD]
    _refill(state.history_table, (before << HALF) + word + 1, found)
    return new


def _refill(table: np.ndarray, keys: np.ndarray, values: np.ndarray) -> None:
    table.fill(0)
    refill(np.stack([keys, values], axis=1), table)


def drop_silence(state: State, gaps: np.ndarray, blank: int) -> np.ndarray:
    """Drop, in place, the frames where all beams have a blank, and traces that lead to no beam.

    Args:
        state: of a search between two frames.
        gaps: (frames,) int64, the number of frames already dropped before each frame.
        blank: the label of the blank.

    Returns:
        The updated ``gaps`` of the remaining frames.
    """
    last = int(state.counts[FRAMES]) - 1
    rows = slice(int(state.trace_first[last]), int(state.counts[TRACES]))
    parents, labels = state.traces[rows].copy().T
    logp, gap = state.trace_logp[rows].copy(), int(gaps[last])
    kept = []  # newest frame first
    for frame in range(last - 1, -1, -1):
        pasts, inverse = np.unique(parents, return_inverse=True)
        before = int(state.trace_first[frame]) + pasts
        if (state.traces[before, 1] == blank).all():
            parents, gap = state.traces[before, 0][inverse], gap + 1 + int(gaps[frame])
            continue
        kept.append((inverse, labels, logp, gap))
        (parents, labels), logp, gap = state.traces[before].T, state.trace_logp[before], int(gaps[frame])
    kept.append((parents, labels, logp, gap))
    end = 0
    for frame, (parents, labels, logp, _) in enumerate(reversed(kept)):
        state.traces[end : end + len(labels)] = np.stack([parents, labels], axis=1)
        state.trace_logp[end : end + len(labels)] = logp
        end += len(labels)
        state.trace_first[frame + 1] = end
    state.counts[[FRAMES, TRACES]] = len(kept), end
    return np.array([gap for *_, gap in reversed(kept)], np.int64)
