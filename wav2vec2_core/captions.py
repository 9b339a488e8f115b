"""Timed words as files.

Captions as whisper writes them (txt, srt, vtt, tsv, json), and label files (CTM, Praat's TextGrid, Audacity).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from wav2vec2_core.audio import Damage
from wav2vec2_core.decoding import Timeline, Word
from wav2vec2_core.errors import InputError

#: Output format -> end of the file's name.
FORMATS = {
    "txt": "txt",
    "srt": "srt",
    "vtt": "vtt",
    "tsv": "tsv",
    "json": "json",
    "ctm": "ctm",
    "textgrid": "TextGrid",
    "audacity": "audacity.txt",
}
#: Formats that have no place for the names of speakers.
WITHOUT_SPEAKERS = ("audacity",)
#: Silence in seconds that ends a segment.
PAUSE = 1.0
#: Longest segment in seconds: what broadcasters allow a caption to stay.
LONGEST = 7.0
_SUBTITLE_PAUSE = 3.0  # seconds between the starts of two words that begin a subtitle where lines are laid out anew


@dataclass(frozen=True)
class TimedWord:
    """A word, or one character of it. start, end: seconds; probability: between 0 and 1; joined: see ``Word``."""

    text: str
    start: float
    end: float
    probability: float
    characters: tuple[TimedWord, ...] = ()
    joined: bool = False

    @classmethod
    def of(cls, word: Word, timeline: Timeline) -> TimedWord:
        """The word of a decoder, from frames to seconds."""
        characters = tuple(
            cls(
                character.text, timeline.seconds(character.start), timeline.seconds(character.end), character.confidence
            )
            for character in word.characters
        )
        start, end = timeline.seconds(word.start), timeline.seconds(word.end)
        return cls(word.text, start, end, word.confidence, characters, word.joined)


@dataclass(frozen=True)
class Segment:
    """The content of one caption. start, end: seconds; speaker: its name, if speakers are distinguished."""

    start: float
    end: float
    text: str
    words: tuple[TimedWord, ...] = ()
    speaker: str | None = None

    @classmethod
    def of(cls, words: Sequence[TimedWord]) -> Segment:
        """Join words, of which there is at least one."""
        text = "".join(word.text if word.joined or i == 0 else f" {word.text}" for i, word in enumerate(words))
        return cls(words[0].start, words[-1].end, text, tuple(words))


def segments_of(
    words: Sequence[Word], timeline: Timeline, *, pause: float = PAUSE, longest: float = LONGEST
) -> list[Segment]:
    """Cut a transcript into captions.

    A silence of ``pause`` seconds ends a segment. What would last longer than ``longest`` seconds is cut at the widest
    gap in the second half of the words that fit; a single word is never cut. Where a segment ends does not depend on
    words after the first that does not fit into it.

    Raises:
        InputError: ``pause`` or ``longest`` is not a positive number.
    """
    for name, value in (("pause", pause), ("longest", longest)):
        if not value > 0:
            raise InputError(f"{name}={value!r:.100} must be a positive number of seconds")
    timed = [TimedWord.of(word, timeline) for word in words]
    segments: list[Segment] = []
    start = 0
    while start < len(timed):
        end = _segment_end(timed, start, pause, longest)
        segments.append(Segment.of(timed[start:end]))
        start = end
    return segments


def _segment_end(words: Sequence[TimedWord], start: int, pause: float, longest: float) -> int:
    """Index after the last word of the segment that begins with word ``start``."""
    limit = words[start].start + longest
    end = start + 1
    while end < len(words) and words[end].end <= limit:
        if words[end].start - words[end - 1].end >= pause:
            return end
        end += 1
    if end == len(words) or words[end].start - words[end - 1].end >= pause:
        return end
    halfway = words[start].start + longest / 2
    candidates = [i for i in range(start + 1, end + 1) if words[i - 1].end >= halfway] or [end]
    return max(candidates, key=lambda i: (words[i].start - words[i - 1].end, i))


@dataclass(frozen=True)
class Layout:
    """How captions look; the options of the same name of whisper.

    Args:
        word_timestamps: words with their times in json.
        characters: characters with their times in json too, in each word.
        max_line_width: characters of a line of srt and vtt; longer ones are broken between words.
        max_line_count: lines of a subtitle; together with ``max_line_width`` subtitles no longer follow the segments.
        max_words_per_line: words of a subtitle.
        highlight_words: underline each word while it is spoken, in srt and vtt.

    Raises:
        InputError: a number is not positive, or an option needs ``word_timestamps``.
    """

    word_timestamps: bool = True
    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False
    characters: bool = False

    def __post_init__(self) -> None:
        for name in ("max_line_width", "max_line_count", "max_words_per_line"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name}={value!r:.100} must be an integer of 1 or more")
        if (self.by_words or self.characters) and not self.word_timestamps:
            raise InputError(
                "max_line_width, max_line_count, max_words_per_line, highlight_words and characters need "
                "word_timestamps"
            )

    @property
    def by_words(self) -> bool:
        """Whether subtitles are put together from words."""
        limits = (self.max_line_width, self.max_line_count, self.max_words_per_line)
        return self.highlight_words or any(limit is not None for limit in limits)


def to_dict(
    segments: Sequence[Segment],
    *,
    language: str | None = None,
    word_timestamps: bool = True,
    characters: bool = False,
    damage: Damage | None = None,
) -> dict[str, Any]:
    """JSON-ready, in the layout of whisper's JSON files: seconds, ``probability`` between 0 and 1.

    ``characters``: every word has its characters too, as ``characters`` with ``character`` for ``word``; ``damage``:
    what could not be read of the recording, a field of its own where there is some.
    """
    entries = []
    for index, segment in enumerate(segments):
        entry: dict[str, Any] = {"id": index, **_span(segment), "text": segment.text}
        if segment.speaker is not None:
            entry["speaker"] = segment.speaker
        if word_timestamps:
            entry["words"] = [_timed(word, "word") for word in segment.words]
        if characters:
            for shown, word in zip(entry["words"], segment.words, strict=True):
                shown["characters"] = [_timed(character, "character") for character in word.characters]
        entries.append(entry)
    content = {"text": " ".join(segment.text for segment in segments), "segments": entries, "language": language}
    return content if damage is None else {**content, "damage": asdict(damage)}


def _timed(word: TimedWord, name: str) -> dict[str, Any]:
    return {name: word.text, **_span(word), "probability": round(word.probability, 4)}


def render(
    segments: Sequence[Segment],
    output_format: str,
    *,
    layout: Layout | None = None,
    language: str | None = None,
    name: str = "recording",
    duration: float | None = None,
    speakers: Sequence[str] = (),
    damage: Damage | None = None,
) -> str:
    """The content of a file of one of ``FORMATS``.

    Where segments have speakers, json has a field for them and tsv a column, TextGrid a tier of words for each speaker,
    CTM a channel, WebVTT voice tags; txt and srt begin with the speaker's name.

    Args:
        segments: in order of time.
        output_format: a key of ``FORMATS``.
        layout: looks of captions; by default a subtitle for each segment.
        language: for json.
        name: the recording's, for ctm.
        duration: where the recording ends, in seconds, for textgrid; by default where the last word ends.
        speakers: all of them in their order, also those who say nothing; by default as they come in ``segments``.
        damage: for json; see ``to_dict``.

    Raises:
        InputError: the format is unknown or has no place for speakers; for textgrid also: words of a speaker overlap,
            last no time or reach beyond ``duration``.
    """
    layout = layout or Layout()
    voices = _voices(segments, speakers)
    check_speakers(output_format, voices)
    match output_format:
        case "txt":
            return "".join(f"{_named(segment.speaker, _one_line(segment.text))}\n" for segment in segments)
        case "srt":
            cues = enumerate(_spoken_cues(segments, layout, voices, _named), start=1)
            return "".join(
                f"{i}\n{_clock(a, ',', True)} --> {_clock(b, ',', True)}\n{_harmless(text)}\n\n"
                for i, (a, b, text) in cues
            )
        case "vtt":
            cues = _spoken_cues(segments, layout, voices, _voice_tag, _escaped)
            return "WEBVTT\n\n" + "".join(f"{_clock(a)} --> {_clock(b)}\n{_harmless(text)}\n\n" for a, b, text in cues)
        case "tsv":
            rows = [[str(_milliseconds(s.start)), str(_milliseconds(s.end)), _one_line(s.text)] for s in segments]
            table = [["start", "end", "text"], *rows]
            if voices:
                who = ["speaker", *(_one_line(segment.speaker or "") for segment in segments)]
                table = [[*row, speaker] for row, speaker in zip(table, who, strict=True)]
            return "".join("\t".join(row) + "\n" for row in table)
        case "json":
            content = to_dict(
                segments,
                language=language,
                word_timestamps=layout.word_timestamps,
                characters=layout.characters,
                damage=damage,
            )
            return json.dumps(content, ensure_ascii=False) + "\n"
        case "ctm":
            channels = {speaker: number for number, speaker in enumerate(voices, start=1)}
            return "".join(
                _ctm_line(word, name, channels.get(segment.speaker, 1))
                for segment in segments
                for word in _words_of(segment)
            )
        case "textgrid":
            return _textgrid(_tiers(segments, voices), duration)
        case "audacity":
            return "".join(f"{w.start:.6f}\t{w.end:.6f}\t{_one_line(w.text)}\n" for w in _words(segments))
    raise InputError(f"output format {output_format!r:.100} is unknown: use one of {', '.join(FORMATS)}")


def check_speakers(output_format: str, speakers: Iterable[str | None]) -> None:
    """Raises ``InputError`` where there are speakers and the format has no place for them."""
    if output_format in WITHOUT_SPEAKERS and any(speaker is not None for speaker in speakers):
        raise InputError(
            f"files of {output_format} have no place for speakers: use json, textgrid, vtt, srt, tsv, txt or ctm, or "
            "read one channel"
        )


def _voices(segments: Iterable[Segment], speakers: Sequence[str]) -> tuple[str | None, ...]:
    """Speakers in their order, ``None`` for segments without one beside others; nothing where no speaker is named."""
    found = tuple(dict.fromkeys([*speakers, *(segment.speaker for segment in segments)]))
    return () if found == (None,) else found


def _named(speaker: str | None, text: str) -> str:
    return text if speaker is None else f"{_one_line(speaker)}: {text}"


def _voice_tag(speaker: str | None, text: str) -> str:
    """WebVTT's own way to say who speaks."""
    if speaker is None:
        return text
    name = _escaped(_harmless(_one_line(speaker))).replace(">", "&gt;")
    return f"<v {name}{' ' if name.endswith('-') else ''}>{text}"  # "-->" must not arise here either


