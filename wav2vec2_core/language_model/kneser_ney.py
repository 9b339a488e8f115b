"""Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998, section 4.1 and equation 26), to an ARPA file.

The probability of a word after a context is what the discounted counts say, and what the discounts leave times the
probability after the context without its oldest word:

    p(w | h) = (c(hw) - D[c(hw)]) / c(h.) + gamma(h) p(w | h')        gamma(h) = (D1 N1 + D2 N2 + D3 N3) / c(h.)

c: adjusted counts (``counting``); N1, N2, N3: words with the count 1, 2, more in the context; the last term for single
words is gamma times the uniform distribution. The counts of pruned n-grams go to gamma. Arithmetic is float32, like
that of the programs that read the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from wav2vec2_core.errors import InputError
from wav2vec2_core.language_model.corpus import BEGIN_ID, END_ID, UNKNOWN_ID, Corpus
from wav2vec2_core.language_model.counting import Store, Table, count, group_starts, partition_of, spread
from wav2vec2_core.language_model.probing import ngram_keys

#: Sums over the words after a context: counts, counts of pruned n-grams, kept words with count 1, 2 and more.
SUMS = np.dtype([("key", "<u8"), ("sums", "<i8", (5,))])
#: Returned to a partition: sum of the counts after a context, and the back-off weight gamma.
ANSWER = np.dtype([("key", "<u8"), ("total", "<f4"), ("gamma", "<f4")])
LINES = 100_000


@dataclass(frozen=True)
class Smoothing:
    """thresholds: per order, n-grams that occur at most this often are pruned; discounts: per order, D1, D2, D3,
    float32.
    """

    thresholds: tuple[int, ...]
    discounts: np.ndarray


def discounts_of(numbers: np.ndarray, order: int, fallback: tuple[float, float, float] | None) -> np.ndarray:
    """(4,) float32: discounts of the counts 0, 1, 2, and 3 or more.

    numbers: how many n-grams have the counts 1 to 4. fallback: discounts to use if the formula has no valid result.

    Raises:
        InputError: the formula has no valid result, as for little, repeated or artificial text, and there is no
            fallback.
    """
    found, problem = np.zeros(4, np.float32), ""
    if (numbers[:3] == 0).any():
        problem = f"no {order}-gram has the adjusted count {int((numbers[:3] == 0).argmax()) + 1}"
    else:
        n = numbers.astype(np.float32)
        y = n[0] / (n[0] + 2 * n[1])
        for size in (1, 2, 3):
            found[size] = np.float32(size) - np.float32(size + 1) * y * n[size] / n[size - 1]
            if not 0 <= found[size] <= size:
                problem = f"the discount of {order}-grams with the adjusted count {size} would be {found[size]:.4g}"
    if not problem:
        return found
    if fallback is None:
        raise InputError(
            f"{problem}: the text is too small, repeats itself or is artificial. "
            "Remove repeated lines and add text, or set discounts for such orders with discount_fallback "
            "(--discount-fallback 0.5 1 1.5)"
        )
    return np.array([0, *fallback], np.float32)


class Estimator:
    """Estimates a model from a corpus of ids: call ``tables``, then ``write``."""

    def __init__(self, corpus: Corpus, order: int, store: Store, partitions: int, allowed: np.ndarray | None) -> None:
        """allowed: (words,) bool, the vocabulary of the model; None for all words of the corpus."""
        self._corpus, self._order, self._store, self._partitions = corpus, order, store, partitions
        self._allowed = allowed
        self._words = len(corpus.words)

    def tables(
        self,
        thresholds: tuple[int, ...],
        fallback: tuple[float, float, float] | None,
        progress: Callable[[str, float], None],
    ) -> Smoothing:
        """Count n-grams and compute the discounts. Raises ``InputError`` as ``discounts_of`` does."""
        partitions, order = self._partitions, self._order
        spread(self._corpus, order, self._store, partitions, lambda part: progress("counting", part))
        statistics = np.zeros((order, 5), np.int64)
        self._counts = np.zeros(self._words, np.int64)
        for partition in range(partitions):
            statistics += count(self._store, order, partition, thresholds, self._allowed)
            if order > 1:
                self._counts += np.bincount(self._store.get(f"table-2-{partition}", "endings"), minlength=self._words)
            progress("sorting", (partition + 1) / partitions)
        if order == 1:
            self._counts = _count_words(self._corpus)
        self._kept = np.ones(self._words, bool) if self._allowed is None else self._allowed
        statistics[0] = np.bincount(np.minimum(self._counts[END_ID:], 5), minlength=6)[:5]
        statistics[0, 0] = self._kept.sum()
        self.sizes = [int(size) for size in statistics[:, 0]]
        discounts = np.stack([discounts_of(statistics[size - 1, 1:], size, fallback) for size in range(1, order + 1)])
        return Smoothing(thresholds, discounts)

    def write(self, smoothing: Smoothing, file: BinaryIO, progress: Callable[[str, float], None]) -> None:
        """Write the ARPA file."""
        self._ask(progress)
        self._answer(smoothing.discounts)
        words = np.array(self._corpus.words, object)
        file.write(b"\\data\\\n")
        for size, number in enumerate(self.sizes, 1):
            file.write(b"ngram %d=%d\n" % (size, number))
        self._write_words(smoothing.discounts, words, file)
        for size in range(2, self._order + 1):
            file.write(b"\n\\%d-grams:\n" % size)
            for partition in range(self._partitions):
                table = self._store.table(size, partition)
                probabilities = self._probabilities(table, partition, smoothing.discounts[size - 1])
                self._store.put(f"probabilities-{size}-{partition}", values=probabilities)
                backoffs = None
                if size < self._order:
                    backoffs = self._store.get(f"backoffs-{size}-{partition}", "values")[table.kept]
                _write_lines(file, words, table.ids[table.kept], probabilities[table.kept], backoffs)
                progress("writing", (size - 2 + (partition + 1) / self._partitions) / (self._order - 1))
        file.write(b"\n\\end\\\n")

    def _ask(self, progress: Callable[[str, float], None]) -> None:
        """Send the sums over each context's words to the context's partition; those of single words stay in memory."""
        self._word_sums = np.zeros((self._words, 5), np.int64)
        for partition in range(self._partitions):
            for size in range(2, self._order + 1):
                table = self._store.table(size, partition)
                if size == 2:
                    self._word_sums += _sums_by_word(table, self._words)
                    continue
                keys = ngram_keys(table.ids[:, :-1])
                order = np.argsort(keys)
                starts = group_starts(keys[order])
                sums = np.empty(len(starts), SUMS)
                sums["key"] = keys[order[starts]]
                if len(starts):
                    sums["sums"] = np.add.reduceat(_summands(table)[order], starts)
                first = table.ids[order[starts]]
                homes = partition_of(first[:, -3], first[:, -2], self._partitions)
                for home in np.unique(homes):
                    self._store.append(f"sums-{size}-{home}-{partition}", sums[homes == home])
            progress("smoothing", (partition + 1) / self._partitions)

    def _answer(self, discounts: np.ndarray) -> None:
        """Return totals and gammas to the partitions that asked, and keep the gammas as back-offs."""
        for home in range(self._partitions):
            for size in range(3, self._order + 1):
                asked = [self._store.take(f"sums-{size}-{home}-{asker}", SUMS) for asker in range(self._partitions)]
                both = np.concatenate(asked)
                order = np.argsort(both["key"])
                starts = group_starts(both["key"][order])
                answer = np.empty(len(starts), ANSWER)
                answer["key"] = both["key"][order[starts]]
                sums = np.add.reduceat(both["sums"][order], starts) if len(starts) else np.empty((0, 5), np.int64)
                answer["total"], answer["gamma"] = sums[:, 0], _gammas(sums, discounts[size - 1])
                for asker, rows in enumerate(asked):
                    self._store.append(f"answers-{size}-{asker}", answer[np.searchsorted(answer["key"], rows["key"])])
                self._store.put(f"backoffs-{size - 1}-{home}", values=self._backoffs(size - 1, home, answer))

    def _backoffs(self, size: int, partition: int, answer: np.ndarray) -> np.ndarray:
        """The gamma of each n-gram of a table as a context; 1 if no word follows it."""
        keys = ngram_keys(self._store.get(f"table-{size}-{partition}", "ids"))
        place = np.minimum(np.searchsorted(answer["key"], keys), max(len(answer) - 1, 0))
        if len(answer) == 0:
            return np.ones(len(keys), np.float32)
        return np.where(answer["key"][place] == keys, answer["gamma"][place], np.float32(1))

    def _write_words(self, discounts: np.ndarray, words: np.ndarray, file: BinaryIO) -> None:
        counts, kept = self._counts, self._kept
        pruned = int(counts[~kept].sum())
        small = np.minimum(counts, 3)[kept]
        sums = np.array([[counts.sum(), pruned, *((small == size).sum() for size in (1, 2, 3))]])
        gamma = _gammas(sums, discounts[0])[0]
        uniform = np.float32(1) / np.float32(kept.sum() - 1)  # <unk> is among the words, <s> is not
        values = _discounted(counts, discounts[0]) / np.float32(counts.sum()) + gamma * uniform
        values[UNKNOWN_ID], values[BEGIN_ID] = gamma * uniform, 1
        self._store.put("probabilities-1", values=values)
        backoffs = None
        if self._order > 1:
            backoffs = _gammas(self._word_sums, discounts[1])
            backoffs[self._word_sums[:, 0] == 0] = 1
            self._word_totals, self._word_gammas = self._word_sums[:, 0].astype(np.float32), backoffs
            backoffs = backoffs[kept]
        file.write(b"\n\\1-grams:\n")
        _write_lines(file, words, np.flatnonzero(kept)[:, None], values[kept], backoffs)

    def _probabilities(self, table: Table, partition: int, discounts: np.ndarray) -> np.ndarray:
        """(ngrams,) float32."""
        size = table.ids.shape[1]
        if size == 2:
            context = table.ids[:, 0]
            totals, gammas = self._word_totals[context], self._word_gammas[context]
            shorter = self._store.get("probabilities-1", "values")
        else:
            answers = self._store.take(f"answers-{size}-{partition}", ANSWER)
            answers = answers[np.argsort(answers["key"])]
            place = np.searchsorted(answers["key"], ngram_keys(table.ids[:, :-1]))
            totals, gammas = answers["total"][place], answers["gamma"][place]
            shorter = self._store.get(f"probabilities-{size - 1}-{partition}", "values")
        return _discounted(table.counts, discounts) / totals + gammas * shorter[table.endings]


def _count_words(corpus: Corpus) -> np.ndarray:
    counts = np.zeros(len(corpus.words), np.int64)
    with corpus.path.open("rb") as file:
        while len(ids := np.fromfile(file, np.uint32, LINES * 100)):
            counts += np.bincount(ids, minlength=len(counts))
    return counts


def _discounted(counts: np.ndarray, discounts: np.ndarray) -> np.ndarray:
    return counts.astype(np.float32) - discounts[np.minimum(counts, 3)]


def _summands(table: Table) -> np.ndarray:
    """(ngrams, 5) int64, what ``SUMS`` sums."""
    small = np.minimum(table.counts, 3) * table.kept
    columns = [table.counts, table.counts * ~table.kept, small == 1, small == 2, small == 3]
    return np.stack(columns, 1).astype(np.int64)


def _sums_by_word(table: Table, words: int) -> np.ndarray:
    """(words, 5) int64: the sums for contexts of one word."""
    context, columns = table.ids[:, 0], _summands(table).T
    return np.stack([np.bincount(context, column, words).astype(np.int64) for column in columns], 1)


def _gammas(sums: np.ndarray, discounts: np.ndarray) -> np.ndarray:
    """(contexts, 5) sums -> (contexts,) float32: the probability mass freed by discounts and pruning."""
    numbers = sums[:, 2:].astype(np.float32)
    left = discounts[1] * numbers[:, 0] + discounts[2] * numbers[:, 1] + discounts[3] * numbers[:, 2]
    return (left + sums[:, 1].astype(np.float32)) / np.maximum(sums[:, 0], 1).astype(np.float32)


def _write_lines(
    file: BinaryIO, words: np.ndarray, ids: np.ndarray, probabilities: np.ndarray, backoffs: np.ndarray | None
) -> None:
    """words: all words, as bytes; ids: (ngrams, order). Values are written with 7 digits, the precision of float32."""
    pattern = b"%.7g\t" + b" ".join([b"%s"] * ids.shape[1]) + (b"\n" if backoffs is None else b"\t%.7g\n")
    for start in range(0, len(ids), LINES):
        part = slice(start, start + LINES)
        columns: list[list[object]] = [np.minimum(np.log10(probabilities[part]), 0).tolist()]
        columns += [words[column].tolist() for column in ids[part].T]
        if backoffs is not None:
            columns.append((np.log10(backoffs[part]) + 0.0).tolist())
        file.write(b"".join([pattern % values for values in zip(*columns, strict=True)]))
