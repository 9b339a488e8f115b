"""From an ARPA file to the tables that decoding reads: a KenLM probing binary, filled a block of n-grams at a time."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.language_model.arpa import ArpaReader, NgramBlock
from wav2vec2_core.language_model.kenlm_binary import ProbingLayout
from wav2vec2_core.language_model.line_blocks import LineBlocks
from wav2vec2_core.language_model.probing import find_many, hash_words, insert_many, ngram_keys

#: Buckets per n-gram: KenLM's default; more where an ARPA file leaves out the endings of many n-grams.
MULTIPLIERS = (1.5, 3.0, 6.0)
#: Sign bit of a probability: no longer n-gram ends in this one. As a back-off, -0.0: none begins with this one.
SIGN = np.uint32(0x80000000)
NO_SIGN = np.uint32(0x7FFFFFFF)


def write_binary(source: Path, target: Path, progress: Callable[[float], None] = lambda part: None) -> None:
    """Write the n-grams of the ARPA file ``source`` into the existing file ``target`` as a KenLM probing binary.

    progress: is called with the part of ``source`` that was read, 0 to 1.

    Raises:
        CheckpointError: the ARPA file breaks a rule; the message names the line. OSError: the disk is full.
    """
    for multiplier in MULTIPLIERS:
        with LineBlocks(source) as lines, target.open("r+b") as file:
            try:
                _convert(lines, file, multiplier, progress)
            except TableFullError:
                continue
            return
    raise CheckpointError(
        f"{source} lacks the endings of most of its n-grams (with 'a b c' comes 'b c'): estimate the model again"
    )


class TableFullError(Exception):
    """More n-grams than buckets: the counts do not tell of endings that had to be added."""


def _convert(lines: LineBlocks, file: BinaryIO, multiplier: float, progress: Callable[[float], None]) -> None:
    reader = ArpaReader(lines)
    layout = ProbingLayout.of(reader.counts, multiplier, has_words=True)
    file.truncate(0)
    _reserve(file, 4 * layout.end)
    data = np.memmap(file, np.uint32, "r+", shape=(layout.end,))
    tables = Tables(layout, data)
    words, probabilities, backoffs = reader.unigrams()
    tables.add_unigrams(words, probabilities, backoffs, str(lines.path))
    for order in range(2, reader.order + 1):
        for block in reader.ngrams(order):
            tables.add(block, lines)
            progress(lines.progress())
    reader.finish()
    data.flush()
    file.seek(0)
    file.write(layout.header() + struct.pack("<II", 0, len(words) + 1))
    file.seek(4 * layout.end)
    file.write(b"".join(word + b"\0" for word in (b"<unk>", *words)))


def _reserve(file: BinaryIO, size: int) -> None:
    """Give the file its size, on the disk too where the system can: a mapped page without room is a crash."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


class Tables:
    """The tables while they are filled: unigrams first, then each order. ``data``: (words,) uint32, zeros."""

    def __init__(self, layout: ProbingLayout, data: np.ndarray) -> None:
        self._vocabulary = layout.view(data, 0)
        self._tables = [layout.view(data, order) for order in range(1, len(layout.counts) + 1)]
        self._used = [0] * len(self._tables)

    def add_unigrams(self, words: list[bytes], probabilities: np.ndarray, backoffs: np.ndarray, name: str) -> None:
        """Fill vocabulary and unigrams: ``words`` of the ids 1, 2, ..., values of the ids 0, 1, 2, ..."""
        rows, known = insert_many(self._vocabulary, hash_words(words))
        if known.any():
            raise CheckpointError(f"{name}: the hash of {words[int(known.argmax())]!r} is another word's: leave it out")
        self._vocabulary[rows, 2] = np.arange(1, len(words) + 1, dtype=np.uint32)
        unigrams = self._tables[0]
        unigrams[: len(probabilities), 0] = probabilities.view(np.uint32) | SIGN
        unigrams[: len(backoffs), 1] = backoffs.view(np.uint32)

    def add(self, block: NgramBlock, lines: LineBlocks) -> None:
        """Add n-grams of one order; those of the order below are there already."""
        order = block.ids.shape[1]
        table = self._tables[order - 1]
        self._count(order, len(block.ids))
        rows, known = insert_many(table, ngram_keys(block.ids))
        if known.any():
            row = int(known.argmax())
            lines.fail(f"this {order}-gram is listed a second time", "remove one", block.first_line + row)
        table[rows, 2] = block.probabilities.view(np.uint32) | SIGN
        if order < len(self._tables):
            table[rows, 3] = block.backoffs.view(np.uint32)
        self._mark_endings(block.ids)
        contexts = self._find(block.ids[:, :-1])
        if (contexts < 0).any():
            row = int((contexts < 0).argmax())
            lines.fail(
                f"the first words of this {order}-gram are no {order - 1}-gram",
                "estimate the model again",
                block.first_line + row,
            )
        self._mark_contexts(order - 1, contexts)

    def _count(self, order: int, more: int) -> None:
        self._used[order - 1] += more
        if self._used[order - 1] >= len(self._tables[order - 1]):
            raise TableFullError

    def _find(self, ids: np.ndarray) -> np.ndarray:
        """Rows of n-grams in the table of their order, -1 where there is none."""
        if ids.shape[1] == 1:
            return ids[:, 0].astype(np.int64)
        return find_many(self._tables[ids.shape[1] - 1], ngram_keys(ids))

    def _mark_contexts(self, order: int, rows: np.ndarray) -> None:
        """Longer n-grams begin with these: a back-off of -0.0 becomes 0.0."""
        column = self._tables[order - 1][:, -1]
        column[rows[column[rows] == SIGN]] = 0

    def _mark_endings(self, ids: np.ndarray) -> None:
        """Longer n-grams end in all but the first word of these: clear the sign of its probability."""
        order = ids.shape[1] - 1
        rows = self._find(ids[:, 1:])
        if (rows < 0).any():
            self._add_endings(ids[rows < 0])
            rows = self._find(ids[:, 1:])
        self._tables[order - 1][rows, -2] &= NO_SIGN

    def _add_endings(self, ids: np.ndarray) -> None:
        """Pruning left out the endings of these n-grams, which are the way to them: add those with their probability.

        It is that of the next shorter ending and the back-off of the words before.
        """
        rows = ids[:, -1].astype(np.int64)
        for order in range(2, ids.shape[1]):
            ending = ids[:, -order:]
            found = self._find(ending)
            _, first = np.unique(ngram_keys(ending), return_index=True)
            absent = first[found[first] < 0]
            self._count(order, len(absent))
            shorter = self._tables[order - 2]
            probabilities = -np.abs(shorter[rows[absent], -2].view(np.float32))
            contexts = self._find(ending[absent, :-1])
            known = contexts >= 0
            self._mark_contexts(order - 1, contexts[known])
            probabilities[known] += shorter[contexts[known], -1].view(np.float32)
            new, _ = insert_many(self._tables[order - 1], ngram_keys(ending[absent]))
            self._tables[order - 1][new, 2] = probabilities.view(np.uint32) | SIGN
            self._tables[order - 1][new, 3] = SIGN
            shorter[rows[absent], -2] &= NO_SIGN
            rows = self._find(ending)
