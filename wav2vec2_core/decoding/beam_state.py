"""The arrays of a beam search: what it knows before it starts, what it may do, and what it keeps while it runs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wav2vec2_core.decoding.tries import empty_table, refill

#: Flags of labels: the CTC blank; a word starts with this label; a word starts with whatever comes after it.
BLANK, STARTS, ENDS = 1, 2, 4
#: Flags of the nodes of a lexicon: some word of the lexicon starts like this; this is a word that counts as known.
PREFIX, KNOWN = 1, 2
#: Places in ``State.counts``.
NODES, HISTORIES, TAILS, BEAMS, FRAMES, TRACES, STAMP, TOKENS = range(8)


class Model(NamedTuple):
    """What does not change while decoding.

    label_flags: (labels,) uint8. label_first: (labels + 1,) int32, where each label's text starts in
    ``label_characters``, int32. longest: characters of the longest label. width: 1 + the number of characters.
    lexicon_*: the trie of the language model's words; words: (nodes,) uint32 id of the word that ends there, 0 if none;
    flags: (nodes,) uint8. hot_*: the trie of the hotwords; shortest: (nodes,) int32, characters of the shortest
    hotword below; ends: (nodes,) bool; all empty without hotwords. ngram_*: the language model's tables; order: 0
    without language model; end: id of ``</s>``.
    """

    label_flags: np.ndarray
    label_first: np.ndarray
    label_characters: np.ndarray
    longest: int
    width: int
    lexicon_keys: np.ndarray
    lexicon_values: np.ndarray
    lexicon_words: np.ndarray
    lexicon_flags: np.ndarray
    hot_keys: np.ndarray
    hot_values: np.ndarray
    hot_shortest: np.ndarray
    hot_ends: np.ndarray
    ngram_data: np.ndarray
    ngram_offsets: np.ndarray
    ngram_buckets: np.ndarray
    order: int
    end: int


class Settings(NamedTuple):
    """Options of one search, checked; scores are natural logarithms, ``alpha`` and ``unknown`` as pyctcdecode has them."""

    alpha: float
    beta: float
    unknown: float
    boundary: bool
    hotword_weight: float
    beam_width: int
    beam_prune: float
    token_min: float
    prune_history: bool


class State(NamedTuple):
    """What a search keeps. A number of a node, history or beam is a row of the arrays of that name.

    counts: (8,) int64, how much of the arrays is in use. tokens: (labels,) int32, labels of the current frame.

    node_*: partial words, node 0 the empty one; word: the node without the mark that the next label starts a word;
    lexicon, hot: place in those tries or -1. history_*: complete words, history 0 none; raw: score of the language
    model; hot: number of hotwords; score: of both; context, length: state of the language model; tail: number that
    equals another's where the last words do. The tables map (node, character) and (history, word) to what follows.

    beam_*: the beams of the last frame, best first; last: their last label. candidate_*: the beams of the frame in the
    making; parent: row of the beam before. slot_*: finds equal candidates, one generation (``stamp``) at a time.

    trace_*: the beams of all frames, those of frame t from ``trace_first[t]`` on: how each came about.
    """

    counts: np.ndarray
    tokens: np.ndarray
    node_keys: np.ndarray
    node_values: np.ndarray
    node_word: np.ndarray
    node_length: np.ndarray
    node_lexicon: np.ndarray
    node_hot: np.ndarray
    node_score: np.ndarray
    history_keys: np.ndarray
    history_values: np.ndarray
    history_parent: np.ndarray
    history_word: np.ndarray
    history_raw: np.ndarray
    history_hot: np.ndarray
    history_score: np.ndarray
    history_context: np.ndarray
    history_length: np.ndarray
    history_tail: np.ndarray
    tail_keys: np.ndarray
    tail_values: np.ndarray
    beam_history: np.ndarray
    beam_node: np.ndarray
    beam_last: np.ndarray
    beam_logit: np.ndarray
    candidate_history: np.ndarray
    candidate_node: np.ndarray
    candidate_last: np.ndarray
    candidate_parent: np.ndarray
    candidate_logit: np.ndarray
    candidate_score: np.ndarray
    order: np.ndarray
    scratch: np.ndarray
    slot_stamp: np.ndarray
    slot_value: np.ndarray
    trace_first: np.ndarray
    trace_parent: np.ndarray
    trace_label: np.ndarray
    trace_logp: np.ndarray


_SMALL = 1024
_FLOATS = {"node_score", "history_raw", "history_score", "beam_logit", "candidate_logit", "candidate_score"}
_CANDIDATES = ("candidate", "order", "scratch")


def new_state(labels: int, beam_width: int, context: int) -> State:
    """Arrays for a search that has not begun. labels: of the alphabet; context: words of a state, order - 1."""
    sizes = {"counts": TOKENS + 1, "tokens": labels, "beam": beam_width}
    arrays = {}
    for name in State._fields:
        group = name.split("_")[0]
        dtype = np.float64 if name in _FLOATS else np.int32
        arrays[name] = np.zeros(sizes.get(group, _SMALL), dtype)
    for table in ("node", "history", "tail"):
        arrays[f"{table}_keys"], arrays[f"{table}_values"] = empty_table(_SMALL)
    arrays["counts"] = arrays["counts"].astype(np.int64)
    arrays["slot_stamp"] = np.zeros(2 * _SMALL, np.int64)
    arrays["slot_value"] = np.zeros(2 * _SMALL, np.int32)
    arrays["trace_first"] = np.zeros(_SMALL, np.int64)
    arrays["trace_logp"] = np.zeros(_SMALL, np.float32)
    arrays["history_context"] = np.zeros((_SMALL, context), np.uint32)
    state = State(**arrays)
    restart(state, (), hotwords=False)
    return state


def restart(state: State, context: tuple[int, ...], *, hotwords: bool) -> None:
    """Forget everything: one beam without words. context: word ids before the recording, newest first."""
    for keys in (state.node_keys, state.history_keys, state.tail_keys):
        keys.fill(0)
    stamp = state.counts[STAMP]
    state.counts.fill(0)
    state.counts[[NODES, HISTORIES, TAILS, BEAMS]] = 1
    state.counts[STAMP] = stamp
    state.node_word[0] = state.node_length[0] = state.node_lexicon[0] = 0
    state.node_hot[0] = 0 if hotwords else -1
    state.node_score[0] = 0.0
    state.history_parent[0] = -1
    state.history_word[0] = state.history_hot[0] = state.history_tail[0] = 0
    state.history_raw[0] = state.history_score[0] = 0.0
    state.history_context[0, : len(context)] = context
    state.history_length[0] = len(context)
    state.beam_history[0] = state.beam_node[0] = 0
    state.beam_last[0] = -1
    state.beam_logit[0] = 0.0
    state.trace_first[0] = 0


def needed(state: State, longest: int, order: int, beam_width: int) -> dict[str, int]:
    """Rows that the next frame may use at most, by group of arrays."""
    counts = state.counts
    candidates = int(counts[BEAMS]) * max(int(counts[TOKENS]), 1)
    return {
        "candidate": candidates,
        "node": int(counts[NODES]) + candidates * (longest + 1),
        "history": int(counts[HISTORIES] + counts[BEAMS]),
        "tail": int(counts[TAILS]) + int(counts[BEAMS]) * max(order, 1),
        "trace": max(int(counts[TRACES]) + min(candidates, beam_width), int(counts[FRAMES]) + 2),
    }


def grown(state: State, rows: dict[str, int]) -> State:
    """The same state in arrays of at least ``rows``; those that are large enough stay."""
    arrays = state._asdict()
    for group, least in rows.items():
        for name, array in arrays.items():
            of_group = name.startswith(_CANDIDATES) if group == "candidate" else name.startswith(f"{group}_")
            if of_group and not name.endswith(("_keys", "_values")) and len(array) < least:
                larger = np.zeros((max(least, 2 * len(array)), *array.shape[1:]), array.dtype)
                larger[: len(array)] = array
                arrays[name] = larger
    for table in ("node", "history", "tail"):
        keys, values = arrays[f"{table}_keys"], arrays[f"{table}_values"]
        if 2 * rows[table] > len(keys):
            larger = empty_table(rows[table])
            refill(keys, values, *larger)
            arrays[f"{table}_keys"], arrays[f"{table}_values"] = larger
    if 2 * rows["candidate"] > len(state.slot_stamp):
        slots = len(empty_table(rows["candidate"]).keys)
        arrays["slot_stamp"], arrays["slot_value"] = np.zeros(slots, np.int64), np.zeros(slots, np.int32)
    return State(**arrays)


def forget(state: State, frames: int) -> State:
    """Drop how the first frames came about."""
    counts, first = state.counts, state.trace_first
    left, dropped = int(counts[FRAMES]) - frames, int(first[frames])
    traces = int(counts[TRACES]) - dropped
    for array in (state.trace_parent, state.trace_label, state.trace_logp):
        array[:traces] = array[dropped : dropped + traces]
    first[: left + 1] = first[frames : frames + left + 1] - dropped
    counts[FRAMES], counts[TRACES] = left, traces
    return state
