"""Reading subtitles, SRT and WebVTT, for what is said in them."""

from __future__ import annotations

import html
import re

from wav2vec2_core.errors import InputError

_CLOCK = r"(?:\d+:)?\d+:\d\d[.,]\d{1,3}"
_TIMES = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?:\s.*)?")
_ARROW = re.compile(r"\s*\d+:\d[\d:.,]*\s*[-\u2010-\u2015]+>.*")  # what begins as a line of times
_WEBVTT = re.compile(r"\ufeff?WEBVTT(?:[ \t].*)?")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")  # <i>, <v Anna>, <00:01.000>, {\an8}


def spoken_lines(text: str) -> list[str]:
    """The lines of a text; of subtitles, the text of each cue as one line, without numbers, times, notes and tags.

    An empty line within a cue of SRT ends nothing: the lines behind it are said too. What stands in WebVTT between
    cues is a note or a style.

    Raises:
        InputError: a line begins as the times of a cue and does not end so.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    for number, line in enumerate(lines, 1):
        if _ARROW.fullmatch(line) and not _TIMES.fullmatch(line):
            raise InputError(
                f"line {number}, {line[:100]!r:.100}, must be 00:00:01,000 --> 00:00:02,000: mend the times"
            )
    is_webvtt = bool(lines) and _WEBVTT.fullmatch(lines[0]) is not None
    if not is_webvtt and not any(_TIMES.fullmatch(line) for line in lines):
        return lines
    cues: list[list[str]] = []
    inside = False
    for i, line in enumerate(lines):
        if _TIMES.fullmatch(line):
            cues.append([])
            inside = True
        elif not line.strip():
            inside = inside and not is_webvtt
        elif _is_number_before_times(lines, i):
            inside = False
        elif inside:
            cues[-1].append(line)
    spoken = [_TAG.sub("", " ".join(cue)) for cue in cues]
    return [html.unescape(cue) for cue in spoken] if is_webvtt else spoken


def _is_number_before_times(lines: list[str], i: int) -> bool:
    """Whether a cue begins here: some programs leave out the empty line before it."""
    return lines[i].strip().isdecimal() and i + 1 < len(lines) and _TIMES.fullmatch(lines[i + 1]) is not None
