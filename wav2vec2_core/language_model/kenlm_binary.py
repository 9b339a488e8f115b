"""KenLM's probing binaries, version 5: the layout of the file, validated before anything is used."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from wav2vec2_core.errors import CheckpointError

MAGIC = b"mmap lm http://kheafield.com/code format version "
VERSION = 5
#: Start of the file. It reads differently if the file was written on another architecture. The header follows.
SANITY = (MAGIC + b"%d\n" % VERSION).ljust(56, b"\0") + struct.pack("<3f3IQ", 0.0, 1.0, -0.5, 1, 0xFFFFFFFF, 0, 1)
#: order, multiplier of the hash table sizes, kind of model, whether word strings follow, version of the search.
HEADER = struct.Struct("<B3xfi?3xI")
KINDS = (
    "probing",
    "probing with rest costs",
    "trie",
    "quantised trie",
    "trie with compressed pointers",
    "quantised trie with compressed pointers",
)
PROBING, REST_COSTS = 0, 1
#: A higher order means a damaged header; models in use have up to 7.
MAX_ORDER = 16
#: 32-bit words of an entry: (probability, back-off), (key, probability, back-off), (key, probability), (hash, id).
UNIGRAM_WIDTH, MIDDLE_WIDTH, LONGEST_WIDTH, VOCABULARY_WIDTH = 2, 4, 3, 3
#: The key of a word is its id; one more word at the old end: key * KEY_FACTOR xor (id + 1) * WORD_FACTOR, modulo 2**64.
KEY_FACTOR, WORD_FACTOR = 8978948897894561157, 17894857484156487943
#: Bytes needed to recognize the kind of file.
HEAD_SIZE = 256
#: Ids are 32-bit.
MAX_WORDS = 2**32 - 2


@dataclass(frozen=True)
class ProbingLayout:
    """Positions in 32-bit words from the start of the file.

    counts: n-grams of each order; vocabulary: its hash table of (hash low, hash high, id), of ``vocabulary_buckets``;
    offsets, buckets: of the table of each order; end: where the tables end and the word strings start.
    """

    multiplier: float
    counts: tuple[int, ...]
    has_words: bool
    vocabulary: int
    vocabulary_buckets: int
    offsets: tuple[int, ...]
    buckets: tuple[int, ...]
    end: int

    @classmethod
    def of(cls, counts: tuple[int, ...], multiplier: float, has_words: bool) -> ProbingLayout:
        """The layout of tables for these numbers of n-grams per order."""
        order = len(counts)
        position = -(-(len(SANITY) + HEADER.size + 8 * order) // 8) * 2 + 2
        vocabulary, vocabulary_buckets = position, _buckets(counts[0], multiplier)
        position += VOCABULARY_WIDTH * vocabulary_buckets
        offsets, buckets = [], []
        for size, count in enumerate(counts, 1):
            width = UNIGRAM_WIDTH if size == 1 else LONGEST_WIDTH if size == order else MIDDLE_WIDTH
            offsets.append(position)
            buckets.append(count + 1 if size == 1 else _buckets(count, multiplier))
            position += width * buckets[-1]
        return cls(
            multiplier, counts, has_words, vocabulary, vocabulary_buckets, tuple(offsets), tuple(buckets), position
        )

    def header(self) -> bytes:
        """The start of the file, up to the 8 bytes before the vocabulary's hash table."""
        head = SANITY + HEADER.pack(len(self.counts), self.multiplier, PROBING, self.has_words, 0)
        head += struct.pack(f"<{len(self.counts)}Q", *self.counts)
        return head.ljust(4 * self.vocabulary - 8, b"\0")

    def view(self, data: np.ndarray, order: int) -> np.ndarray:
        """The table of one order in the file's words, (buckets, width) uint32; for order 0 the vocabulary's."""
        if order == 0:
            start, buckets, width = self.vocabulary, self.vocabulary_buckets, VOCABULARY_WIDTH
        else:
            start, buckets = self.offsets[order - 1], self.buckets[order - 1]
            width = UNIGRAM_WIDTH if order == 1 else LONGEST_WIDTH if order == len(self.counts) else MIDDLE_WIDTH
        return data[start : start + buckets * width].reshape(buckets, width)


def _buckets(count: int, multiplier: float) -> int:
    return max(count + 1, int(np.float32(multiplier) * np.float32(count)))


def is_kenlm_binary(head: bytes) -> bool:
    """Whether a file that starts so is a KenLM binary of any version and kind."""
    return head.startswith(b"mmap lm ")


@dataclass(frozen=True)
class Header:
    """The header of a file. kind: index into ``KINDS``; size: bytes of the header."""

    kind: int
    multiplier: float
    counts: tuple[int, ...]
    has_words: bool
    size: int

    @classmethod
    def read(cls, head: bytes, size: int, name: str) -> Header:
        """Read the first ``HEAD_SIZE`` bytes of a file of ``size`` bytes.

        Raises:
            CheckpointError: another version or byte order, or a damaged or truncated file.
        """
        if len(head) < len(SANITY) + HEADER.size:
            raise CheckpointError(f"{name} ends within its header: copy or build it again")
        _check_sanity(head, name)
        order, multiplier, kind, has_words, _ = HEADER.unpack_from(head, len(SANITY))
        if not 1 <= order <= MAX_ORDER or len(head) < len(SANITY) + HEADER.size + 8 * order:
            raise CheckpointError(f"{name} names the order {order}, 1 to {MAX_ORDER} are possible: the file is damaged")
        if not 0 <= kind < len(KINDS):
            raise CheckpointError(f"{name} names the unknown kind {kind} of model: the file is damaged or too new")
        if not 1 <= multiplier < 1e6:
            raise CheckpointError(f"{name} names the multiplier {multiplier}, below 1 or absurd: the file is damaged")
        counts = struct.unpack_from(f"<{order}Q", head, len(SANITY) + HEADER.size)
        if max(counts) > size or counts[0] > MAX_WORDS:
            raise CheckpointError(f"{name} of {size} bytes names {max(counts)} n-grams of one order: it is damaged")
        return cls(kind, multiplier, counts, bool(has_words), -(-(len(SANITY) + HEADER.size + 8 * order) // 8) * 8)


def read_layout(header: Header, size: int, name: str) -> ProbingLayout:
    """The layout of a probing binary of ``size`` bytes. Raises ``CheckpointError`` if it is truncated."""
    layout = ProbingLayout.of(header.counts, header.multiplier, header.has_words)
    if layout.end * 4 > size:
        raise CheckpointError(
            f"{name} has {size} bytes, its header needs {layout.end * 4}: it is truncated, copy or build it again"
        )
    return layout


def _check_sanity(head: bytes, name: str) -> None:
    if head.startswith(SANITY):
        return
    if not head.startswith(MAGIC):
        if head.startswith(b"mmap lm http://kheafield.com/code incomplete"):
            raise CheckpointError(f"{name} was not finished by the program that wrote it: build it again")
        raise CheckpointError(f"{name} is no KenLM binary: it starts with {head[:20]!r:.100}")
    version = head[len(MAGIC) : 56].split(b"\n")[0].decode("ascii", "replace")
    if version != str(VERSION):
        raise CheckpointError(
            f"{name} has version {version!r} of KenLM's format, {VERSION} is read: build it again from the ARPA file"
        )
    swapped = head[80:88] == struct.pack(">Q", 1)
    raise CheckpointError(
        f"{name} was written on a machine of {'the other byte order' if swapped else 'another kind'}, "
        "or is damaged: build it again from the ARPA file"
    )
