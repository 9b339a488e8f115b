"""Integer tries: words as paths of character numbers in a flat hash table, so that decoding never hashes strings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wav2vec2_core.compilation import compiled_in_place

#: Bits of half a key: numbers of nodes and histories stay below 2 ** 31.
HALF = 31
LOW_HALF = 2**HALF - 1
#: Odd hash multipliers below 2 ** 32: products fit into 63 bits, so plain Python and compiled code agree.
SPREAD, SPREAD_HIGH = 0x9E3779B1, 0x85EBCA77
#: Words inserted at a time, before the tables are enlarged.
BATCH = 1 << 16


@compiled_in_place
def hashed(low: int, high: int) -> int:
    """A non-negative hash of two numbers from 0 to 2 ** 31."""
    mixed = (low * SPREAD) ^ (high * SPREAD_HIGH)
    return mixed ^ (mixed >> 29)


@compiled_in_place
def slot_of(table: np.ndarray, key: int) -> int:
    """The slot of ``key`` in a hash table, or the free slot where it belongs."""
    mask = len(table) - 1
    slot = hashed(key & LOW_HALF, key >> HALF) & mask
    while table[slot, 0] != 0 and table[slot, 0] != key:
        slot = (slot + 1) & mask
    return slot


@compiled_in_place
def refill(table: np.ndarray, larger: np.ndarray) -> None:
    """Copy all entries of a hash table into a larger, empty one."""
    for old in range(len(table)):
        if table[old, 0] != 0:
            slot = slot_of(larger, int(table[old, 0]))
            larger[slot, 0] = table[old, 0]
            larger[slot, 1] = table[old, 1]


@compiled_in_place
def step(table: np.ndarray, width: int, node: int, character: int) -> int:
    """The child of a node of a trie, or -1; node -1 has no children."""
    if node < 0:
        return -1
    slot = slot_of(table, node * width + character + 1)
    return int(table[slot, 1]) if table[slot, 0] != 0 else -1


@compiled_in_place
def insert_words(
    table: np.ndarray,
    parents: np.ndarray,
    width: int,
    characters: np.ndarray,
    first: np.ndarray,
    ends: np.ndarray,
    count: int,
) -> int:
    """Insert words into a trie with enough room; returns its new number of nodes.

    Args:
        table: hash table of the trie.
        parents: (nodes,) int32.
        width: that of the trie.
        count: number of nodes so far, with the root.
        characters: character numbers of all words.
        first: (words + 1,) start of each word.
        ends: (words,) receives the last node of each word.
    """
    for word in range(len(ends)):
        node = 0
        for at in range(first[word], first[word + 1]):
            key = node * width + int(characters[at]) + 1
            slot = slot_of(table, key)
            if table[slot, 0] == 0:
                table[slot, 0] = key
                table[slot, 1] = count
                parents[count] = node
                count += 1
            node = int(table[slot, 1])
        ends[word] = node
    return count


@compiled_in_place
def spread_to_prefixes(parents: np.ndarray, values: np.ndarray) -> None:
    """Set each node to the minimum over itself and its descendants; parents come before their children."""
    for node in range(len(parents) - 1, 0, -1):
        values[parents[node]] = min(values[parents[node]], values[node])


def empty_table(capacity: int) -> np.ndarray:
    """A hash table at most half full with ``capacity`` entries: (slots, 2) int64, key (0 if free) and value."""
    return np.zeros((1 << max(4, (2 * capacity - 1).bit_length()), 2), np.int64)


class Trie:
    """A trie over an alphabet of characters.

    alphabet: sorted code points; a character's number is its index.
    width: larger than every character number; the table maps ``node * width + number + 1`` to the child.
    """

    def __init__(self, alphabet: np.ndarray, width: int) -> None:
        self.alphabet, self.width = alphabet, width
        self.table = empty_table(16)
        self._parents = np.zeros(32, np.int32)
        self.count = 1

    @property
    def parents(self) -> np.ndarray:
        """(nodes,) int32; the root, node 0, is its own parent."""
        return self._parents[: self.count]

    def insert(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Insert words, each up to its first character outside the alphabet.

        Returns:
            (words,) int32, the node where each word was left; (words,) bool, whether the whole word was inserted.
        """
        ends = np.empty(len(words), np.int32)
        whole = np.empty(len(words), bool)
        for start in range(0, len(words), BATCH):
            part = slice(start, start + BATCH)
            characters, first, whole[part] = self._spelled(words[part])
            self._reserve(self.count + len(characters))
            self.count = insert_words(self.table, self._parents, self.width, characters, first, ends[part], self.count)
        return ends, whole

    def _spelled(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Characters of all words, each cut at its first unknown character; start of each word; which words are not
        cut.
        """
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
        if 2 * nodes > len(self.table):
            larger = empty_table(nodes)
            refill(self.table, larger)
            self.table = larger
        if nodes > len(self._parents):
            parents = np.zeros(2 * nodes, np.int32)
            parents[: self.count] = self.parents
            self._parents = parents
