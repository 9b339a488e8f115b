"""Answers, as this server sends them, back into captions: a client may have corrected them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from wav2vec2_core.captions import FORMATS, Segment, TimedWord, render
from wav2vec2_core.errors import brief
from wav2vec2_core.serving.refusals import Refusal

_WHAT = "the answer of a transcription (verbose_json, words and segments) or of an alignment"


def rendered(content: Any) -> str:
    """The content of a caption file.

    Args:
        content: words, segments, duration and language, as ``answers`` makes them, with ``response_format``, a key of
            ``captions.FORMATS``, and ``name``, the recording's. Other fields are left alone.

    Raises:
        Refusal: a field is missing or has an impossible value.
        InputError: the words cannot be written in this format.
    """
    if not isinstance(content, Mapping):
        raise Refusal(422, f"the body is {brief(content)}: send {_WHAT}", code="invalid_value")
    output_format = _text(content, "response_format")
    if output_format not in FORMATS:
        message = f"response_format is {brief(output_format)}: use one of {', '.join(FORMATS)}"
        raise Refusal(422, message, code="invalid_value", param="response_format")
    return render(
        _segments(content),
        output_format,
        language=_text(content, "language", "") or None,
        name=_text(content, "name", "recording"),
        duration=None if content.get("duration") is None else _seconds(content, "duration"),
    )


def _segments(content: Mapping[str, Any]) -> list[Segment]:
    """Segments, each with those words that begin before it ends."""
    words, segments, first = [_word(one) for one in _objects(content, "words")], [], 0
    for one in _objects(content, "segments"):
        start, end, last = _seconds(one, "start"), _seconds(one, "end"), first
        while last < len(words) and words[last].start < end:
            last += 1
        segments.append(Segment(start, end, _text(one, "text"), tuple(words[first:last])))
        first = last
    if first < len(words):
        raise _wrong("words", f"has {len(words) - first} words behind the last segment")
    return segments


def _word(one: Mapping[str, Any], name: str = "word") -> TimedWord:
    """A word, or one of the characters that an alignment has in its words."""
    start, end, probability = _seconds(one, "start"), _seconds(one, "end"), one.get("probability", 1.0)
    if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise _wrong("probability", f"is {brief(probability)}: a number from 0 to 1 is needed")
    inside = _objects(one, "characters") if name == "word" and "characters" in one else []
    characters = tuple(_word(character, "character") for character in inside)
    return TimedWord(_text(one, name), start, end, float(probability), characters)


def _objects(content: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = content.get(name)
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise _wrong(name, f"is {brief(found)}: a list of objects is needed")
    return found


def _seconds(content: Mapping[str, Any], name: str) -> float:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value >= 0 and math.isfinite(value)):
        raise _wrong(name, f"is {brief(value)}: seconds are needed")
    return float(value)


def _text(content: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = content.get(name)
    value = default if value is None else value
    if not isinstance(value, str):
        raise _wrong(name, f"is {brief(value)}: a text is needed")
    return value


def _wrong(name: str, what: str) -> Refusal:
    return Refusal(422, f"field {name} {what}; send {_WHAT}", code="invalid_value", param=name)
