"""Converting the path of a beam to text, words and characters."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from wav2vec2_core.decoding.alphabet import Alphabet
from wav2vec2_core.decoding.search.beam_search import LabelPath, LanguageModelState
from wav2vec2_core.decoding.timeline import Character, Word


class PathSpeller:
    """Converts label paths over one alphabet to text and words."""

    def __init__(self, alphabet: Alphabet) -> None:
        self.alphabet = alphabet
        self.texts = [alphabet.text_of(label) for label in alphabet.labels]

    @cached_property
    def _marks(self) -> tuple[np.ndarray, np.ndarray]:
        from wav2vec2_core.decoding.search.lexicon import Spelling

        spelling = Spelling.of(self.alphabet)
        return spelling.flags, spelling.first

    def words(self, path: LabelPath, first_frame: int = 0) -> tuple[list[Word], int]:
        """Words of a path that starts at ``first_frame``, and how many of them are complete: a delimiter or a word
        follows.

        A character is one label, from its first frame to the last of its repeats. Its confidence is the mean
        probability of the label over these frames; a word's is the mean over its characters, as in greedy decoding.
        """
        runs, sums, closed = self._runs(path)
        confidences = sums / (runs[:, 2] - runs[:, 1])
        words: list[list[Character]] = []
        for (label, start, end, word), confidence in zip(runs.tolist(), confidences.tolist(), strict=True):
            if word == len(words):
                words.append([])
            words[word].append(Character(self.texts[label], first_frame + start, first_frame + end, confidence))
        return [Word.of(characters) for characters in words], closed

    def word_frames(self, path: LabelPath) -> list[tuple[str, tuple[int, int]]]:
        """Each word with its first frame and its end frame, exclusive."""
        runs = self._runs(path)[0]
        if len(runs) == 0:
            return []
        labels, starts, ends, words = runs.T.tolist()
        texts = self.texts
        found, text, start = [], "", starts[0]
        for at, (label, word) in enumerate(zip(labels, words, strict=True)):
            if word != len(found):
                found.append((text, (start, ends[at - 1])))
                text, start = "", starts[at]
            text += texts[label]
        found.append((text, (start, ends[-1])))
        return found

    def _runs(self, path: LabelPath) -> tuple[np.ndarray, np.ndarray, int]:
        """Characters of a path and the number of complete words, from ``beam_paths.collapse``."""
        from wav2vec2_core.decoding.search.beam_paths import collapse

        runs = np.empty((len(path.labels), 4), np.int32)
        sums = np.empty(len(path.labels), np.float64)
        count, closed = collapse(*self._marks, *path, runs, sums)
        return runs[:count], sums[:count], int(closed)


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis for the text of a recording.

    logit_score: natural log probability of its paths under the acoustic model.
    lm_score: with language model and hotwords, the ranking score.
    last_lm_state: language model state after the last word, for the recording that continues this one; ``None`` without
    a language model.
    """

    logit_score: float
    lm_score: float
    last_lm_state: LanguageModelState | None
    _path: LabelPath = field(repr=False)
    _speller: PathSpeller = field(repr=False)

    @cached_property
    def text(self) -> str:
        """The words separated by single spaces."""
        return " ".join([word for word, _ in self.word_frames])

    @cached_property
    def word_frames(self) -> list[tuple[str, tuple[int, int]]]:
        """Each word with its first frame and its end frame, exclusive."""
        return self._speller.word_frames(self._path)

    @cached_property
    def words(self) -> list[Word]:
        """The words with frames, confidence and characters."""
        return self._speller.words(self._path)[0]