def _escaped(text: str) -> str:
    """Text with WebVTT's references for the two characters that begin a reference or a tag."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _words(segments: Iterable[Segment]) -> list[TimedWord]:
    """All words; a segment without words counts as one."""
    return [word for segment in segments for word in _words_of(segment)]


def _words_of(segment: Segment) -> tuple[TimedWord, ...]:
    return segment.words or (TimedWord(segment.text, segment.start, segment.end, 1.0),)


def _span(timed: Segment | TimedWord) -> dict[str, float]:
    return {"start": round(timed.start, 3), "end": round(timed.end, 3)}


def _one_line(text: str) -> str:
    """White space of any kind becomes one space: none of these formats has room for another."""
    return " ".join(text.split())


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _clock(milliseconds: int, mark: str = ".", hours: bool = False) -> str:
    """``MM:SS.mmm``, with ``HH:`` before it from an hour on or where ``hours`` asks for it."""
    seconds, rest = divmod(milliseconds, 1000)
    hour = f"{seconds // 3600:02d}:" if hours or seconds >= 3600 else ""
    return f"{hour}{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{rest:03d}"


# ---- subtitles ------------------------------------------------------------------------------------------------------


def _spoken_cues(
    segments: Sequence[Segment],
    layout: Layout,
    voices: Sequence[str | None],
    named: Callable[[str | None, str], str],
    escaped: Callable[[str], str] = str,
) -> Iterator[tuple[int, int, str]]:
    """``_cues``, with the speaker ``named`` where there are any; each speaker's are laid out alone."""
    if not voices:
        yield from _cues(segments, layout, escaped)
        return
    cues = [
        (start, end, named(voice, text))
        for voice in voices
        for start, end, text in _cues([segment for segment in segments if segment.speaker == voice], layout, escaped)
    ]
    yield from sorted(cues, key=lambda cue: cue[:2])


