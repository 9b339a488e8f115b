"""Beam search with word times that agree with greedy decoding and forced alignment.

The frames that a beam search reports for a text are not those of its most probable path: prefixes with the same text
are merged, and the frames of the one merged last are kept, as in pyctcdecode. Here the text comes from the beam search
and the times from forced alignment of that text.
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

#: Frames of silence to keep. Frames before the next word do not affect its alignment, so older ones can be dropped.
_CONTEXT = 100


class BestTimesDecoder:
    """Takes the text from another ``Decoder``, and times and confidences from forced alignment of that text."""

    def __init__(self, decoder: Decoder, tokenizer: Wav2Vec2CTCTokenizer) -> None:
        """``tokenizer``: that of the model whose logits are decoded."""
        self.decoder, self.tokenizer = decoder, tokenizer

    def decode(self, logits: np.ndarray) -> tuple[str, list[Word]]:
        """Text and words of one recording from its logits (frames, vocab), before the softmax.
        Raises ``InputError``.
        """
        text, words = self.decoder.decode(logits)
        return text, _timed(words, logits, 0, self.tokenizer)

    def stream(self) -> DecodingStream:
        """Start decoding a recording whose logits arrive in pieces."""
        return _Stream(self.decoder.stream(), self.tokenizer)


class _Stream:
    """Keeps the logits from the last final word on; earlier ones cannot change the alignment of later words."""

    def __init__(self, stream: DecodingStream, tokenizer: Wav2Vec2CTCTokenizer) -> None:
        self._stream, self._tokenizer = stream, tokenizer
        self._held: list[np.ndarray] = []
        self._start = 0  # number of the first held frame
        self._last: list[Word] = []  # the last final word, if its frames are still held

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
        """The words of ``found`` with their times. ``waiting``: words not final yet, aligned to the
        frames that follow.
        """
        if not found:
            return []
        logits = np.concatenate(self._held)
        words = _timed([*self._last, *found, *waiting], logits, self._start, self._tokenizer)
        return words[len(self._last) :][: len(found)]

    def _end(self) -> int:
        return self._start + sum(map(len, self._held))

    def _drop(self, frame: int) -> None:
        """Discard the held frames before ``frame``."""
        if frame > self._start:
            self._held = [np.concatenate(self._held)[frame - self._start :]]
            self._start = frame


def _timed(words: Sequence[Word], logits: np.ndarray, first_frame: int, tokenizer: Wav2Vec2CTCTokenizer) -> list[Word]:
    """The words with times from alignment to ``logits``; unchanged if the vocabulary cannot spell one of them."""
    try:
        text = " ".join(word.text for word in words)
        (aligned,) = align_words(logits, [text], tokenizer, untranscribed="none", whole=True)
    except InputError:  # some tokens are not letters, or the words need more frames than there are
        return list(words)
    if [word.text for word in aligned] != [word.text for word in words]:
        return list(words)
    return [_moved(word, first_frame) for word in aligned]


def _moved(word: Word, frames: int) -> Word:
    """The word shifted by ``frames``."""
    characters = (Character(c.text, c.start + frames, c.end + frames, c.confidence) for c in word.characters)
    return Word(word.text, word.start + frames, word.end + frames, word.confidence, tuple(characters))
