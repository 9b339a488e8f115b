"""Converting KenLM's trie binaries (plain, quantised, with compressed pointers) to probing tables.

An n-gram is a path from its newest word to its oldest. Each level of the trie is an array of bit-packed entries (word,
values, start of the children in the next level), sorted so that siblings are adjacent. Words are numbered in the order
of their hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.language_model.arpa import NgramBlock
from wav2vec2_core.language_model.kenlm_binary import Header, ProbingLayout
from wav2vec2_core.language_model.tables import MULTIPLIERS, Tables, reserved

TRIE, QUANTISED, COMPRESSED = 2, 1, 2  # a kind is TRIE, plus 1 and 2 if these apply
PROBABILITY_BITS, BACKOFF_BITS = 31, 32  # of entries that are not quantised: a float without its sign, a float
#: Format versions of the quantisation and the pointer compression.
QUANTISATION_VERSION, COMPRESSION_VERSION = 2, 0
BLOCK = 200_000
UNIGRAM = np.dtype([("probability", "<f4"), ("backoff", "<f4"), ("next", "<u8")])


@dataclass(frozen=True)
class _Level:
    """The entries of one order. base: first byte; inline: bits of a pointer stored in the entry; see ``_offsets``,
    ``_bins``.
    """

    base: int
    entries: int
    word_bits: int
    value_bits: tuple[int, int]
    inline: int
    offsets: np.ndarray | None
    bins: tuple[np.ndarray, np.ndarray] | None

    @property
    def bits(self) -> int:
        return self.word_bits + sum(self.value_bits) + self.inline


class TrieReader:
    """Reads a trie binary by increasing order.

    Every method raises ``CheckpointError`` if the file is truncated or damaged.
    """

    def __init__(self, content: np.ndarray, header: Header, name: str) -> None:
        """content: (bytes,) uint8, the file. header: its header, of a trie kind."""
        self._name, self.header = name, header
        self._content = content
        self._eights = np.ndarray((max(len(content) - 7, 0),), "<u8", content, 0, (1,))
        kind = header.kind - TRIE
        self._quantised, self._compressed = bool(kind & QUANTISED), bool(kind & COMPRESSED)
        counts = header.counts
        self._place = header.size
        self.words = int(self._take("<u8", 1)[0]) + 1
        if self.words > counts[0]:
            raise self._damaged(f"{self.words} words are more than {counts[0]} 1-grams")
        self.hashes = self._take("<u8", counts[0])[: self.words - 1]
        bins = self._bins()
        self.unigrams = self._take(UNIGRAM, counts[0] + 2)
        self._levels = [self._level(order, bins) for order in range(2, len(counts) + 1)]
        self.end = self._place

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self._name} is damaged or truncated ({what}): copy or build it again")

    def _take(self, dtype: str | np.dtype, count: int) -> np.ndarray:
        size = np.dtype(dtype).itemsize * count
        self._skip(size)
        return self._content[self._place - size : self._place].view(dtype)

    def _skip(self, size: int) -> None:
        self._place += size
        if self._place > len(self._content):
            raise self._damaged(f"{self._place} bytes at least are needed, there are {len(self._content)}")

    def _bins(self) -> list[tuple[np.ndarray, np.ndarray]] | None:
        """The quantisation tables of probabilities and back-offs for each order from 2 on."""
        if not self._quantised:
            return None
        version, *bits = (int(value) for value in self._take("u1", 8)[:3])
        if version != QUANTISATION_VERSION or not all(1 <= each <= 25 for each in bits):
            raise self._damaged(f"quantisation version {version} with {bits} bits")
        found = []
        for order in range(2, len(self.header.counts) + 1):
            probabilities = self._take("<f4", 1 << bits[0])
            longest = order == len(self.header.counts)
            found.append((probabilities, np.empty(0, np.float32) if longest else self._take("<f4", 1 << bits[1])))
        return found

    def _level(self, order: int, bins: list[tuple[np.ndarray, np.ndarray]] | None) -> _Level:
        counts = self.header.counts
        entries, longest = counts[order - 1], order == len(counts)
        word_bits = counts[0].bit_length()
        values = (PROBABILITY_BITS, 0 if longest else BACKOFF_BITS)
        if bins is not None:
            values = (len(bins[order - 2][0]).bit_length() - 1, max(len(bins[order - 2][1]).bit_length() - 1, 0))
        inline, offsets = 0 if longest else counts[order].bit_length(), None
        if self._compressed and not longest:
            inline, offsets = self._offsets(entries + 1, counts[order])
        base = self._place
        self._skip(-(-(1 + entries) * (word_bits + sum(values) + inline) // 8) + 8)
        return _Level(base, entries, word_bits, values, inline, offsets, None if bins is None else bins[order - 2])

    def _offsets(self, entries: int, children: int) -> tuple[int, np.ndarray]:
        """Number of pointer bits stored in an entry, and for each value of the remaining bits the first entry that has
        it.
        """
        start = self._place
        version, most = (
            (int(value) for value in self._content[start : start + 2]) if start + 2 <= len(self._content) else (9, 0)
        )
        if version != COMPRESSION_VERSION:
            raise self._damaged(f"pointer compression version {version}")
        bits = children.bit_length()
        # The writer moves as many bits out of the entries as minimizes the total size.
        sizes = [(children >> (bits - moved)) * 64 - entries * moved for moved in range(min(bits, most) + 1)]
        moved = sizes.index(min(sizes))
        count = (children >> (bits - moved)) + 1
        self._skip(8 * (1 + count) + 7)
        first = -(-start // 8) * 8 + 8
        return bits - moved, self._content[first : first + 8 * count].view("<u8")

    def ngrams(self, order: int, shorter: np.ndarray) -> Iterator[NgramBlock]:
        """The n-grams of one order, 2 or more.

        shorter: (ngrams, order - 1) uint32, ids of the n-grams of the previous order, as this method returned them.
        """
        level = self._levels[order - 2]
        starts = self._starts(order - 1, level.entries)
        for first in range(0, level.entries, BLOCK):
            rows = np.arange(first, min(first + BLOCK, level.entries))
            at = level.base * 8 + rows * level.bits
            words = self._bits(at, level.word_bits)
            if (words >= self.words).any():
                raise self._damaged(f"a word of a {order}-gram has no number")
            parents = np.searchsorted(starts, rows, side="right") - 1
            ids = np.concatenate([words[:, None].astype(np.uint32), shorter[parents]], 1)
            probabilities, backoffs = self._values(at + level.word_bits, level)
            if not (np.isfinite(backoffs).all() and (probabilities <= 0).all()):
                raise self._damaged(f"a {order}-gram has an impossible value")
            yield NgramBlock(ids, probabilities, backoffs, first)

    def _starts(self, order: int, children: int) -> np.ndarray:
        """Start of the children of each n-gram, and the end of the last one's."""
        if order == 1:
            starts = self.unigrams["next"][: self.words + 1].astype(np.int64)
        else:
            level = self._levels[order - 2]
            rows = np.arange(level.entries + 1)
            at = level.base * 8 + rows * level.bits + level.bits - level.inline
            starts = self._bits(at, level.inline).astype(np.int64)
            if level.offsets is not None:
                starts += (np.searchsorted(level.offsets, rows.astype(np.uint64), side="right") - 1) << level.inline
        if starts[0] != 0 or starts[-1] != children or (np.diff(starts) < 0).any():
            raise self._damaged(f"pointers from {order}-grams are not in order")
        return starts[:-1]

    def _values(self, at: np.ndarray, level: _Level) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities and back-offs, float32; ``at``: their bit positions."""
        first, second = level.value_bits
        if level.bins is None:
            probabilities = (self._bits(at, first).astype(np.uint32) | np.uint32(1 << 31)).view(np.float32)
            backoffs = self._bits(at + first, second).astype(np.uint32).view(np.float32)
            return probabilities, backoffs
        probabilities = level.bins[0][self._bits(at + second, first)]
        return probabilities, level.bins[1][self._bits(at, second)] if second else np.zeros(len(at), np.float32)

    def _bits(self, at: np.ndarray, length: int) -> np.ndarray:
        """Read numbers of ``length`` bits, at most 57, at these bit positions, uint64."""
        eights = self._eights[at >> 3] >> (at & 7).astype(np.uint64)
        return eights & np.uint64((1 << length) - 1)


def write_from_trie(source: Path, header: Header, target: Path, progress: Callable[[float], None]) -> None:
    """Convert the trie binary ``source`` to a probing binary in the existing file ``target``.

    Raises:
        CheckpointError: ``source`` is damaged.
        OSError: the disk is full.
    """
    content = np.memmap(source, np.uint8, "r").view(np.ndarray)
    reader = TrieReader(content, header, str(source))
    layout = ProbingLayout.of(header.counts, MULTIPLIERS[0], header.has_words)

    def fail(row: int, what: str, remedy: str) -> NoReturn:
        raise CheckpointError(f"{source} is damaged ({what}): copy or build it again")

    with target.open("r+b") as file, reserved(file, layout) as data:
        tables = Tables(layout, data)
        unigrams = reader.unigrams[: reader.words]
        tables.add_unigrams(reader.hashes, unigrams["probability"].copy(), unigrams["backoff"].copy(), fail)
        shorter = np.arange(reader.words, dtype=np.uint32)[:, None]
        for order in range(2, len(header.counts) + 1):
            ids = []
            for block in reader.ngrams(order, shorter):
                tables.add(block, fail)
                ids.append(block.ids)
                progress((order - 2 + block.first_line / header.counts[order - 1]) / (len(header.counts) - 1))
            shorter = np.concatenate(ids) if ids else np.empty((0, order), np.uint32)
        data[layout.vocabulary - 1] = reader.words
    if header.has_words:
        with target.open("ab") as file:
            file.write(content[reader.end :].tobytes())
