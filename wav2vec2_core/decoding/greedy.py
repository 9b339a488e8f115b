"""Greedy CTC: the best token of every frame, repeats merged, blanks removed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from wav2vec2_core.decoding.timeline import Character, Word
from wav2vec2_core.errors import InputError

if TYPE_CHECKING:
    from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer


class GreedyDecoder:
    """Greedy decoding as a ``Decoder``. ``tokenizer``: its ``pad_token`` is the CTC blank."""

    def __init__(self, tokenizer: Wav2Vec2CTCTokenizer) -> None:
        self.tokenizer = tokenizer

    def decode(self, logits: np.ndarray) -> tuple[str, list[Word]]:
        """Text and words from logits (frames, vocab) of any real dtype, before the softmax; see ``greedy_decode``.

        Raises:
            InputError: ``logits`` is not two-dimensional, or has more columns than the tokenizer has tokens.
        """
        words = self.stream().feed_all(logits)
        return text_of(words, self.tokenizer), words

    def stream(self) -> GreedyStream:
        """Start decoding a recording whose logits arrive in pieces."""
        return GreedyStream(self.tokenizer)


class GreedyStream:
    """Greedy decoding of one recording as its logits arrive; a word is final once its delimiter follows.

    Only the frames after the last delimiter are kept, so memory is bounded if the vocabulary has a word delimiter.
    """

    def __init__(self, tokenizer: Wav2Vec2CTCTokenizer) -> None:
        self.tokenizer = tokenizer
        self._skipped = _skipped(tokenizer)
        self._seen = 0
        self._tokens, self._frames = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._probabilities = np.zeros(0)

    def feed(self, logits: np.ndarray) -> list[Word]:
        """Decode the next frames, (frames, vocab); returns the words that have become final. Raises ``InputError``."""
        best, probabilities = _best(logits)
        kept = np.flatnonzero(~np.isin(best, self._skipped))
        self._tokens = np.concatenate([self._tokens, best[kept]])
        self._frames = np.concatenate([self._frames, kept + self._seen])
        self._probabilities = np.concatenate([self._probabilities, probabilities[kept]])
        self._seen += len(best)
        borders = np.flatnonzero(self._tokens == self.tokenizer.word_delimiter_token_id)
        return self._take(int(borders[-1]) + 1 if len(borders) else 0)

    def partial(self) -> list[Word]:
        """The current word after the final ones."""
        return _words(self._tokens, self._frames, self._probabilities, self.tokenizer)

    def finish(self) -> list[Word]:
        """End the recording; returns the word that was not final yet."""
        return self._take(len(self._tokens))

    def feed_all(self, logits: np.ndarray) -> list[Word]:
        """Decode a whole recording, (frames, vocab), at once; returns all its words."""
        return [*self.feed(logits), *self.finish()]

    def _take(self, count: int) -> list[Word]:
        """The words of the first ``count`` kept frames, which are dropped together with the blanks after them."""
        words = _words(self._tokens[:count], self._frames[:count], self._probabilities[:count], self.tokenizer)
        letters = np.flatnonzero(self._tokens[count:] != self.tokenizer.pad_token_id)
        start = count + int(letters[0]) if len(letters) else len(self._tokens)
        self._tokens, self._frames = self._tokens[start:], self._frames[start:]
        self._probabilities = self._probabilities[start:]
        return words


def greedy_decode(logits: np.ndarray, tokenizer: Wav2Vec2CTCTokenizer) -> tuple[str, list[Word]]:
    """Decode one utterance: its text as the tokenizer writes it, and its words.

    Special tokens are omitted, except the blank, which separates double letters. A character spans its first frame to
    the last of its repeats; the blanks after it do not extend it. If the vocabulary has no word delimiter, the result
    is one word.

    Args:
        logits: (frames, vocab) of any real dtype, before the softmax.
        tokenizer: its ``pad_token`` is the CTC blank.

    Returns:
        The text and its words; positions are frames, which a ``Timeline`` converts to seconds.

    Raises:
        InputError: ``logits`` is not two-dimensional, or has more columns than the tokenizer has tokens.
    """
    words = GreedyStream(tokenizer).feed_all(logits)
    best = logits.argmax(-1)
    return tokenizer.decode(best[~np.isin(best, _skipped(tokenizer))]) if len(best) else "", words


def text_of(words: Iterable[Word], tokenizer: Wav2Vec2CTCTokenizer) -> str:
    """Join words as the tokenizer does, with one delimiter between words."""
    from wav2vec2_core.tokenization.ctc_text import clean_up  # not needed by beam search alone

    text = (tokenizer.replace_word_delimiter_char or "").join(word.text for word in words)
    return clean_up(text) if tokenizer.clean_up_tokenization_spaces else text


def _skipped(tokenizer: Wav2Vec2CTCTokenizer) -> list[int]:
    """Special tokens other than blank and word delimiter; like the tokenizer, decoding drops them before merging
    repeats.
    """
    kept = (tokenizer.pad_token_id, tokenizer.word_delimiter_token_id)
    return [token for token in tokenizer.all_special_ids if token not in kept]


def _best(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best token of each frame, (frames,), and its softmax probability, (frames,) float64.
    Raises ``InputError``.
    """
    if logits.ndim != 2:
        raise InputError(f"logits have shape {logits.shape}, (frames, vocab) is needed: decode one utterance at a time")
    if len(logits) == 0:
        return np.zeros(0, np.int64), np.zeros(0)
    best = logits.argmax(-1)
    scores = logits.astype(np.float64)
    top = scores[np.arange(len(best)), best]
    return best, 1 / np.exp(scores - top[:, None]).sum(-1)


def _words(
    tokens: np.ndarray, frames: np.ndarray, probabilities: np.ndarray, tokenizer: Wav2Vec2CTCTokenizer
) -> list[Word]:
    """Words from the kept best tokens. All arrays are (kept,); ``frames``: the frame number of each token."""
    blank, delimiter = tokenizer.pad_token_id, tokenizer.word_delimiter_token_id
    if len(tokens) == 0:
        return []
    words: list[Word] = []
    characters: list[Character] = []
    for run in np.split(np.arange(len(tokens)), np.flatnonzero(np.diff(tokens)) + 1):
        token = int(tokens[run[0]])
        if token == delimiter:
            if characters:
                words.append(Word.of(characters))
            characters = []
        elif token != blank:
            characters.append(
                Character(
                    text=_text(token, tokenizer),
                    start=int(frames[run[0]]),
                    end=int(frames[run[-1]]) + 1,
                    confidence=float(probabilities[run].mean()),
                )
            )
    if characters:
        words.append(Word.of(characters))
    if tokenizer.words_are_tokens:
        return [Word.of([character]) for word in words for character in word.characters]
    return words


def _text(token: int, tokenizer: Wav2Vec2CTCTokenizer) -> str:
    text = tokenizer.convert_ids_to_tokens(token)
    if text is None:
        raise InputError(
            f"logits score token {token}, the vocabulary has {len(tokenizer)} tokens: "
            "decode with the tokenizer of the model"
        )
    return text.lower() if tokenizer.do_lower_case else text
