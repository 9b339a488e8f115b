"""Kernels of CTC prefix beam search with an n-gram language model, on arrays. Semantics: see ``beam_search``.

A beam is three numbers (word history, node of the partial word, last label) and a score. Its path is stored separately,
frame by frame, so that times and text are computed only for beams that are returned.
"""

from __future__ import annotations

import math

import numpy as np

from wav2vec2_core.compilation import compiled_in_place, inlined
from wav2vec2_core.decoding.search.beam_selection import select
from wav2vec2_core.decoding.search.beam_state import (
    BEAMS,
    BLANK,
    CONTEXT,
    ENDS,
    FRAMES,
    HISTORIES,
    HISTORY,
    LAST,
    LOGIT,
    NODE,
    NODES,
    PARENT,
    SCORE,
    STAMP,
    STARTS,
    TAIL,
    TAILS,
    TOKENS,
    TOTAL,
    TRACES,
    WORD,
    SearchTables,
    Settings,
    State,
)
from wav2vec2_core.decoding.search.beam_words import TO_NATURAL, child, complete
from wav2vec2_core.decoding.search.tries import hashed
from wav2vec2_core.language_model.ngram_kernels import score_ngram


@compiled_in_place
def advance(model: SearchTables, settings: Settings, state: State, logp: np.ndarray, frame: int) -> int:
    """Search the frames of ``logp``, (frames, labels) float64, starting at ``frame``.

    Returns:
        The first frame not searched: the end, or a frame for which the arrays may be too small.
    """
    counts = state.counts
    while frame < len(logp):
        tokens = choose_tokens(logp[frame], settings.token_min, state.tokens)
        counts[TOKENS] = tokens
        if not has_room(model, settings, state, tokens):
            break
        candidates = expand(model, settings, state, logp[frame], tokens)
        kept = select(settings, state, candidates, rate(state, candidates))
        keep(settings, state, kept, logp[frame])
        frame += 1
    return frame


@compiled_in_place
def choose_tokens(logp: np.ndarray, least: float, tokens: np.ndarray) -> int:
    """Labels of a frame that may extend beams, in order: those of at least ``least``, and always the best one."""
    best = 0
    for label in range(len(logp)):
        if logp[label] > logp[best]:
            best = label
    count = 0
    for label in range(len(logp)):
        if logp[label] >= least or label == best:
            tokens[count] = label
            count += 1
    return count


@compiled_in_place
def has_room(model: SearchTables, settings: Settings, state: State, tokens: int) -> bool:
    """Whether the arrays have room for any next frame; ``beam_state.needed`` has the same bounds."""
    counts = state.counts
    candidates = counts[BEAMS] * tokens
    nodes = counts[NODES] + candidates * (model.longest + 1)
    histories = counts[HISTORIES] + counts[BEAMS] + 1
    tails = counts[TAILS] + counts[BEAMS] * max(model.order, 1)
    traces = max(counts[TRACES] + min(candidates, settings.beam_width), counts[FRAMES] + 2)
    return (
        candidates <= len(state.order)
        and 2 * candidates <= len(state.slots)
        and nodes <= len(state.nodes)
        and 2 * nodes <= len(state.node_table)
        and histories <= len(state.histories)
        and 2 * histories <= len(state.history_table)
        and 2 * tails <= len(state.tail_table)
        and traces <= len(state.traces)
        and counts[FRAMES] + 2 <= len(state.trace_first)
    )


@inlined
def expand(model: SearchTables, settings: Settings, state: State, logp: np.ndarray, tokens: int) -> int:
    """Extend every beam with every token and merge equal results; returns the number of candidates."""
    candidates = 0
    for k in range(tokens):
        label = int(state.tokens[k])
        flags = model.label_flags[label]
        state.counts[STAMP] += 1
        for beam in range(state.counts[BEAMS]):
            history, node = int(state.beams[beam, HISTORY]), int(state.beams[beam, NODE])
            if not flags & BLANK and label != state.beams[beam, LAST]:
                if flags & STARTS or state.nodes[node, WORD] != node:
                    if node:
                        history = complete(model, settings, state, history, int(state.nodes[node, WORD]))
                    node = 0
                for at in range(model.label_first[label], model.label_first[label + 1]):
                    node = child(model, settings, state, node, int(model.label_characters[at]))
                if flags & ENDS:
                    node = child(model, settings, state, node, model.width - 1)
            row = merge(state, candidates, history, node, beam, state.beam_logits[beam] + logp[label])
            state.candidates[row, LAST] = label
            candidates = max(candidates, row + 1)
    return candidates


