"""The scores of a language model for a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wav2vec2_core.language_model.line_blocks import open_text
from wav2vec2_core.language_model.ngram import END, NgramModel


@dataclass(frozen=True)
class TextScore:
    """words: without ``</s>``; unknown: of them; score: log10 probability of all words and ``</s>``.

    unknown_score: log10 probability of the unknown words.
    """

    sentences: int
    words: int
    unknown: int
    score: float
    unknown_score: float

    @property
    def perplexity(self) -> float:
        """10 to the mean negative log10 probability of words and ``</s>``."""
        return _perplexity(self.score, self.words + self.sentences)

    @property
    def known_perplexity(self) -> float:
        """The same without the unknown words."""
        return _perplexity(self.score - self.unknown_score, self.words + self.sentences - self.unknown)


def score_texts(
    model: NgramModel, texts: Sequence[Path | BinaryIO], print_sentence: Callable[[float], None] | None = None
) -> TextScore:
    """Score texts, one sentence a line, plain or compressed, files or streams.

    print_sentence: is called with the log10 probability of each sentence.

    Raises:
        CheckpointError: a text cannot be read or is not UTF-8.
    """
    sentences = words = unknown = 0
    score = unknown_score = 0.0
    for text in texts:
        with open_text(text) as lines:
            for block in lines.text_blocks():
                spoken = block.replace("\n", f" {END} ").split()
                ids = model.word_ids(spoken)
                ends = [place + 1 for place, word in enumerate(spoken) if word == END]
                scores = model.id_scores(ids, ends)
                totals = np.add.reduceat(scores.astype(np.float64), [0, *ends[:-1]])
                strange = ids == 0
                sentences, words = sentences + len(ends), words + len(ids) - len(ends)
                score, unknown = score + float(totals.sum()), unknown + int(strange.sum())
                unknown_score += float(scores[strange].sum(dtype=np.float64))
                if print_sentence:
                    for total in totals:
                        print_sentence(float(total))
    return TextScore(sentences, words, unknown, score, unknown_score)


def _perplexity(score: float, tokens: int) -> float:
    return 10 ** (-score / tokens) if tokens else math.nan
