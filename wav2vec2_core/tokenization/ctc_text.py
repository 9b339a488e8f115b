"""Converting CTC tokens, one per frame, to text with the frames of characters and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

#: Spaces that ``clean_up`` removes before punctuation and English clitics, in this order.
_CLITICS = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


@dataclass(frozen=True)
class Span:
    """Text and its frames, end exclusive."""

    text: str
    start: int
    end: int

    def as_offset(self, name: str) -> dict[str, Any]:
        """As in transformers' outputs; ``name`` is ``"char"`` or ``"word"``."""
        return {name: self.text, "start_offset": self.start, "end_offset": self.end}


def characters(tokens: Sequence[str], blank: str | None, *, merge_repeats: bool) -> list[Span]:
    """The tokens that are not blank, with their frames; equal neighbours become one if ``merge_repeats``."""
    spans: list[Span] = []
    frame = 0
    for token, group in groupby(tokens):
        repeats = sum(1 for _ in group)
        lengths = [repeats] if merge_repeats else [1] * repeats
        for length in lengths:
            if token != blank:
                spans.append(Span(token, frame, frame + length))
            frame += length
    return spans


def words(spans: Sequence[Span], delimiter: str) -> list[Span]:
    """Join the characters between delimiters."""
    joined: list[Span] = []
    for is_delimiter, group in groupby(spans, key=lambda span: span.text == delimiter):
        if not is_delimiter:
            letters = list(group)
            joined.append(Span("".join(span.text for span in letters), letters[0].start, letters[-1].end))
    return joined


def clean_up(text: str) -> str:
    """Remove spaces before punctuation and English clitics: ``"it 's ."`` becomes ``"it's."``."""
    for piece in _CLITICS:
        text = text.replace(piece, piece.strip())
    return text
