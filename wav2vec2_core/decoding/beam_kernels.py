"""CTC prefix beam search with an n-gram language model, array-coded. Semantics: ``beam_search``.

A beam is three numbers, (history of words, node of the partial word, last label), and a score. Where it came from is kept
apart, frame by frame, so that times and text cost nothing until a beam is returned.
"""

from __future__ import annotations

import math

import numpy as np

from wav2vec2_core.decoding.beam_state import (
    BEAMS,
    BEFORE,
    BLANK,
    CONTEXT,
    ENDS,
    FRAMES,
    HISTORIES,
    HISTORY,
    HOT,
    HOTWORDS,
    KNOWN,
    LAST,
    LAST_WORD,
    LENGTH,
    LEXICON,
    LOGIT,
    NODE,
    NODES,
    PARENT,
    PREFIX,
    RAW,
    SCORE,
    STAMP,
    STARTS,
    TAIL,
    TAILS,
    TOKENS,
    TOTAL,
    TRACES,
    WORD,
    Model,
    Settings,
    State,
)
from wav2vec2_core.decoding.compilation import compiled
from wav2vec2_core.decoding.ngram_kernels import score_ngram
from wav2vec2_core.decoding.tries import HALF, hashed, slot_of, step

#: From the log10 of language models to natural logarithms.
LN10 = 1.0 / math.log10(math.e)
#: Characters beyond which an unknown partial word costs more, as in pyctcdecode.
USUAL_LENGTH = 6


@compiled
def advance(model: Model, settings: Settings, state: State, logp: np.ndarray, frame: int) -> int:
    """Search the frames of ``logp``, (frames, labels) float64, from ``frame`` on.

    Returns:
        The first frame that was not searched: the end, or one for which the arrays may be too small.
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


@compiled
def choose_tokens(logp: np.ndarray, least: float, tokens: np.ndarray) -> int:
    """The labels of a frame that may continue beams, in order: at least ``least``, and the best in any case."""
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


@compiled
def has_room(model: Model, settings: Settings, state: State, tokens: int) -> bool:
    """Whether the next frame fits into the arrays whatever it brings; ``beam_state.needed`` has the same bounds."""
    counts = state.counts
    candidates = counts[BEAMS] * tokens
    nodes = counts[NODES] + candidates * (model.longest + 1)
    histories = counts[HISTORIES] + counts[BEAMS]
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


@compiled
def expand(model: Model, settings: Settings, state: State, logp: np.ndarray, tokens: int) -> int:
    """Continue every beam with every token, equal results merged; returns the number of candidates."""
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


@compiled
def merge(state: State, candidates: int, history: int, node: int, parent: int, logit: float) -> int:
    """Row of a candidate that is new, or equals one of the same stamp: their probabilities add up, the later's past wins."""
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


@compiled
def child(model: Model, settings: Settings, state: State, node: int, character: int) -> int:
    """The partial word with one more character; the number after the last character's says that the word ends there."""
    key = node * model.width + character + 1
    slot = slot_of(state.node_table, key)
    if state.node_table[slot, 0] == 0:
        state.node_table[slot, 0] = key
        state.node_table[slot, 1] = add_node(model, settings, state, node, character)
    return int(state.node_table[slot, 1])


@compiled
def add_node(model: Model, settings: Settings, state: State, parent: int, character: int) -> int:
    """A partial word that was not there yet, with what it adds to the score of a beam."""
    node = state.counts[NODES]
    state.counts[NODES] = node + 1
    if character == model.width - 1:
        state.nodes[node, WORD] = parent
        state.nodes[node, LENGTH] = state.nodes[parent, LENGTH]
        state.nodes[node, LEXICON] = state.nodes[parent, LEXICON]
        state.nodes[node, HOT] = state.nodes[parent, HOT]
        state.node_scores[node] = state.node_scores[parent]
        return node
    length = state.nodes[parent, LENGTH] + 1
    lexicon = step(model.lexicon_table, model.width, int(state.nodes[parent, LEXICON]), character)
    hot = step(model.hot_table, model.width, int(state.nodes[parent, HOT]), character)
    score = 0.0
    if hot >= 0:
        score = settings.hotword_weight * length / model.hot_shortest[hot]
    elif model.order and not (lexicon >= 0 and model.lexicon_flags[lexicon] & PREFIX):
        score = settings.unknown * max(1.0, length / USUAL_LENGTH)
    state.nodes[node, WORD] = node
    state.nodes[node, LENGTH] = length
    state.nodes[node, LEXICON] = lexicon
    state.nodes[node, HOT] = hot
    state.node_scores[node] = score
    return node


@compiled
def complete(model: Model, settings: Settings, state: State, history: int, word: int) -> int:
    """The history with one more word; word 0 is the empty word, which no model knows."""
    key = (history << HALF) + word + 1
    slot = slot_of(state.history_table, key)
    if state.history_table[slot, 0] == 0:
        state.history_table[slot, 0] = key
        state.history_table[slot, 1] = add_history(model, settings, state, history, word)
    return int(state.history_table[slot, 1])


