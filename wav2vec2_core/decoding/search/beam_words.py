"""Partial words and word histories of a beam search; each is created and scored once."""

from __future__ import annotations

import math

from wav2vec2_core.compilation import compiled_in_place
from wav2vec2_core.decoding.search.beam_state import (
    BEFORE,
    CONTEXT,
    HISTORIES,
    HOT,
    HOTWORDS,
    KNOWN,
    LAST_WORD,
    LENGTH,
    LEXICON,
    NODES,
    PREFIX,
    RAW,
    TAIL,
    TAILS,
    TOTAL,
    WORD,
    SearchTables,
    Settings,
    State,
)
from wav2vec2_core.decoding.search.tries import HALF, slot_of, step
from wav2vec2_core.language_model.ngram_kernels import score_ngram

#: Converts the log10 of language models to natural logarithms.
TO_NATURAL = 1.0 / math.log10(math.e)
#: Number of characters beyond which the penalty of an unknown partial word grows, as in pyctcdecode.
USUAL_LENGTH = 6


@compiled_in_place
def child(model: SearchTables, settings: Settings, state: State, node: int, character: int) -> int:
    """The partial word extended by one character; ``width - 1`` is the end-of-word mark."""
    key = node * model.width + character + 1
    slot = slot_of(state.node_table, key)
    if state.node_table[slot, 0] == 0:
        state.node_table[slot, 0] = key
        state.node_table[slot, 1] = add_node(model, settings, state, node, character)
    return int(state.node_table[slot, 1])


@compiled_in_place
def add_node(model: SearchTables, settings: Settings, state: State, parent: int, character: int) -> int:
    """Create a partial word, with its contribution to a beam's score."""
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


@compiled_in_place
def complete(model: SearchTables, settings: Settings, state: State, history: int, word: int) -> int:
    """The history extended by one word; word 0 is the empty word, which is unknown to every model."""
    key = (history << HALF) + word + 1
    slot = slot_of(state.history_table, key)
    if state.history_table[slot, 0] == 0:
        state.history_table[slot, 0] = key
        state.history_table[slot, 1] = add_history(model, settings, state, history, word)
    return int(state.history_table[slot, 1])


@compiled_in_place
def add_history(model: SearchTables, settings: Settings, state: State, parent: int, word: int) -> int:
    """Create a history, scored by the language model and the hotwords."""
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
        raw += settings.alpha * score * TO_NATURAL + settings.beta
    hot = state.nodes[word, HOT] if word else -1
    hotwords = state.histories[parent, HOTWORDS] + (1 if hot >= 0 and model.hot_ends[hot] else 0)
    state.histories[history, CONTEXT] = length
    state.history_scores[history, RAW] = raw
    state.histories[history, HOTWORDS] = hotwords
    state.history_scores[history, TOTAL] = raw + settings.hotword_weight * hotwords
    if settings.prune_history:
        state.histories[history, TAIL] = tail_of(state, history, max(1, model.order - 1))
    return history


@compiled_in_place
def tail_of(state: State, history: int, words: int) -> int:
    """A number that identifies the last ``words`` words of a history."""
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
