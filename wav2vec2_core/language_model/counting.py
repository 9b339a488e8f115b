"""Counting n-grams in bounded memory: they are spread over partitions on disk, each of which fits into memory.

The partition of an n-gram depends on its last two words, so all its suffixes of two or more words are in the same
partition, and Kneser-Ney's counts of suffixes need no other partition. Sums over contexts are exchanged between
partitions through files. n-grams are identified by the same 64-bit keys as in KenLM's tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wav2vec2_core.language_model.corpus import BEGIN_ID, END_ID, Corpus
from wav2vec2_core.language_model.probing import ngram_keys

#: Bytes of working memory per n-gram of a partition. Order 3 took 100 with ten million words; longer rows take more.
BYTES_PER_NGRAM = 160


@dataclass(frozen=True)
class Table:
    """The n-grams of one order in one partition, sorted by key.

    ids: (ngrams, order) uint32, oldest word first.
    counts: (ngrams,) int64, adjusted: the number of distinct words before it; for the highest order and for n-grams
    that begin with ``<s>``, the number of occurrences.
    kept: (ngrams,) bool, not pruned.
    endings: (ngrams,) int64, row of the n-gram without its first word in the partition's next lower table.
    """

    ids: np.ndarray
    counts: np.ndarray
    kept: np.ndarray
    endings: np.ndarray


class Store:
    """Named arrays in a temporary folder, passed from one step to the next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, **arrays: np.ndarray) -> None:
        """Write arrays under a name."""
        for field, array in arrays.items():
            np.save(self._folder / f"{name}.{field}.npy", array)

    def get(self, name: str, field: str) -> np.ndarray:
        """Read an array back."""
        return np.load(self._folder / f"{name}.{field}.npy")

    def append(self, name: str, rows: np.ndarray) -> None:
        """Append rows, of one type and width per name."""
        with (self._folder / name).open("ab") as file:
            rows.tofile(file)

    def take(self, name: str, dtype: np.dtype | type, width: int = 0) -> np.ndarray:
        """Return and delete all appended rows; ``width``: columns, 0 for one-dimensional."""
        path = self._folder / name
        if not path.exists():
            return np.empty((0, width) if width else 0, dtype)
        rows = np.fromfile(path, dtype)
        path.unlink()
        return rows.reshape(-1, width) if width else rows

    def table(self, order: int, partition: int) -> Table:
        """A table that ``count`` made."""
        name = f"table-{order}-{partition}"
        return Table(*(self.get(name, field) for field in ("ids", "counts", "kept", "endings")))


def partition_of(older: np.ndarray, newer: np.ndarray, partitions: int) -> np.ndarray:
    """Partition of n-grams by their last two words."""
    mixed = older.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + newer.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return ((mixed >> np.uint64(33)) % np.uint64(partitions)).astype(np.int64)


