"""The arrays of a beam search: constant tables, settings, and the state of a running search."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wav2vec2_core.decoding.search.tries import empty_table, refill

#: Flags of labels: the CTC blank; the label starts a word; the label ends a word, so that any next label starts one.
BLANK, STARTS, ENDS = 1, 2, 4
#: Flags of lexicon nodes: a prefix of some word of the lexicon; a word that counts as known.
PREFIX, KNOWN = 1, 2
#: Indices into ``State.counts``.
NODES, HISTORIES, TAILS, BEAMS, FRAMES, TRACES, STAMP, TOKENS = range(8)
#: Columns of ``State.nodes``, of ``State.histories``, of ``State.history_scores``.
WORD, LENGTH, LEXICON, HOT = range(4)
BEFORE, LAST_WORD, HOTWORDS, CONTEXT, TAIL = range(5)
RAW, TOTAL = range(2)
#: Columns of ``State.beams`` (the first three) and ``State.candidates``, and of ``State.candidate_scores``.
HISTORY, NODE, LAST, PARENT = range(4)
LOGIT, SCORE = range(2)


class SearchTables(NamedTuple):
    """Tables that are constant during decoding.

    label_flags: (labels,) uint8. label_first: (labels + 1,) int32, start of each label's text in ``label_characters``,
    int32. longest: number of characters of the longest label. width: 1 + the number of characters.
    lexicon_*: trie of the language model's words. words: (nodes,) uint32, id of the word that ends at a node, 0 if
    none; flags: (nodes,) uint8.
    hot_*: trie of the hotwords, empty without hotwords. shortest: (nodes,) int32, number of characters of the shortest
    hotword with this prefix; ends: (nodes,) bool.
    ngram_*: tables of the language model. order: 0 without a language model; end: id of ``</s>``.
    """

    label_flags: np.ndarray
    label_first: np.ndarray
    label_characters: np.ndarray
    longest: int
    width: int
    lexicon_table: np.ndarray
    lexicon_words: np.ndarray
    lexicon_flags: np.ndarray
    hot_table: np.ndarray
    hot_shortest: np.ndarray
    hot_ends: np.ndarray
    ngram_data: np.ndarray
    ngram_offsets: np.ndarray
    ngram_buckets: np.ndarray
    order: int
    end: int


class Settings(NamedTuple):
    """Checked options of one search: ``SearchOptions`` without those that are part of the ``SearchTables``."""

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
    """The state of a search, kept in preallocated arrays, so that no object is created per beam.

    counts: (8,) int64, rows in use. tokens: (labels,) int32, labels of the current frame.
    nodes: int32, partial words; row 0 is the empty one. WORD: the node without an end-of-word mark; LENGTH: characters;
    LEXICON, HOT: node in those tries, or -1. node_scores: float64, their contribution to a beam's score. node_table:
    (node, character) -> node.
    histories: int32, sequences of complete words; row 0 is empty. BEFORE: the history without its last word; LAST_WORD:
    that word's node; HOTWORDS: their number; CONTEXT: number of words in the language model's state, which is in
    contexts, uint32; TAIL: equal for histories with the same last words. history_scores: float64. RAW: language model;
    TOTAL: with hotwords. history_table: (history, word) -> history. tail_table: (tail, word) -> tail.
    beams: int32, those of the last frame, best first. beam_logits: float64. candidates, candidate_scores: those of the
    current frame; PARENT: row of the beam they extend. order, scratch: int32, rows of candidates. slots: int64, hash
    table for merging candidates: (stamp, row), valid for one stamp at a time.
    traces, trace_logp: (parent, label) int32 and float32, for the beams of all frames; those of frame t start at
    ``trace_first[t]``.
    """

    counts: np.ndarray
    tokens: np.ndarray
    nodes: np.ndarray
    node_scores: np.ndarray
    node_table: np.ndarray
    histories: np.ndarray
    history_scores: np.ndarray
    contexts: np.ndarray
    history_table: np.ndarray
    tail_table: np.ndarray
    beams: np.ndarray
    beam_logits: np.ndarray
    candidates: np.ndarray
    candidate_scores: np.ndarray
    order: np.ndarray
    scratch: np.ndarray
    slots: np.ndarray
    trace_first: np.ndarray
    traces: np.ndarray
    trace_logp: np.ndarray


#: Rows of new arrays.
SMALL = 1024
#: Arrays that are enlarged together.
GROUPS = {
    "nodes": ("nodes", "node_scores"),
    "histories": ("histories", "history_scores", "contexts"),
    "candidates": ("candidates", "candidate_scores", "order", "scratch"),
    "traces": ("trace_first", "traces", "trace_logp"),
}
TABLES = {"nodes": "node_table", "histories": "history_table", "tails": "tail_table"}


def new_state(labels: int, beam_width: int, context: int) -> State:
    """Allocate arrays for a search; ``restart`` starts one. labels: size of the alphabet; context: order - 1."""
    return State(
        counts=np.zeros(TOKENS + 1, np.int64),
        tokens=np.zeros(labels, np.int32),
        nodes=np.zeros((SMALL, HOT + 1), np.int32),
        node_scores=np.zeros(SMALL),
        node_table=empty_table(SMALL),
        histories=np.zeros((SMALL, TAIL + 1), np.int32),
        history_scores=np.zeros((SMALL, 2)),
        contexts=np.zeros((SMALL, context), np.uint32),
        history_table=empty_table(SMALL),
        tail_table=empty_table(SMALL),
        beams=np.zeros((beam_width, LAST + 1), np.int32),
        beam_logits=np.zeros(beam_width),
        candidates=np.zeros((SMALL, PARENT + 1), np.int32),
        candidate_scores=np.zeros((SMALL, 2)),
        order=np.zeros(SMALL, np.int32),
        scratch=np.zeros(SMALL, np.int32),
        slots=np.zeros((2 * SMALL, 2), np.int64),
        trace_first=np.zeros(SMALL, np.int64),
        traces=np.zeros((SMALL, 2), np.int32),
        trace_logp=np.zeros(SMALL, np.float32),
    )


def restart(state: State, context: tuple[int, ...], *, hotwords: bool) -> None:
    """Reset to a single empty beam. context: ids of the words before the recording, newest first."""
    for table in (state.node_table, state.history_table, state.tail_table):
        table.fill(0)
    stamp = state.counts[STAMP]
    state.counts.fill(0)
    state.counts[[NODES, HISTORIES, TAILS, BEAMS]] = 1
    state.counts[STAMP] = stamp
    state.nodes[0] = (0, 0, 0, 0 if hotwords else -1)
    state.node_scores[0] = 0.0
    state.histories[0] = (-1, 0, 0, len(context), 0)
    state.history_scores[0] = 0.0
    state.contexts[0, : len(context)] = context
    state.beams[0] = (0, 0, -1)
    state.beam_logits[0] = 0.0
    state.trace_first[0] = 0


def needed(state: State, longest: int, order: int, beam_width: int) -> dict[str, int]:
    """The most rows that the next frame may use, for each group of arrays."""
    counts = state.counts
    candidates = int(counts[BEAMS]) * max(int(counts[TOKENS]), 1)
    return {
        "candidates": candidates,
        "nodes": int(counts[NODES]) + candidates * (longest + 1),
        "histories": int(counts[HISTORIES] + counts[BEAMS]) + 1,
        "tails": int(counts[TAILS]) + int(counts[BEAMS]) * max(order, 1),
        "traces": max(int(counts[TRACES]) + min(candidates, beam_width), int(counts[FRAMES]) + 2),
    }


def grown(state: State, rows: dict[str, int]) -> State:
    """The same state with at least ``rows`` rows; arrays that are large enough are kept."""
    changed = {}
    for group, names in GROUPS.items():
        for name in names:
            array = getattr(state, name)
            if len(array) < rows[group]:
                larger = np.zeros((max(rows[group], 2 * len(array)), *array.shape[1:]), array.dtype)
                larger[: len(array)] = array
                changed[name] = larger
    for group, name in TABLES.items():
        table = getattr(state, name)
        if len(table) < 2 * rows[group]:
            changed[name] = empty_table(rows[group])
            refill(table, changed[name])
    if len(state.slots) < 2 * rows["candidates"]:
        changed["slots"] = empty_table(rows["candidates"])
    return state._replace(**changed)


def forget(state: State, frames: int) -> State:
    """Drop the traces of the first ``frames`` frames."""
    counts, first = state.counts, state.trace_first
    left, dropped = int(counts[FRAMES]) - frames, int(first[frames])
    traces = int(counts[TRACES]) - dropped
    for array in (state.traces, state.trace_logp):
        array[:traces] = array[dropped : dropped + traces]
    first[: left + 1] = first[frames : frames + left + 1] - dropped
    counts[FRAMES], counts[TRACES] = left, traces
    return state