@inlined
def merge(state: State, candidates: int, history: int, node: int, parent: int, logit: float) -> int:
    """Add a candidate, or merge it with an equal one of the same stamp: scores add up, the later parent is kept.
    Returns its row.
    """
    stamp, mask = state.counts[STAMP], len(state.slots) - 1
    slot = hashed(history, node) & mask
    while state.slots[slot, 0] == stamp:
        row = int(state.slots[slot, 1])
        if state.candidates[row, HISTORY] == history and state.candidates[row, NODE] == node:
            former = state.candidate_scores[row, LOGIT]
            state.candidate_scores[row, LOGIT] = max(former, logit) + math.log1p(math.exp(-abs(former - logit)))
            state.candidates[row, PARENT] = parent
            return row
        slot = (slot + 1) & mask
    state.slots[slot, 0] = stamp
    state.slots[slot, 1] = candidates
    state.candidates[candidates, HISTORY] = history
    state.candidates[candidates, NODE] = node
    state.candidates[candidates, PARENT] = parent
    state.candidate_scores[candidates, LOGIT] = logit
    return candidates


@inlined
def rate(state: State, candidates: int) -> float:
    """Compute the score of every candidate; returns the best one."""
    best = -math.inf
    for row in range(candidates):
        score = state.candidate_scores[row, LOGIT] + (
            state.history_scores[state.candidates[row, HISTORY], TOTAL] + state.node_scores[state.candidates[row, NODE]]
        )
        state.candidate_scores[row, SCORE] = score
        best = max(best, score)
    return best


@inlined
def keep(settings: Settings, state: State, kept: int, logp: np.ndarray) -> None:
    """Make the selected candidates the new beams, one per recent history if pruning by history, and store their
    parents.
    """
    counts = state.counts
    counts[STAMP] += 1
    first, beams = counts[TRACES], 0
    for at in range(kept):
        row = state.order[at]
        history, node = int(state.candidates[row, HISTORY]), int(state.candidates[row, NODE])
        last = state.candidates[row, LAST]
        if settings.prune_history and repeats(state, int(state.histories[history, TAIL]), node, last, beams):
            continue
        state.beams[beams, HISTORY] = history
        state.beams[beams, NODE] = node
        state.beams[beams, LAST] = last
        state.beam_logits[beams] = state.candidate_scores[row, LOGIT]
        state.traces[first + beams, 0] = state.candidates[row, PARENT]
        state.traces[first + beams, 1] = last
        state.trace_logp[first + beams] = logp[last]
        beams += 1
    counts[BEAMS] = beams
    counts[TRACES] = first + beams
    counts[FRAMES] += 1
    state.trace_first[counts[FRAMES]] = counts[TRACES]


@inlined
def repeats(state: State, tail: int, node: int, last: int, beams: int) -> bool:
    """Whether a beam with the same recent words, partial word and last label exists; if not, row ``beams`` is
    registered.
    """
    stamp, mask = state.counts[STAMP], len(state.slots) - 1
    slot = hashed(tail, node) & mask
    while state.slots[slot, 0] == stamp:
        beam = state.slots[slot, 1]
        if (
            state.beams[beam, NODE] == node
            and state.beams[beam, LAST] == last
            and state.histories[state.beams[beam, HISTORY], TAIL] == tail
        ):
            return True
        slot = (slot + 1) & mask
    state.slots[slot, 0] = stamp
    state.slots[slot, 1] = beams
    return False


@compiled_in_place
def finish(model: SearchTables, settings: Settings, state: State) -> int:
    """Rank the beams as if the recording ended here. The beams themselves do not change, so the search can continue.

    Returns:
        How many candidates ``order`` ranks. Their PARENT is the beam; LAST is the history with their score and state.
    """
    state.counts[STAMP] += 1
    candidates = 0
    for beam in range(state.counts[BEAMS]):
        history, word = int(state.beams[beam, HISTORY]), int(state.nodes[state.beams[beam, NODE], WORD])
        scored = complete(model, settings, state, history, word)
        row = merge(state, candidates, scored if word else history, 0, beam, state.beam_logits[beam])
        state.candidates[row, LAST] = scored
        candidates = max(candidates, row + 1)
    best = -math.inf
    unused = state.contexts[state.counts[HISTORIES]]
    for row in range(candidates):
        scored = state.candidates[row, LAST]
        score = state.candidate_scores[row, LOGIT] + state.history_scores[scored, TOTAL]
        if model.order and settings.boundary:
            log10, _ = score_ngram(
                model.ngram_data, model.ngram_offsets, model.ngram_buckets, model.order,
                state.contexts[scored], state.histories[scored, CONTEXT], model.end, unused,
            )  # fmt: skip
            score += settings.alpha * float(log10) * TO_NATURAL
        state.candidate_scores[row, SCORE] = score
        best = max(best, score)
    return select(settings, state, candidates, best)
