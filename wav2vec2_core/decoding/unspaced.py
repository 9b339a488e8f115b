"""Scripts written without spaces between words: splitting their text into units that can be timed."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from wav2vec2_core.decoding.timeline import Word

#: First and last code points of the blocks of these scripts in the Unicode standard, in order.
_BLOCKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Burmese and its neighbours
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # parts of Chinese characters
    (0x3005, 0x3007),  # iteration mark, closing mark, zero
    (0x3021, 0x3029),  # numerals of Suzhou
    (0x3031, 0x303C),
    (0x3041, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x3190, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0x9FFF),
    (0xA000, 0xA4CF),  # Yi
    (0xA980, 0xA9FF),  # Javanese, more of Burmese's neighbours
    (0xAA60, 0xAADF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9D),  # Katakana of half width
    (0x1AFF0, 0x1B16F),
    (0x20000, 0x3FFFF),  # Chinese characters of the planes that are for them
)
_FIRST = [first for first, _ in _BLOCKS]
#: Letters by their category that belong to the letter before: the vowel am of Thai and Lao, voicing of half width.
_TRAILING = frozenset("\u0e33\u0eb3\uff9e\uff9f")
#: The letter after one of these is written below the letter before: of Burmese, Khmer and Tai Tham.
_STACKING = frozenset("\u1039\u17d2\u1a60")


def is_unspaced(character: str) -> bool:
    """Whether this is a letter of a script without spaces; digits and punctuation of such a script are not."""
    point = ord(character)
    place = bisect_right(_FIRST, point) - 1
    if place < 0 or point > _BLOCKS[place][1]:
        return False
    category = unicodedata.category(character)
    return category != "Nd" and category[0] not in "PSZ"


def units(word: str) -> list[str]:
    """Split a word into units, whose concatenation is the word.

    In scripts without spaces a unit is a letter with its combining marks; other text between such letters stays whole.
    Punctuation joins the unit before it; opening or leading punctuation joins the next one.
    """
    found: list[str] = []
    waiting, after_letter = "", False
    for cluster in _clusters(word):
        category = unicodedata.category(cluster[0])
        if category in ("Ps", "Pi") or (waiting and _is_mark(category)):
            waiting += cluster
        elif _is_mark(category):
            if found:
                found[-1] += cluster
            else:
                waiting = cluster
        else:
            is_letter = is_unspaced(cluster[0])
            if found and not is_letter and not after_letter:
                found[-1] += waiting + cluster
            else:
                found.append(waiting + cluster)
            waiting, after_letter = "", is_letter
    return [*found[:-1], found[-1] + waiting] if found else [word]


def grouped(ends: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Group units and timed spans of a text: a span that covers several units, or a unit without a span, forms one
    group.

    Args:
        ends: end of each unit.
        spans: start and end of each timed span, in order; at least one.

    Returns:
        For each group, its range of units and its range of spans, ends exclusive.
    """
    starts: list[tuple[int, int]] = []  # (first unit, first span) of each group
    last = -1
    for number, (start, end) in enumerate(spans):
        first = bisect_right(ends, start)
        if first > last:
            starts.append((first if starts else 0, number))
        last = bisect_left(ends, end)
    starts.append((len(ends), len(spans)))
    return [((unit, next_unit), (span, next_span)) for (unit, span), (next_unit, next_span) in pairwise(starts)]


def split_unspaced(word: Word) -> list[Word]:
    """Split a decoded word into its units, each with its own characters; a word of one unit is returned as it is."""
    pieces = units(word.text)
    ends = list(accumulate(len(character.text) for character in word.characters))
    if len(pieces) == 1 or "".join(character.text for character in word.characters) != word.text:
        return [word]
    groups = grouped(list(accumulate(map(len, pieces))), [*pairwise([0, *ends])])
    return [
        replace(Word.of(list(word.characters[first:last])), joined=start > 0) for (start, _), (first, last) in groups
    ]


def _is_mark(category: str) -> bool:
    """Whether this is the category of punctuation, symbols or invisible characters."""
    return category[0] in "PS" or category == "Cf"


def _clusters(word: str) -> Iterator[str]:
    """Characters, each with the marks that Unicode's grapheme cluster rules attach to it."""
    start = 0
    for place in range(1, len(word)):
        character = word[place]
        attached = unicodedata.category(character)[0] == "M" or character in _TRAILING
        if not attached and word[place - 1] not in _STACKING:
            yield word[start:place]
            start = place
    if word:
        yield word[start:]
