"""Beam search whose words have the times that greedy decoding and alignment give them.

A beam's own path is not the most probable one of its text: paths that spell the same are merged, and the later one's
past wins, as in pyctcdecode. Here the text is the beam's and the times are those of its best path, which alignment
finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from wav2vec2_core.decoding.decoder import Decoder, DecodingStream
from wav2vec2_core.decoding.forced_alignment import align_words
from wav2vec2_core.decoding.timeline import Character, Word
from wav2vec2_core.errors import InputError

if TYPE_CHECKING:
    from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

#: Frames of silence that are kept: what comes before the first frame of the next word costs the alignment nothing.
_CONTEXT = 100


class BestTimesDecoder:
    """A ``Decoder`` with the text of another one, and the times and confidences of the best path of that text."""

    def __init__(self, decoder: Decoder, tokenizer: Wav2Vec2CTCTokenizer) -> None:
        """``tokenizer``: of the model whose logits are decoded."""
        self.decoder, self.tokenizer = decoder, tokenizer

    def decode(self, logits: np.ndarray) -> tuple[str, list[Word]]:
        """(frames, vocab) before the softmax -> text and words of one recording. Raises ``InputError``."""
        text, words = self.decoder.decode(logits)
        return text, _timed(words, logits, 0, self.tokenizer)

    def stream(self) -> DecodingStream:
        """Start a recording whose logits come in pieces."""
        return _Stream(self.decoder.stream(), self.tokenizer)


class _Stream:
    """Keeps the logits from the last final word on: the best path from there does not depend on what came before."""

    def __init__(self, stream: DecodingStream, tokenizer: Wav2Vec2CTCTokenizer) -> None:
        self._stream, self._tokenizer = stream, tokenizer
        self._held: list[np.ndarray] = []
        self._start = 0  # frame of the recording that the first of ``_held`` is
        self._last: list[Word] = []  # the last final word, if its frames are held

    def feed(self, logits: np.ndarray) -> list[Word]:
        found = self._stream.feed(logits)
        self._held.append(np.asarray(logits))
        waiting = self._stream.partial()
        words = self._after_last(found, waiting)
        if words:
            self._last = words[-1:]
            self._drop(words[-1].start)
        elif not waiting and self._end() - self._start > _CONTEXT:
            self._last = []
            self._drop(self._end() - _CONTEXT)
        return words

    def partial(self) -> list[Word]:
        return self._stream.partial()

    def finish(self) -> list[Word]:
        return self._after_last(self._stream.finish(), [])

    def _after_last(self, found: list[Word], waiting: list[Word]) -> list[Word]:
        """The words of ``found`` with times; those of ``waiting`` hold the frames that follow."""
        if not found:
            return []
        logits = np.concatenate(self._held)
        words = _timed([*self._last, *found, *waiting], logits, self._start, self._tokenizer)
        return words[len(self._last) :][: len(found)]

    def _end(self) -> int:
        return self._start + sum(map(len, self._held))

    def _drop(self, frame: int) -> None:
        """Forget what comes before a frame of the recording."""
        if frame > self._start:
            self._held = [np.concatenate(self._held)[frame - self._start :]]
            self._start = frame


def _timed(words: Sequence[Word], logits: np.ndarray, first_frame: int, tokenizer: Wav2Vec2CTCTokenizer) -> list[Word]:
    """The words on their best path through ``logits``; as they are where the vocabulary cannot spell one."""
    try:
        text = " ".join(word.text for word in words)
        (aligned,) = align_words(logits, [text], tokenizer, untranscribed="none", whole=True)
    except InputError:  # tokens that are no letters, or frames too few for the words alone
        return list(words)
    if [word.text for word in aligned] != [word.text for word in words]:
        return list(words)
    return [_moved(word, first_frame) for word in aligned]


def _moved(word: Word, frames: int) -> Word:
    """The word so many frames later."""
    characters = (Character(c.text, c.start + frames, c.end + frames, c.confidence) for c in word.characters)
    return Word(word.text, word.start + frames, word.end + frames, word.confidence, tuple(characters))