def spread(corpus: Corpus, order: int, store: Store, partitions: int, progress: Callable[[float], None]) -> None:
    """Write the corpus's n-grams to their partitions: those of ``order``, and lower ones that begin with ``<s>``."""
    chunk = max(corpus.tokens // partitions, 1)
    done = 0
    for words, position in _chunks(corpus, chunk):
        for size in range(2, order + 1):
            last = np.flatnonzero(position >= size - 1 if size == order else position == size - 1)
            ids = np.stack([words[last - back] for back in range(size - 1, -1, -1)], 1)
            rows = np.column_stack(_merged(ids, np.ones(len(ids), np.int64)))
            for partition, chosen in _split(rows, partitions):
                store.append(f"grams-{size}-{partition}", chosen)
        done += len(words)
        progress(done / (corpus.tokens + corpus.sentences))


def _split(rows: np.ndarray, partitions: int) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of n-grams and their counts by partition."""
    if partitions == 1:
        yield 0, rows
        return
    numbers = partition_of(rows[:, -3], rows[:, -2], partitions)
    order = np.argsort(numbers, kind="stable")
    borders = np.searchsorted(numbers[order], np.arange(partitions + 1))
    for partition in range(partitions):
        if borders[partition] < borders[partition + 1]:
            yield partition, rows[order[borders[partition] : borders[partition + 1]]]


def _chunks(corpus: Corpus, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield about ``size`` ids in whole sentences: ids with ``<s>`` before each sentence, and each id's distance from
    it.
    """
    rest = np.empty(0, np.uint32)
    with corpus.path.open("rb") as file:
        while True:
            read = np.fromfile(file, np.uint32, size)
            ids = np.concatenate([rest, read])
            ends = np.flatnonzero(ids == END_ID) + 1
            cut = int(ends[-1]) if len(ends) else 0
            ids, rest = ids[:cut], ids[cut:]
            if len(ids):
                begins = np.concatenate([[0], ends[:-1]])
                words = np.insert(ids, begins, BEGIN_ID)
                begins = begins + np.arange(len(begins))
                position = np.arange(len(words)) - np.repeat(begins, np.diff(begins, append=len(words)))
                yield words, position
            if len(read) < size:
                return


def _merged(ids: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct n-grams sorted by key, and the sums of their counts, uint32."""
    keys = ngram_keys(ids)
    order = np.argsort(keys)
    starts = group_starts(keys[order])
    if len(starts) == 0:
        return ids, counts.astype(np.uint32)
    return ids[order[starts]], np.add.reduceat(counts[order], starts).astype(np.uint32)


def group_starts(keys: np.ndarray) -> np.ndarray:
    """The start of each group of equal values in sorted keys."""
    return np.flatnonzero(np.concatenate([np.ones(min(len(keys), 1), bool), keys[1:] != keys[:-1]]))


def count(
    store: Store, order: int, partition: int, thresholds: tuple[int, ...], allowed: np.ndarray | None
) -> np.ndarray:
    """Make the tables of a partition from what ``spread`` wrote.

    thresholds: for each order, n-grams that occur at most this often are pruned. allowed: (words,) bool, n-grams with
    other words are pruned too; None allows all.

    Returns:
        (order, 5) int64, from order 2 (row 1) on: the number of n-grams kept (column 0), and the number, including
            pruned ones, with adjusted counts 1 to 4.
    """
    statistics = np.zeros((order, 5), np.int64)
    longer: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for size in range(order, 1, -1):
        ids, counts, actual, rows = _joined(store, size, partition, longer)
        kept = actual > thresholds[size - 1]
        if allowed is not None:
            kept &= allowed[ids].all(1)
        store.put(f"table-{size}-{partition}", ids=ids, counts=counts, kept=kept)
        if longer is not None:
            store.put(f"table-{size + 1}-{partition}", endings=rows)
        statistics[size - 1] = np.bincount(np.minimum(counts, 5), minlength=6)[:5]
        statistics[size - 1, 0] = kept.sum()
        longer = ids, counts, actual
        if size == 2:
            store.put(f"table-2-{partition}", endings=ids[:, 1].astype(np.int64))
    return statistics


def _joined(
    store: Store, size: int, partition: int, longer: tuple[np.ndarray, np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One order of a partition, sorted by key: what ``spread`` wrote, and the suffixes of the next higher order.

    Returns:
        ids, adjusted counts and actual counts; and the row of each higher-order n-gram's suffix.
    """
    rows = store.take(f"grams-{size}-{partition}", np.uint32, size + 1)
    ids, actual = _merged(rows[:, :-1], rows[:, -1].astype(np.int64))
    actual = actual.astype(np.int64)
    if longer is None:
        return ids, actual, actual, np.empty(0, np.int64)
    endings = longer[0][:, 1:]
    keys = ngram_keys(endings)
    by_key = np.argsort(keys)
    starts = group_starts(keys[by_key])
    sizes = np.diff(starts, append=len(keys))
    occurrences = np.add.reduceat(longer[2][by_key], starts) if len(starts) else np.empty(0, np.int64)
    ids = np.concatenate([endings[by_key[starts]], ids])
    counts = np.concatenate([sizes, actual])
    actual = np.concatenate([occurrences, actual])
    place = np.argsort(ngram_keys(ids), kind="stable")
    inverse = np.empty(len(place), np.int64)
    inverse[place] = np.arange(len(place))
    rows = np.empty(len(keys), np.int64)
    rows[by_key] = np.repeat(inverse[: len(starts)], sizes)
    return ids[place], counts[place], actual[place], rows
