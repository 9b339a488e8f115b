"""Integer tries: words as paths of character numbers, in one flat hash table, so that decoding never hashes a string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wav2vec2_core.decoding.compilation import compiled

#: Bits of one half of a key: the numbers of nodes and histories stay below 2 ** 31.
HALF = 31
LOW_HALF = 2**HALF - 1
#: Odd numbers below 2 ** 32 that spread the halves; the products fit into 63 bits, so plain Python and machine code agree.
SPREAD, SPREAD_HIGH = 0x9E3779B1, 0x85EBCA77
#: Words inserted before the tables may have to grow.
BATCH = 1 << 16


@compiled
def hashed(low, high):  # noqa: ANN001, ANN201
    """A hash of two numbers from 0 to 2 ** 31, not negative."""
    mixed = (low * SPREAD) ^ (high * SPREAD_HIGH)
    return mixed ^ (mixed >> 29)


@compiled
def slot_of(keys, key):  # noqa: ANN001, ANN201
    """Where ``key`` stands in a hash table, or the free slot for it. keys: (power of 2,) int64, 0 is free."""
    mask = len(keys) - 1
    slot = hashed(key & LOW_HALF, key >> HALF) & mask
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@compiled
def refill(keys, values, new_keys, new_values):  # noqa: ANN001, ANN201
    """Move all entries of a hash table into a larger, empty one."""
    for old in range(len(keys)):
        if keys[old] != 0:
            slot = slot_of(new_keys, int(keys[old]))
            new_keys[slot] = keys[old]
            new_values[slot] = values[old]


@compiled
def step(keys, values, width, node, character):  # noqa: ANN001, ANN201
    """The child of a node of a trie, or -1. ``width``: 1 + the largest number of a character; node -1 has no children."""
    if node < 0:
        return -1
    slot = slot_of(keys, node * width + character + 1)
    return int(values[slot]) if keys[slot] != 0 else -1


@compiled
def insert_words(keys, values, parents, width, characters, first, ends, count):  # noqa: ANN001, ANN201
    """Insert words into a trie with room for them, and return the number of its nodes.

    Args:
        keys, values: the hash table. parents: (nodes,) int32. count: nodes so far, the root among them.
        characters: of all words. first: (words + 1,) where each word starts. ends: (words,) receives their last nodes.
    """
    for word in range(len(ends)):
        node = 0
        for at in range(first[word], first[word + 1]):
            key = node * width + int(characters[at]) + 1
            slot = slot_of(keys, key)
            if keys[slot] == 0:
                keys[slot] = key
                values[slot] = count
                parents[count] = node
                count += 1
            node = int(values[slot])
        ends[word] = node
    return count


@compiled
def spread_to_prefixes(parents, values):  # noqa: ANN001, ANN201
    """Give every node the least value of itself and its descendants. parents: (nodes,), a parent comes before a child."""
    for node in range(len(parents) - 1, 0, -1):
        values[parents[node]] = min(values[parents[node]], values[node])


class Table(NamedTuple):
    """Hash table of a trie: node and character -> node. keys: int64, values: int32."""

    keys: np.ndarray
    values: np.ndarray


def empty_table(capacity: int) -> Table:
    """A table for at least ``capacity`` entries that stays half empty."""
    slots = 1 << max(4, (2 * capacity - 1).bit_length())
    return Table(np.zeros(slots, np.int64), np.zeros(slots, np.int32))


class Trie:
    """A trie over an alphabet of characters.

    alphabet: sorted code points; a character's number is its place. width: more than the numbers of characters.
    """

    def __init__(self, alphabet: np.ndarray, width: int) -> None:
        self.alphabet, self.width = alphabet, width
        self.table = empty_table(16)
        self._parents = np.zeros(32, np.int32)
        self.count = 1

    @property
    def parents(self) -> np.ndarray:
        """(nodes,) int32; the root, node 0, is its own."""
        return self._parents[: self.count]

    def insert(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Insert words as far as their characters are in the alphabet.

        Returns:
            (words,) int32, the node where each word ends, or where the first character outside of the alphabet comes;
            (words,) bool, whether it is the end.
        """
        ends = np.empty(len(words), np.int32)
        whole = np.empty(len(words), bool)
        for start in range(0, len(words), BATCH):
            part = slice(start, start + BATCH)
            characters, first, whole[part] = self._spelled(words[part])
            self._reserve(self.count + len(characters))
            self.count = insert_words(
                *self.table, self._parents, self.width, characters, first, ends[part], self.count
            )
        return ends, whole

    def _spelled(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of the characters of all words, cut at the first unknown one; where each starts; which are not cut."""
        points = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), np.uint32)
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        ends = np.cumsum(lengths)
        owners = np.repeat(np.arange(len(words)), lengths)
        numbers = np.minimum(np.searchsorted(self.alphabet, points), len(self.alphabet) - 1)
        known = self.alphabet[numbers] == points if len(self.alphabet) else np.zeros(len(points), bool)
        unknown = np.flatnonzero(~known)
        cut = ends.copy()
        np.minimum.at(cut, owners[unknown], unknown)
        kept = np.arange(len(points)) < cut[owners]
        first = np.zeros(len(words) + 1, np.int64)
        np.cumsum(cut - (ends - lengths), out=first[1:])
        return numbers[kept].astype(np.int32), first, cut == ends

    def _reserve(self, nodes: int) -> None:
        if 2 * nodes > len(self.table.keys):
            larger = empty_table(nodes)
            refill(*self.table, *larger)
            self.table = larger
        if nodes > len(self._parents):
            parents = np.zeros(2 * nodes, np.int32)
            parents[: self.count] = self.parents
            self._parents = parents
