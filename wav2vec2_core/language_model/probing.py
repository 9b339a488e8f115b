"""Hashes of words and n-grams as KenLM computes them, and hash tables with linear probing; all for many keys at once.

The hash of a word is 64-bit MurmurHash, variant A, seed 0. A row of a table starts with the low and the high half of its
key; both zero means empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wav2vec2_core.language_model.kenlm_binary import KEY_FACTOR, WORD_FACTOR

FACTOR = np.uint64(0xC6A4A7935BD1E995)
SHIFT = np.uint64(47)


def hash_words(words: Sequence[bytes]) -> np.ndarray:
    """Hashes of UTF-8 words, (words,) uint64."""
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    starts = np.cumsum(lengths) - lengths
    letters = np.frombuffer(b"".join(words), np.uint8)
    hashes = np.empty(len(words), np.uint64)
    for length in np.unique(lengths):
        chosen = np.flatnonzero(lengths == length)
        padded = np.zeros((len(chosen), -(-int(length) // 8) * 8), np.uint8)
        padded[:, :length] = letters[starts[chosen][:, None] + np.arange(length)]
        hashes[chosen] = _hash_blocks(padded.view("<u8"), int(length))
    return hashes


def _hash_blocks(blocks: np.ndarray, length: int) -> np.ndarray:
    """(words, blocks) uint64, the letters of words of one length, zero-padded -> (words,) uint64."""
    hashes = np.full(len(blocks), length * int(FACTOR) & 0xFFFFFFFFFFFFFFFF, np.uint64)
    for position in range(blocks.shape[1]):
        block = blocks[:, position]
        if 8 * (position + 1) <= length:
            block = block * FACTOR
            block = (block ^ (block >> SHIFT)) * FACTOR
        hashes = (hashes ^ block) * FACTOR
    hashes = (hashes ^ (hashes >> SHIFT)) * FACTOR
    return hashes ^ (hashes >> SHIFT)


def ngram_keys(ids: np.ndarray) -> np.ndarray:
    """(ngrams, order) uint32, oldest word first -> (ngrams,) uint64."""
    words = ids.astype(np.uint64)
    keys = words[:, -1]
    for position in range(ids.shape[1] - 2, -1, -1):
        keys = (keys * np.uint64(KEY_FACTOR)) ^ ((words[:, position] + np.uint64(1)) * np.uint64(WORD_FACTOR))
    return keys


def find_many(table: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Row of each key, or -1: (buckets, width) uint32, (keys,) uint64 -> (keys,) int64."""
    return _probe(table, keys, insert=False)[0]


def insert_many(table: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each key a row; there must be room for all.

    Returns:
        (keys,) int64 rows, and (keys,) bool: the key has the row of an equal one that came before it.
    """
    rows, known = _probe(table, keys, insert=True)
    numbers = np.arange(len(keys), dtype=np.uint32)
    table[rows, 2] = numbers  # of two equal keys that came at once, one does not find its number again
    return rows, known | (table[rows, 2] != numbers)


def _probe(table: np.ndarray, keys: np.ndarray, insert: bool) -> tuple[np.ndarray, np.ndarray]:
    rows, known = np.full(len(keys), -1, np.int64), np.zeros(len(keys), bool)
    low, high = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32), (keys >> np.uint64(32)).astype(np.uint32)
    pending = np.arange(len(keys))
    bucket = (keys % np.uint64(len(table))).astype(np.int64)
    for _ in range(len(table)):
        first, second = table[bucket, 0], table[bucket, 1]
        empty = (first == 0) & (second == 0)
        found = (first == low[pending]) & (second == high[pending]) & ~empty
        known[pending[found]] = True
        if insert:  # of several keys that want a bucket the last one has it; all look whether it is theirs
            wanted = bucket[empty]
            table[wanted, 0], table[wanted, 1] = low[pending[empty]], high[pending[empty]]
            found[empty] = (table[wanted, 0] == low[pending[empty]]) & (table[wanted, 1] == high[pending[empty]])
        rows[pending[found]] = bucket[found]
        going = ~found if insert else ~(found | empty)
        pending = pending[going]
        if len(pending) == 0:
            break
        bucket = (bucket[going] + 1) % len(table)
    return rows, known
