"""Estimating a language model from text: ``estimate``."""

from __future__ import annotations

import gzip
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wav2vec2_core.errors import InputError
from wav2vec2_core.files import atomic_path, make_folder, reporting_writes
from wav2vec2_core.language_model.corpus import SYMBOLS, Corpus, read_corpus
from wav2vec2_core.language_model.counting import BYTES_PER_NGRAM, Store
from wav2vec2_core.language_model.kenlm_binary import MAX_ORDER
from wav2vec2_core.language_model.kneser_ney import Estimator
from wav2vec2_core.language_model.line_blocks import LineBlocks
from wav2vec2_core.language_model.tables import write_binary
from wav2vec2_core.temporaries import temporary_folder

#: Suffixes of files that are written as KenLM binaries.
BINARY_SUFFIXES = (".bin", ".binary")
MIN_MEMORY = 16 << 20


@dataclass(frozen=True)
class Estimate:
    """The result. words: vocabulary size without ``</s>``; sizes: n-grams per order; discounts: (order, 4), for counts
    0 to 3.
    """

    words: int
    sentences: int
    sizes: tuple[int, ...]
    discounts: np.ndarray


def estimate(
    texts: Sequence[Path | BinaryIO],
    output: Path,
    *,
    order: int,
    prune: Sequence[int] = (),
    vocabulary: Path | None = None,
    skip_symbols: bool = False,
    discount_fallback: tuple[float, float, float] | None = None,
    memory: int = 2 << 30,
    temporary: Path | None = None,
    progress: Callable[[str, float], None] = lambda step, part: None,
) -> Estimate:
    """Estimate an n-gram model with interpolated modified Kneser-Ney smoothing.

    Args:
        texts: files, plain or .gz, or streams: UTF-8, one sentence per line, words separated by white space.
        output: an ARPA file, gzipped if it ends in .gz; a KenLM binary if it ends in .bin or .binary. Written
            atomically.
        order: length of the longest n-grams.
        prune: for each order, n-grams that occur at most this often are pruned; the last value applies to higher
            orders. The first must be 0, since words are not pruned, and values must not decrease.
        vocabulary: a file of words separated by white space; n-grams with other words are pruned.
        skip_symbols: treat ``<s>``, ``</s>`` and ``<unk>`` in the text as white space instead of refusing them.
        discount_fallback: D1, D2, D3 for orders where the text yields no valid discounts.
        memory: bytes of working memory, besides the vocabulary.
        temporary: folder for about 12 * order bytes per word of text; by default the system's.
        progress: called with the name of the step and the completed part, 0 to 1.

    Raises:
        InputError: an argument is invalid, a symbol occurs as a word, or the text is too small to estimate discounts.
        CheckpointError: a text cannot be read.
        OutputError: the output or the temporary files cannot be written.
    """
    thresholds = _thresholds(order, prune)
    if memory < MIN_MEMORY:
        raise InputError(f"memory is {memory} bytes, {MIN_MEMORY} at least are needed")
    if discount_fallback is not None and not all(0 <= value <= size for size, value in enumerate(discount_fallback, 1)):
        raise InputError(f"discount_fallback is {discount_fallback}: D1 is within 0 and 1, D2 0 and 2, D3 0 and 3")
    if temporary is not None:
        make_folder(temporary)
    work = Path(tempfile.gettempdir() if temporary is None else temporary)
    with reporting_writes(work), temporary_folder(work / "ngrams") as folder, atomic_path(output) as target:
        corpus = read_corpus(
            texts, folder / "ids", skip_symbols=skip_symbols, progress=lambda part: progress("reading", part)
        )
        partitions = math.ceil((corpus.tokens + 1) * BYTES_PER_NGRAM / memory)
        allowed = None if vocabulary is None else _allowed(corpus, vocabulary)
        estimator = Estimator(corpus, order, Store(folder), partitions, allowed)
        smoothing = estimator.tables(thresholds, discount_fallback, progress)
        if output.suffix in BINARY_SUFFIXES:
            with (folder / "arpa").open("wb") as file:
                estimator.write(smoothing, file, progress)
            write_binary(folder / "arpa", target, lambda part: progress("tables", part))
        else:
            with gzip.open(target, "wb", 6) if output.suffix == ".gz" else target.open("wb") as file:
                estimator.write(smoothing, file, progress)  # type: ignore[arg-type]
    return Estimate(corpus.tokens - corpus.sentences, corpus.sentences, tuple(estimator.sizes), smoothing.discounts)


def _thresholds(order: int, prune: Sequence[int]) -> tuple[int, ...]:
    if not 1 <= order <= MAX_ORDER:
        raise InputError(f"order is {order}, 1 to {MAX_ORDER} are possible")
    values = [*prune] or [0]
    if len(values) > order:
        raise InputError(f"prune has {len(values)} values for the order {order}: give one for each order at most")
    if values[0] != 0 or any(later < earlier for earlier, later in pairwise(values)):
        raise InputError(
            f"prune is {values}: the first value is 0, for single words, and no value is below the one before"
        )
    return tuple(values + values[-1:] * (order - len(values)))


def _allowed(corpus: Corpus, path: Path) -> np.ndarray:
    """(words,) bool: words of the corpus that the file lists; the symbols are always allowed."""
    named: set[bytes] = set(SYMBOLS)
    with LineBlocks(path) as lines:
        for block in lines.blocks():
            named.update(block.split())
    allowed = np.fromiter((word in named for word in corpus.words), bool, len(corpus.words))
    if allowed.sum() == len(SYMBOLS):
        raise InputError(f"no word of {path} is in the text: name a file with words of the model, between white space")
    return allowed
