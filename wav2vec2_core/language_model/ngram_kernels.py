"""Scoring with an n-gram model on arrays; beam search compiles these functions into its own loops.

The tables have KenLM's probing layout, seen as 32-bit words. Entry ``i`` of the unigrams is (probability, back-off).
The tables of longer n-grams are hash tables with linear probing; their entries are (key low, key high, probability,
back-off), without the back-off for the highest order. Probabilities are log10; a set sign bit means that no longer
n-gram ends in this one. A back-off of -0.0 means that no longer n-gram begins with this one, which shortens states.
"""

from __future__ import annotations

import numpy as np

from wav2vec2_core.compilation import COMPILED, compiled_in_place
from wav2vec2_core.language_model import kenlm_binary
from wav2vec2_core.language_model.kenlm_binary import LONGEST_WIDTH, MIDDLE_WIDTH, UNIGRAM_WIDTH

#: 64-bit keys: machine integers if compiled, else Python integers, which do not overflow but must be masked.
unsigned = np.uint64 if COMPILED else int
signed = np.int64 if COMPILED else int
KEY_FACTOR = unsigned(kenlm_binary.KEY_FACTOR)
WORD_FACTOR = unsigned(kenlm_binary.WORD_FACTOR)
ONE = unsigned(1)
HIGH = unsigned(32)
LOW_WORD = unsigned(0xFFFFFFFF)
ALL_BITS = unsigned(0xFFFFFFFFFFFFFFFF)
#: -0.0 in float32: no longer n-gram begins with this one.
NO_EXTENSION = 0x80000000


@compiled_in_place
def extend_key(key, word):  # noqa: ANN001, ANN201
    """Key of the n-gram extended by one older word; the key of a single word is its id."""
    return ((key * KEY_FACTOR) & ALL_BITS) ^ (((unsigned(word) + ONE) * WORD_FACTOR) & ALL_BITS)


@compiled_in_place
def find_entry(data, offset, buckets, width, key):  # noqa: ANN001, ANN201
    """Position in ``data`` of the entry with this key, or -1. Visits each bucket once at most."""
    low, high = key & LOW_WORD, key >> HIGH
    bucket = signed(key % unsigned(buckets))
    for _ in range(buckets):
        at = offset + bucket * width
        first, second = data[at], data[at + 1]
        if first == low and second == high:
            return at
        if first == 0 and second == 0:
            return -1
        bucket += 1
        if bucket == buckets:
            bucket = 0
    return -1


@compiled_in_place
def score_ngram(data, offsets, buckets, order, context, length, word, new_context):  # noqa: ANN001, ANN201
    """log10 probability of ``word`` after a state, and the state after it.

    Sums are float32 in KenLM's order: the probability of the longest n-gram found, then back-offs of the contexts that
    were not, shortest to longest.

    Args:
        data: (words,) uint32, the tables. offsets: (order,) int64, where each table starts in ``data``. buckets:
            (order,) int64, entries of each table. order: longest n-gram.
        context: (order - 1,) uint32, ids of the words before, newest first, of which ``length`` count.
        word: id of the word, 0 if unknown.
        new_context: (order - 1,) uint32, receives the state after ``word``; may be ``context`` itself.

    Returns:
        The log10 probability, float32, and the length of the new state.
    """
    floats = data.view(np.float32)
    at = offsets[0] + UNIGRAM_WIDTH * signed(word)
    probability = -abs(floats[at])
    extends_left = data[at] < NO_EXTENSION
    new_length = 1 if order > 1 and data[at + 1] != NO_EXTENSION else 0
    matched = 1
    key = unsigned(word)
    while extends_left and matched <= length and matched < order:
        longest = matched == order - 1
        key = extend_key(key, context[matched - 1])
        at = find_entry(data, offsets[matched], buckets[matched], LONGEST_WIDTH if longest else MIDDLE_WIDTH, key)
        if at < 0:
            break
        probability = -abs(floats[at + 2])
        matched += 1
        if not longest:
            extends_left = data[at + 2] < NO_EXTENSION
            if data[at + 3] != NO_EXTENSION:
                new_length = matched
    if matched <= length:
        probability = _add_backoffs(data, floats, offsets, buckets, context, length, matched, probability)
    for position in range(new_length - 1, 0, -1):
        new_context[position] = context[position - 1]
    if new_length > 0:
        new_context[0] = word
    return probability, new_length


@compiled_in_place
def _add_backoffs(data, floats, offsets, buckets, context, length, matched, probability):  # noqa: ANN001, ANN202
    """Add the back-offs of the contexts of ``matched`` to ``length`` words."""
    if matched == 1:
        probability += floats[offsets[0] + UNIGRAM_WIDTH * signed(context[0]) + 1]
    key = unsigned(context[0])
    for size in range(2, length + 1):
        key = extend_key(key, context[size - 1])
        if size >= matched:
            at = find_entry(data, offsets[size - 1], buckets[size - 1], MIDDLE_WIDTH, key)
            if at < 0:
                break
            probability += floats[at + 3]
    return probability


@compiled_in_place
def score_words(data, offsets, buckets, order, context, length, words, scores):  # noqa: ANN001, ANN201
    """Score a sequence: ``scores`` (words,) float32 receives each word's log10 probability; returns the last length.

    ``context`` (order - 1,) uint32 is the state before, and holds the state after the last word.
    """
    for position in range(len(words)):
        scores[position], length = score_ngram(data, offsets, buckets, order, context, length, words[position], context)
    return length