def _cues(segments: Sequence[Segment], layout: Layout, escaped: Callable[[str], str]) -> Iterator[tuple[int, int, str]]:
    """Start and end in milliseconds and text of every subtitle; widths are counted before it is ``escaped``."""
    if not layout.by_words:
        for segment in segments:
            yield _milliseconds(segment.start), _milliseconds(segment.end), escaped(_harmless(_one_line(segment.text)))
        return
    for words, plain in _subtitles(segments, layout):
        pieces = [escaped(piece) for piece in plain]
        text = "".join(pieces)
        if not layout.highlight_words:
            yield _milliseconds(words[0].start), _milliseconds(words[-1].end), text
            continue
        shown = _milliseconds(words[0].start)
        for i, word in enumerate(words):
            start, end = _milliseconds(word.start), _milliseconds(word.end)
            if shown != start:
                yield shown, start, text  # between two words none is underlined
            yield start, end, "".join([*pieces[:i], _underlined(pieces[i]), *pieces[i + 1 :]])
            shown = end


def _harmless(text: str) -> str:
    """Text without the mark that subtitles take for a line of times, however many dashes it has."""
    return re.sub("-{2,}>", "->", text)


def _underlined(piece: str) -> str:
    return re.sub(r"\S.*", lambda found: f"<u>{found[0]}</u>", piece)


