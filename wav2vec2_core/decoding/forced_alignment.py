"""Forced alignment: when each word of a known text was spoken, on the most probable path that CTC allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from wav2vec2_core.decoding.spelling import STAR, TextSpeller, WrittenWord
from wav2vec2_core.decoding.timeline import Character, Word
from wav2vec2_core.decoding.viterbi import Chain, cheapest_path
from wav2vec2_core.errors import InputError

if TYPE_CHECKING:
    from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

#: Where untranscribed speech may occur: nowhere; before, between and after lines; or between any two words as well.
UNTRANSCRIBED = ("none", "lines", "words")
#: Cost per frame of a star, in nats below the frame's best token. It is above 0, so that a star takes no frame that a
#: letter or silence explains, and small, so that one star covers the pauses within the speech it stands for.
_STAR_COST = 0.2
_BLANK, _SILENCE, _STAR, _TOKENS = range(4)  # columns of costs; the text's tokens start at _TOKENS
_BLOCK = 4096  # frames whose probabilities are computed at a time


def align_words(
    logits: np.ndarray,
    lines: Sequence[str],
    tokenizer: Wav2Vec2CTCTokenizer,
    *,
    untranscribed: str = "lines",
    whole: bool = False,
) -> list[list[Word]]:
    """Find when each word of ``lines`` was spoken.

    Words are separated by white space and are returned as written. In scripts without spaces each letter is a word,
    ``joined`` to the one before. ``TextSpeller`` maps words to labels. Digits and letters that are not in the
    vocabulary match any speech; they have confidence 0, which is ignored in words that also have known letters.
    Punctuation that stands alone joins the word before it. As in ``greedy_decode``, a character spans its first frame
    to the last of its repeats, blanks and silence belong to no word, and confidence is mean probability. Aligning the
    text that greedy decoding found yields the same frames.

    Args:
        logits: (frames, vocab) of any real dtype, before the softmax, of one recording of any length.
        lines: the text in order; lines without words are allowed.
        tokenizer: its ``pad_token`` is the CTC blank.
        untranscribed: one of ``UNTRANSCRIBED``.
        whole: split at white space only, in every script.

    Returns:
        The words of each line; positions are frames, which a ``Timeline`` converts to seconds.

    Raises:
        InputError: ``logits`` are not two-dimensional or contain NaN, no letter of the text is in the vocabulary, or
            the recording has fewer frames than the text needs.
    """
    if logits.ndim != 2:
        raise InputError(f"logits have shape {logits.shape}, (frames, vocab) is needed: align one recording at a time")
    if untranscribed not in UNTRANSCRIBED:
        raise InputError(f"untranscribed={untranscribed!r:.100} is unknown: use one of {', '.join(UNTRANSCRIBED)}")
    speller = TextSpeller(tokenizer, logits.shape[1])
    written = [speller.spell_line(line, whole=whole) for line in lines]
    if not any(written):
        return [[] for _ in lines]
    items = _items(written, speller.delimiter, untranscribed)
    labels = sorted({item.label for item in items} - {STAR})
    if not any(item.spoken and item.label != STAR for item in items):
        raise InputError(
            f"no letter of {' '.join(lines)[:40]!r:.100} is in the vocabulary ({' '.join(speller.tokens)[:60]} ...): "
            "use a model, or a language of the model, that is written like the text"
        )
    _check_length(items, len(logits))
    costs, best = _costs(logits, speller, labels)
    chain = _chain(items, labels)
    found = cheapest_path(costs, chain)
    if found is None:
        raise InputError("a letter of the text has probability 0 wherever it could be: mend the logits or the text")
    path, _ = found
    columns = np.stack([chain.gaps, [*chain.items, _SILENCE]], axis=1).ravel()
    spans = _spans(items, path, best * np.exp(-costs[np.arange(len(path)), columns[path]]))
    return [[_word(word, spans) for word in line] for line in written]


# ---- from text to items ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    """A label to align. border: silence may precede it; optional: it may be absent; spoken: it is part of a word."""

    label: int
    border: bool
    optional: bool = False
    spoken: bool = True


def _items(lines: Sequence[Sequence[WrittenWord]], delimiter: int | None, untranscribed: str) -> list[_Item]:
    """Letters, delimiters between words, and stars where untranscribed speech may occur."""
    words = [(word, untranscribed == "words" or i == 0) for line in lines for i, word in enumerate(line)]
    items: list[_Item] = []
    last = None  # last label of the previous word
    for word, opens in words:
        labels = [label for part in word.parts for label in part.labels]
        if items and delimiter is not None and not word.joined:
            items.append(_Item(delimiter, border=True, spoken=False))
        if (
            opens and untranscribed != "none" and STAR not in (last, labels[0])
        ):  # two stars in a row match no more than one
            items.append(_Item(STAR, border=True, optional=True, spoken=False))
        items += [_Item(label, border=i == 0) for i, label in enumerate(labels)]
        last = labels[-1]
    if untranscribed != "none" and last != STAR:
        items.append(_Item(STAR, border=True, optional=True, spoken=False))
    return items


def _check_length(items: Sequence[_Item], frames: int) -> None:
    """Check that CTC can fit the items: one frame per label and one per blank between equal ones. Raises
    ``InputError``.
    """
    needed = [item.label for item in items if not item.optional]
    blanks = sum(a == b != STAR for a, b in pairwise(needed))
    if len(needed) + blanks > frames:
        words = sum(item.border and item.spoken for item in items)
        raise InputError(
            f"{words} words need at least {len(needed) + blanks} frames ({len(needed)} letters and spaces, {blanks} "
            f"blanks between equal ones), the recording has {frames}: use the text of this recording"
        )


def _chain(items: Sequence[_Item], labels: Sequence[int]) -> Chain:
    """The chain of items, with blanks within words and silence around them."""
    column = {STAR: _STAR, **{label: _TOKENS + i for i, label in enumerate(labels)}}
    former = [None, *items[:-1]]
    return Chain(
        items=np.array([column[item.label] for item in items]),
        gaps=np.array([*(_SILENCE if item.border else _BLANK for item in items), _SILENCE]),
        joined=np.array([_may_follow(a, b) for a, b in zip(items, former, strict=True)]),
        optional=np.array([item.optional for item in items]),
        rejoined=np.array([_may_follow(a, b) for a, b in zip(items, [None, *former[:-1]], strict=True)]),
    )


def _may_follow(item: _Item, former: _Item | None) -> bool:
    """Whether an item may directly follow another; equal labels would merge without a blank between them."""
    return former is None or item.label == STAR or item.label != former.label


def _costs(logits: np.ndarray, speller: TextSpeller, labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(frames, columns) float32: nats below the frame's best token; and (frames,): the probability of that token.

    Any token that decoding omits counts as blank; a blank or a word delimiter counts as silence. Raises ``InputError``.
    """
    costs = np.empty((len(logits), _TOKENS + len(labels)), np.float32)
    best = np.empty(len(logits))
    for start in range(0, len(logits), _BLOCK):
        block = slice(start, start + _BLOCK)
        scores = logits[block].astype(np.float64)
        top = scores.max(-1)
        bad = np.flatnonzero(~np.isfinite(top))
        if len(bad):
            raise InputError(
                f"the logits of frame {start + bad[0]} are not finite: run the model in float32, or mend the recording"
            )
        below = top[:, None] - scores
        best[block] = 1 / np.exp(-below).sum(-1)
        costs[block, _BLANK] = below[:, speller.silent].min(-1)
        border = speller.silent if speller.delimiter is None else [*speller.silent, speller.delimiter]
        costs[block, _SILENCE] = below[:, border].min(-1)
        costs[block, _TOKENS:] = below[:, labels]
    costs[:, _STAR] = _STAR_COST
    return costs, best


# ---- from path to words ---------------------------------------------------------------------------------------------


def _spans(items: Sequence[_Item], path: np.ndarray, probabilities: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Yield start, end and mean probability of every spoken item; a star's probability is 0."""
    states = 2 * np.arange(len(items)) + 1
    starts, ends = (np.searchsorted(path, states, side).tolist() for side in ("left", "right"))
    for item, start, end in zip(items, starts, ends, strict=True):
        if item.spoken:
            yield start, end, 0.0 if item.label == STAR else float(probabilities[start:end].mean())


def _word(written: WrittenWord, spans: Iterator[tuple[int, int, float]]) -> Word:
    """The word as written, timed by the next of ``spans``."""
    characters = []
    for part in written.parts:
        found = [next(spans) for _ in part.labels]
        confidence = sum(mean for _, _, mean in found) / len(found)
        characters.append(Character(part.text, found[0][0], found[-1][1], confidence))
    known = [c.confidence for c, part in zip(characters, written.parts, strict=True) if part.labels != (STAR,)]
    confidence = sum(known) / len(known) if known else 0.0
    return Word(written.text, characters[0].start, characters[-1].end, confidence, tuple(characters), written.joined)