@compiled
def add_history(model: Model, settings: Settings, state: State, parent: int, word: int) -> int:
    """A history that was not there yet, scored by the language model and the hotwords."""
    history = state.counts[HISTORIES]
    state.counts[HISTORIES] = history + 1
    state.histories[history, BEFORE] = parent
    state.histories[history, LAST_WORD] = word
    raw = state.history_scores[parent, RAW]
    length = 0
    if model.order:
        lexicon = state.nodes[word, LEXICON] if word else -1
        number = int(model.lexicon_words[lexicon]) if lexicon >= 0 else 0
        log10, length = score_ngram(
            model.ngram_data, model.ngram_offsets, model.ngram_buckets, model.order,
            state.contexts[parent], state.histories[parent, CONTEXT], number, state.contexts[history],
        )  # fmt: skip
        score = float(log10)
        if lexicon < 0 or not model.lexicon_flags[lexicon] & KNOWN:
            score += settings.unknown
        raw += settings.alpha * score * LN10 + settings.beta
    hot = state.nodes[word, HOT] if word else -1
    hotwords = state.histories[parent, HOTWORDS] + (1 if hot >= 0 and model.hot_ends[hot] else 0)
    state.histories[history, CONTEXT] = length
    state.history_scores[history, RAW] = raw
    state.histories[history, HOTWORDS] = hotwords
    state.history_scores[history, TOTAL] = raw + settings.hotword_weight * hotwords
    if settings.prune_history:
        state.histories[history, TAIL] = tail_of(state, history, max(1, model.order - 1))
    return history


@compiled
def tail_of(state: State, history: int, words: int) -> int:
    """A number for the last ``words`` words of a history, the same for the same words."""
    tail = 0
    for _ in range(words):
        if history <= 0:
            break
        key = (tail << HALF) + int(state.histories[history, LAST_WORD]) + 1
        slot = slot_of(state.tail_table, key)
        if state.tail_table[slot, 0] == 0:
            state.tail_table[slot, 0] = key
            state.tail_table[slot, 1] = state.counts[TAILS]
            state.counts[TAILS] += 1
        tail = int(state.tail_table[slot, 1])
        history = int(state.histories[history, BEFORE])
    return tail


@compiled
def rate(state: State, candidates: int) -> float:
    """Score all candidates; returns the best score."""
    best = -math.inf
    for row in range(candidates):
        score = state.candidate_scores[row, LOGIT] + (
            state.history_scores[state.candidates[row, HISTORY], TOTAL] + state.node_scores[state.candidates[row, NODE]]
        )
        state.candidate_scores[row, SCORE] = score
        best = max(best, score)
    return best


@compiled
def select(settings: Settings, state: State, candidates: int, best: float) -> int:
    """Put the best ``beam_width`` candidates near the best score into ``order``, best first, equals as they were."""
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


@compiled
def kth_largest(scores: np.ndarray, rows: np.ndarray, count: int, k: int) -> float:
    """The ``k``-th largest score of ``rows``, which are reordered (Hoare's selection)."""
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
    return scores[rows[k - 1]]


@compiled
def sort_descending(order: np.ndarray, scratch: np.ndarray, scores: np.ndarray, count: int) -> None:
    """Sort rows by score, largest first, equals as they were (merge sort from runs of one)."""
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


@compiled
def keep(settings: Settings, state: State, kept: int, logp: np.ndarray) -> None:
    """Make the selected candidates the beams, one per recent history if asked, and note where they came from."""
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


@compiled
def repeats(state: State, tail: int, node: int, last: int, beams: int) -> bool:
    """Whether a beam with the same recent words, partial word and last label is there; else it will be row ``beams``."""
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


@compiled
def finish(model: Model, settings: Settings, state: State) -> int:
    """Rank the beams as if nothing followed; they stay as they are, so that a search can go on.

    Returns:
        How many candidates ``order`` ranks: ``candidate_parent`` is the beam, ``candidate_last`` the history whose score
        and state they have.
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
    context = np.zeros(state.contexts.shape[1], np.uint32)
    for row in range(candidates):
        scored = state.candidates[row, LAST]
        score = state.candidate_scores[row, LOGIT] + state.history_scores[scored, TOTAL]
        if model.order and settings.boundary:
            log10, _ = score_ngram(
                model.ngram_data, model.ngram_offsets, model.ngram_buckets, model.order,
                state.contexts[scored], state.histories[scored, CONTEXT], model.end, context,
            )  # fmt: skip
            score += settings.alpha * log10 * LN10
        state.candidate_scores[row, SCORE] = score
        best = max(best, score)
    return select(settings, state, candidates, best)


@compiled
def trace_back(state: State, frames: int, beam: int, labels: np.ndarray, logp: np.ndarray) -> None:
    """The path to a beam after so many frames: (frames,) int32 labels and (frames,) float32 their log probabilities."""
    for frame in range(frames - 1, -1, -1):
        at = state.trace_first[frame] + beam
        labels[frame] = state.traces[at, 1]
        logp[frame] = state.trace_logp[at]
        beam = state.traces[at, 0]


@compiled
def settled(state: State) -> tuple[int, int]:
    """How many frames all beams have in common, and the beam of the last of them."""
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


@compiled
def collapse(
    label_flags: np.ndarray,
    label_first: np.ndarray,
    labels: np.ndarray,
    logp: np.ndarray,
    runs: np.ndarray,
    sums: np.ndarray,
) -> tuple[int, int]:
    """The characters of a path: frames of one label, without blanks and word delimiters.

    Args:
        label_flags, label_first: of the ``Model``. labels, logp: from ``trace_back``.
        runs: (frames, 4) int32, receives label, first frame, end frame and number of the word.
        sums: (frames,) float64, receives the sum of the probabilities over the frames.

    Returns:
        How many characters there are; how many words are complete, that is followed by the start of another.
    """
    count, word, last = 0, 0, -1
    inside, ended, extends = False, False, False
    for frame in range(len(labels)):
        label = labels[frame]
        flags = label_flags[label]
        if label == last:
            if extends:
                runs[count - 1, 2] = frame + 1
                sums[count - 1] += math.exp(logp[frame])
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
            sums[count] = math.exp(logp[frame])
            count += 1
            inside, extends = True, True
    return count, word
