"""From the path of a beam to text, words and characters."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from wav2vec2_core.decoding.alphabet import Alphabet
from wav2vec2_core.decoding.beam_search import LanguageModelState, Path
from wav2vec2_core.decoding.timeline import Character, Word


class Speller:
    """Writes paths over the labels of one alphabet as text and words."""

    def __init__(self, alphabet: Alphabet) -> None:
        self.alphabet = alphabet
        self.texts = [alphabet.text_of(label) for label in alphabet.labels]
        self._pieces = [
            " " * alphabet.starts_word(label) + text + " " * alphabet.ends_word(label)
            for label, text in zip(alphabet.labels, self.texts, strict=True)
        ]

    @cached_property
    def _marks(self) -> tuple[np.ndarray, np.ndarray]:
        from wav2vec2_core.decoding.lexicon import Spelling

        spelling = Spelling.of(self.alphabet)
        return spelling.flags, spelling.first

    def text(self, path: Path) -> str:
        """Words with one space between them."""
        labels = path.labels
        if len(labels) == 0:
            return ""
        changed = np.empty(len(labels), bool)
        changed[0] = True
        np.not_equal(labels[1:], labels[:-1], out=changed[1:])
        text = "".join([self._pieces[label] for label in labels[changed].tolist()])
        return " ".join([word for word in text.split(" ") if word])

    def words(self, path: Path, first_frame: int = 0) -> tuple[list[Word], int]:
        """Words of a path that starts at ``first_frame``, and how many of them another word or a delimiter follows.

        A character is one label: from its first frame to the last of its repeats, and its confidence the mean
        probability of the label over these frames; a word's is the mean over its characters, as in greedy decoding.
        """
        from wav2vec2_core.decoding.beam_kernels import collapse

        runs = np.empty((len(path.labels), 4), np.int32)
        sums = np.empty(len(path.labels), np.float64)
        count, closed = collapse(*self._marks, *path, runs, sums)
        runs, sums = runs[:count], sums[:count] / (runs[:count, 2] - runs[:count, 1])
        words: list[list[Character]] = []
        for (label, start, end, word), confidence in zip(runs.tolist(), sums.tolist(), strict=True):
            if word == len(words):
                words.append([])
            words[word].append(Character(self.texts[label], first_frame + start, first_frame + end, confidence))
        return [Word.of(characters) for characters in words], int(closed)


@dataclass(frozen=True)
class Hypothesis:
    """One reading of a recording.

    text: words with a space between them. logit_score: natural log probability of its paths under the model. lm_score:
    the same with language model and hotwords, what ranks hypotheses. last_lm_state: of the language model after the last
    word, for the recording that goes on from here; ``None`` without language model.
    """

    text: str
    logit_score: float
    lm_score: float
    last_lm_state: LanguageModelState | None
    _path: Path = field(repr=False)
    _speller: Speller = field(repr=False)

    @cached_property
    def words(self) -> list[Word]:
        """With frames, confidence and characters."""
        return self._speller.words(self._path)[0]

    @property
    def word_frames(self) -> list[tuple[str, tuple[int, int]]]:
        """Each word with its first and its end frame."""
        return [(word.text, (word.start, word.end)) for word in self.words]
