"""Greedy CTC: the best token of every frame, repeats merged, blanks removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wav2vec2_core.decoding.timeline import Character, Word
from wav2vec2_core.errors import InputError

if TYPE_CHECKING:
    from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer


def greedy_decode(logits: np.ndarray, tokenizer: Wav2Vec2CTCTokenizer) -> tuple[str, list[Word]]:
    """Text and words of one utterance.

    Special tokens are left out, except the blank, which separates double letters. A character lasts from its first
    frame to the last of its repeats; blanks after it do not extend it. A vocabulary without word delimiter gives one
    word.

    Args:
        logits: (frames, vocab) of any real dtype, before the softmax.
        tokenizer: its ``pad_token`` is the CTC blank.

    Returns:
        The text and its words; positions are in frames, for a ``Timeline`` to turn into seconds.

    Raises:
        InputError: ``logits`` is not two-dimensional, or wider than the tokenizer knows tokens.
    """
    if logits.ndim != 2:
        raise InputError(f"logits have shape {logits.shape}, (frames, vocab) is needed: decode one utterance at a time")
    best = logits.argmax(-1)
    if len(best) == 0:
        return "", []
    frames = _spoken(best, tokenizer)
    return tokenizer.decode(best[frames]), _words(best, frames, _probabilities(logits, best), tokenizer)


def _probabilities(logits: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Softmax probability of the best token of each frame, (frames,) float64."""
    scores = logits.astype(np.float64)
    top = scores[np.arange(len(best)), best]
    return 1 / np.exp(scores - top[:, None]).sum(-1)


def _spoken(best: np.ndarray, tokenizer: Wav2Vec2CTCTokenizer) -> np.ndarray:
    """Frames without special tokens; blanks and word delimiters stay.

    Special tokens go before repeats are merged, as the tokenizer does it; the frames keep their numbers.
    """
    kept = (tokenizer.pad_token_id, tokenizer.word_delimiter_token_id)
    skipped = [token for token in tokenizer.all_special_ids if token not in kept]
    return np.flatnonzero(~np.isin(best, skipped))


def _words(
    best: np.ndarray, frames: np.ndarray, probabilities: np.ndarray, tokenizer: Wav2Vec2CTCTokenizer
) -> list[Word]:
    blank, delimiter = tokenizer.pad_token_id, tokenizer.word_delimiter_token_id
    if len(frames) == 0:
        return []
    tokens = best[frames]
    borders = np.flatnonzero(np.diff(tokens)) + 1
    words: list[Word] = []
    characters: list[Character] = []
    for run in np.split(np.arange(len(frames)), borders):
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
                    confidence=float(probabilities[frames[run]].mean()),
                )
            )
    if characters:
        words.append(Word.of(characters))
    return words


def _text(token: int, tokenizer: Wav2Vec2CTCTokenizer) -> str:
    text = tokenizer.convert_ids_to_tokens(token)
    return text.lower() if tokenizer.do_lower_case else text
