"""Text that can be spelt in 26 letters and an apostrophe, cut to utterances; and what must not be among it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

SHORTEST, LONGEST = 3, 14  # words in an utterance
_NGRAM = 4
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
_NUMERAL = re.compile(r"x{0,3}(?:ix|iv|v?i{0,3})")  # read as a number, but not spelt as one; "i" alone is a word
_TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor"}
_TITLE = re.compile(rf"\b({'|'.join(_TITLES)})\b\.?")
_END = re.compile(r"[.!?;:()\[\]\"_]|--|\n\s*\n")  # of a sentence, or of a part that can stand alone
_TYPEWRITTEN = str.maketrans("’‘“”—–", "''\"\".-")


def spelt(text: str) -> str | None:
    """Text in lower case without punctuation, ``None`` where it has anything else, such as digits or accents."""
    words = [word.strip("'") for word in re.sub(r"[,.!?;:\"-]", " ", text.lower().translate(_TYPEWRITTEN)).split()]
    words = [word for word in words if word]
    return " ".join(words) if words and all(_WORD.fullmatch(word) for word in words) else None


def utterances(text: str, generator: np.random.Generator) -> Iterator[str]:
    """Stretches of 3 to 14 words of a book, in its order; what cannot be spelt, and abbreviations, are left out."""
    whole = _TITLE.sub(lambda found: _TITLES[found[1]], text.lower().translate(_TYPEWRITTEN))
    for sentence in _END.split(whole):
        words = (spelt(sentence) or "").split()
        if not all(_pronounceable(word) for word in words):
            continue
        while len(words) >= SHORTEST:
            length = int(generator.integers(SHORTEST, LONGEST + 1))
            yield " ".join(words[:length])
            words = words[length:]


def ngrams(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """Every four successive words of the texts, and all words of a shorter text."""
    found: set[tuple[str, ...]] = set()
    for text in texts:
        words = (spelt(text) or "").split()
        size = min(_NGRAM, len(words))
        found.update(tuple(words[begin : begin + size]) for begin in range(len(words) - size + 1) if size)
    return found


def shares(text: str, forbidden: set[tuple[str, ...]]) -> bool:
    """Whether a text, as ``spelt`` returns it, contains one of these runs of words."""
    words = text.split()
    return any(
        tuple(words[begin : begin + size]) in forbidden
        for size in range(1, _NGRAM + 1)
        for begin in range(len(words) - size + 1)
    )


def _pronounceable(word: str) -> bool:
    return bool(set(word) & set("aeiouy")) and (word == "i" or not _NUMERAL.fullmatch(word))