def _subtitles(segments: Sequence[Segment], layout: Layout) -> Iterator[tuple[list[TimedWord], list[str]]]:
    """Words of every subtitle, and as shown: with the space or line break before them.

    With both a width and a count of lines, words flow from segment to segment and only a long pause or a full subtitle
    begins the next; otherwise every segment, and every ``max_words_per_line`` words of one, begin a subtitle.
    """
    flowing = layout.max_line_width is not None and layout.max_line_count is not None
    words: list[TimedWord] = []
    pieces: list[str] = []
    width, lines = 0, 1
    for word, opens in _openings(segments, layout.max_words_per_line):
        text = _harmless(_one_line(word.text))
        paused = flowing and bool(words) and word.start - words[-1].start > _SUBTITLE_PAUSE
        shown = text if word.joined else f" {text}"
        fits = layout.max_line_width is None or width + len(shown) <= layout.max_line_width
        opens = opens and not flowing
        full = layout.max_line_count is not None and lines >= layout.max_line_count
        if words and not opens and not paused and fits:
            piece = shown
            width += len(piece)
        else:
            if words and (opens or (layout.max_line_count is not None and (paused or full))):
                yield words, pieces
                words, pieces, lines = [], [], 1
            lines += bool(words)
            piece = f"\n{text}" if words else text
            width = len(text)
        words.append(word)
        pieces.append(piece)
    if words:
        yield words, pieces


def _openings(segments: Sequence[Segment], most: int | None) -> Iterator[tuple[TimedWord, bool]]:
    """Every word, and whether a segment or a group of ``most`` words begins with it."""
    for segment in segments:
        for i, word in enumerate(_words_of(segment)):
            yield word, i % (most or len(segment.words) or 1) == 0


# ---- label files ----------------------------------------------------------------------------------------------------


def _ctm_line(word: TimedWord, name: str, channel: int) -> str:
    """NIST's time-marked conversation: recording, channel, start, duration, word, confidence, between spaces."""
    recording, text = ("_".join(field.split()) or "_" for field in (name, word.text))
    return f"{recording} {channel} {word.start:.3f} {word.end - word.start:.3f} {text} {word.probability:.4f}\n"


def _tiers(segments: Sequence[Segment], voices: Sequence[str | None]) -> dict[str, list[TimedWord]]:
    """Words by the name of their tier and, where they are known, characters; for each speaker, where there are any."""
    tiers: dict[str, list[TimedWord]] = {}
    for voice in voices or (None,):
        words = _words(segment for segment in segments if segment.speaker == voice)
        whose = "" if voice is None else f"{_one_line(voice)} - "  # as the Montreal Forced Aligner names tiers
        tiers[f"{whose}words"] = words
        if characters := [character for word in words for character in word.characters]:
            tiers[f"{whose}characters"] = characters
    return tiers


def _textgrid(tiers: Mapping[str, Sequence[TimedWord]], duration: float | None) -> str:
    """Praat's long text format: an interval tier for each of ``tiers``."""
    if duration is None:
        duration = max((labels[-1].end for labels in tiers.values() if labels), default=0.0)
    lines = [
        'File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_number(duration)}",
        "tiers? <exists>", f"size = {len(tiers)}", "item []:",
    ]  # fmt: skip
    for i, (tier, labels) in enumerate(tiers.items(), start=1):
        intervals = _filled(labels, duration)
        lines += [
            f"    item [{i}]:", '        class = "IntervalTier"', f'        name = "{_quoted(tier)}"',
            "        xmin = 0",
            f"        xmax = {_number(duration)}", f"        intervals: size = {len(intervals)}",
        ]  # fmt: skip
        for j, (start, end, text) in enumerate(intervals, start=1):
            lines += [f"        intervals [{j}]:", f"            xmin = {start}", f"            xmax = {end}"]
            lines.append(f'            text = "{_quoted(_one_line(text))}"')
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace('"', '""')


def _filled(labels: Sequence[TimedWord], duration: float) -> list[tuple[str, str, str]]:
    """Intervals without a gap from 0 to ``duration``: Praat takes no others. Raises ``InputError``."""
    intervals: list[tuple[str, str, str]] = []
    borders = [(0.0, 0.0, ""), *((label.start, label.end, label.text) for label in labels), (duration, duration, "")]
    for (_, former, _), (start, end, text) in pairwise(borders):
        if start < former or (end <= start and text):
            raise InputError(
                f"{text or 'the end'!r} from {start:g} to {end:g} s follows what ends at {former:g} s: intervals of a "
                "TextGrid must last and not overlap, nor reach beyond the recording"
            )
        if start > former:
            intervals.append((_number(former), _number(start), ""))
        if text:
            intervals.append((_number(start), _number(end), text))
    return intervals or [("0", _number(duration), "")]


def _number(seconds: float) -> str:
    """Seconds to the microsecond, without needless zeros."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
