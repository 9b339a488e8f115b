"""N-gram language models for decoding: one memory-mapped table layout for all file formats."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wav2vec2_core.errors import CheckpointError, InputError, Wav2Vec2Error
from wav2vec2_core.language_model.cache import cached_tables, checked_once
from wav2vec2_core.language_model.kenlm_binary import (
    HEAD_SIZE,
    KINDS,
    PROBING,
    REST_COSTS,
    Header,
    ProbingLayout,
    is_kenlm_binary,
    read_layout,
)
from wav2vec2_core.language_model.probing import find_many, hash_words

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
_ROWS = 1 << 20  # of a table looked at together


class NgramModel:
    """A language model whose tables ``ngram_kernels.score_ngram`` reads in place. Use ``open``; pickled as its path.

    order: length of the longest n-grams. data: (words,) uint32, read-only, the file. offsets, buckets: (order,) int64,
    start and number of entries of each order's table in ``data``. begin, end: ids of ``<s>`` and ``</s>``, 0 if the
    model does not have them.
    """

    def __init__(self, path: Path, data: np.ndarray, tail: bytes, layout: ProbingLayout) -> None:
        """Take checked tables; ``tail``: bytes of the file after the last whole word of ``data``.
        Called by ``open``.
        """
        self.path, self.data, self.layout = path, data, layout
        self.order = len(layout.counts)
        self.offsets = np.array(layout.offsets, np.int64)
        self.buckets = np.array(layout.buckets, np.int64)
        self._tail = tail
        self._vocabulary = layout.view(data, 0)
        if int(self._vocabulary[:, 2].max()) >= layout.buckets[0]:
            raise CheckpointError(f"{path} has words without a unigram: it is damaged, copy or build it again")
        self.begin, self.end = (int(number) for number in self.word_ids([BEGIN, END]))

    @classmethod
    def open(cls, path: str | os.PathLike[str], progress: Callable[[float], None] = lambda part: None) -> NgramModel:
        """Open an ARPA file (plain or .gz) or a KenLM binary.

        A probing binary is mapped directly. ARPA files and tries are converted once, and the tables are kept in the
        user's cache folder; if that is not writable, they are converted each time.

        progress: called with the completed part, 0 to 1, during conversion.

        Raises:
            CheckpointError: the file is missing, damaged or in an unsupported format; the message says what to do.
            OutputError: there is no space for the tables.
        """
        path = Path(path).absolute()
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_SIZE)
            if is_kenlm_binary(head):
                return cls._open_binary(path, Header.read(head, path.stat().st_size, str(path)), progress)
            return cls._made(path, lambda target: _write_from_arpa(path, target, progress))
        except OSError as error:
            if isinstance(error, Wav2Vec2Error):
                raise
            raise CheckpointError(f"cannot read {path} ({error.strerror or error}): check the path") from error

    @classmethod
    def _open_binary(cls, path: Path, header: Header, progress: Callable[[float], None]) -> NgramModel:
        if header.kind == PROBING:
            model = cls._map(path, path.open("rb"))
            checked_once(path, model.check_values)
            return model
        if header.kind == REST_COSTS:
            raise CheckpointError(
                f"{path} is a KenLM binary of the kind {KINDS[REST_COSTS]!r:.100}, which is not read: "
                "build it again as 'probing' or 'trie', or use its ARPA file"
            )
        return cls._made(path, lambda target: _write_from_trie(path, header, target, progress))

    @classmethod
    def _made(cls, path: Path, write: Callable[[Path], None]) -> NgramModel:
        """Map the tables of ``path`` from the cache, or convert them into a temporary file if there is no cache."""
        made = cached_tables(path, write)
        if made is not None:
            return cls._map(path, made.open("rb"))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            tables = Path(folder) / "tables.bin"
            tables.touch()
            write(tables)
            return cls._map(path, tables.open("rb"))

    @classmethod
    def _map(cls, path: Path, file: BinaryIO) -> NgramModel:
        """The model in an open file, which is closed; ``path`` is used in messages and pickles."""
        with file:
            size = os.fstat(file.fileno()).st_size
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = np.frombuffer(mapped, "<u4", size // 4)
        header = Header.read(mapped[:HEAD_SIZE], size, str(path))
        return cls(path, data, mapped[size // 4 * 4 :], read_layout(header, size, str(path)))

    def check_values(self) -> None:
        """Look at every n-gram. Raises ``CheckpointError`` for one whose probability or back-off is no number."""
        for order in range(1, self.order + 1):
            table = self.layout.view(self.data, order)
            first = 0 if order == 1 else 2  # the column of the probability; a key, which is 0 where the row is empty
            for start in range(0, len(table), _ROWS):
                rows = table[start : start + _ROWS]
                if first:
                    rows = rows[rows[:, :first].any(1)]
                values = rows[:, first:].copy().view(np.float32)
                if np.isnan(values[:, 0]).any() or not np.isfinite(values[:, 1:]).all():
                    raise CheckpointError(
                        f"{self.path} has {order}-grams whose values are no numbers: copy or build it again"
                    )

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return type(self).open, (str(self.path),)

    def word_ids(self, words: Sequence[str]) -> np.ndarray:
        """(words,) uint32; 0 for unknown words."""
        keys = hash_words([word.encode("utf-8", "surrogatepass") for word in words])
        rows = find_many(self._vocabulary, keys)
        return np.where(rows < 0, 0, self._vocabulary[rows, 2]).astype(np.uint32)

    def word_id(self, word: str) -> int:
        """Id of one word; 0 if it is unknown."""
        return int(self.word_ids([word])[0])

    @cached_property
    def unigrams(self) -> list[str] | None:
        """The words in id order, with ``<unk>``, ``<s>`` and ``</s>``; None if the file does not list them."""
        if not self.layout.has_words:
            return None
        text = self.data[self.layout.end :].tobytes() + self._tail
        try:
            words = text.decode("utf-8").split("\0")[:-1]
        except UnicodeDecodeError as error:
            raise CheckpointError(
                f"{self.path} has words that are not UTF-8 ({error.reason}): build it again"
            ) from error
        if words[:1] != [UNKNOWN] or len(words) != int(self.data[self.layout.vocabulary - 1]):
            raise CheckpointError(f"the word strings of {self.path} are damaged or truncated: copy or build it again")
        return words

    def start(self, begin: bool = True) -> tuple[np.ndarray, int]:
        """A start state, empty or with ``<s>``: (order - 1,) uint32 and the number of entries in use."""
        context = np.zeros(self.order - 1, np.uint32)
        if not begin or self.order == 1:
            return context, 0
        context[0] = self.begin
        return context, 1

    def word_scores(self, words: Sequence[str], bos: bool = True, eos: bool = True) -> np.ndarray:
        """log10 probability, float32, of each word given the ones before it, and of ``</s>`` if ``eos``."""
        if isinstance(words, str):
            raise InputError(f"words is the string {words!r:.100}, a list of words is needed: split it")
        ids = self.word_ids([*words, END] if eos else words)
        return self.id_scores(ids, [len(ids)], bos)

    def id_scores(self, ids: np.ndarray, ends: Sequence[int], bos: bool = True) -> np.ndarray:
        """log10 probabilities of the words of sentences, float32.

        ids: (words,) uint32. ends: index after each sentence's last word, ascending.
        """
        from wav2vec2_core.language_model.ngram_kernels import score_words

        scores = np.empty(len(ids), np.float32)
        start = 0
        for end in ends:
            context, length = self.start(bos)
            tables = (self.data, self.offsets, self.buckets, self.order)
            score_words(*tables, context, length, ids[start:end], scores[start:end])
            start = end
        return scores

    def score(self, words: Sequence[str], bos: bool = True, eos: bool = True) -> float:
        """log10 probability of a sentence, by default with ``<s>`` before it and ``</s>`` as its last word."""
        return float(self.word_scores(words, bos, eos).sum(dtype=np.float64))

    def perplexity(self, words: Sequence[str]) -> float:
        """10 to the power of the mean negative log10 probability of the words and ``</s>``."""
        return 10.0 ** (-self.score(words) / (len(words) + 1))


# The readers are imported where tables are made; they are not needed with a warm cache.


def _write_from_arpa(path: Path, target: Path, progress: Callable[[float], None]) -> None:
    from wav2vec2_core.language_model.tables import write_binary

    write_binary(path, target, progress)


def _write_from_trie(path: Path, header: Header, target: Path, progress: Callable[[float], None]) -> None:
    from wav2vec2_core.language_model.kenlm_trie import write_from_trie

    write_from_trie(path, header, target, progress)
