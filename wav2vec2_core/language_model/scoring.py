"""What a language model makes of a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wav2vec2_core.decoding.ngram import END, NgramModel
from wav2vec2_core.language_model.line_blocks import LineBlocks


@dataclass(frozen=True)
class TextScore:
    """words: without ``</s>``; unknown: of them; score: log10 probability of all words and ``</s>``, unknown_score: of the
    unknown words."""

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
    """Score texts, one sentence a line, plain or .gz, files or streams.

    print_sentence: is called with the log10 probability of each sentence.

    Raises:
        CheckpointError: a text cannot be read or is not UTF-8.
    """
    sentences = words = unknown = 0
    score = unknown_score = 0.0
    for text in texts:
        with LineBlocks(text) if isinstance(text, Path) else LineBlocks(Path("stdin"), text) as lines:
            for line in lines.texts():
                spoken = [*line.split(), END]
                scores, ids = model.word_scores(spoken, eos=False), model.word_ids(spoken)
                total = float(scores.sum(dtype=float))
                sentences, words, score = sentences + 1, words + len(spoken) - 1, score + total
                unknown += int((ids == 0).sum())
                unknown_score += float(scores[ids == 0].sum(dtype=float))
                if print_sentence:
                    print_sentence(total)
    return TextScore(sentences, words, unknown, score, unknown_score)


def _perplexity(score: float, tokens: int) -> float:
    return 10 ** (-score / tokens) if tokens else math.nan
