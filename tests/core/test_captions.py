"""Captions and label files: what whisper's options do, and whatever is written can be read back."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2vec2_core.captions import FORMATS, Layout, Segment, TimedWord, render, segments_of, to_dict
from wav2vec2_core.decoding import Character, Timeline, Word
from wav2vec2_core.errors import InputError

TIMELINE = Timeline(hop=320, receptive_field=400, sampling_rate=16_000)


def spoken(text, start=0, frames=10, gap=5):
    """Words of ``frames`` frames with ``gap`` frames between them."""
    words = []
    for word in text.split():
        size = frames / len(word)
        borders = [start + round(i * size) for i in range(len(word) + 1)]
        spans = zip(word, pairwise(borders), strict=True)
        words.append(Word.of([Character(letter, a, b, 0.5) for letter, (a, b) in spans]))
        start += frames + gap
    return words


def segment(text, start=0.0, seconds=0.4, gap=0.1):
    words = []
    for word in text.split():
        words.append(TimedWord(word, start, start + seconds, 0.75))
        start += seconds + gap
    return Segment.of(words)


# ---- segments -------------------------------------------------------------------------------------------------------


def test_words_in_seconds():
    [only] = segments_of(spoken("ab c", start=50), TIMELINE)
    assert only.text == "ab c"
    assert (only.start, only.end) == (1.0, 1.5)
    first = only.words[0]
    assert (first.text, first.start, first.end, first.probability) == ("ab", 1.0, 1.2, 0.5)
    assert [(c.text, c.start, c.end) for c in first.characters] == [("a", 1.0, 1.1), ("b", 1.1, 1.2)]


def test_a_pause_ends_a_segment():
    words = [*spoken("a b"), *spoken("c d", start=25 + 50), *spoken("e", start=100 + 49)]
    assert [s.text for s in segments_of(words, TIMELINE)] == ["a b", "c d e"]
    assert [s.text for s in segments_of(words, TIMELINE, pause=0.98)] == ["a b", "c d", "e"]
    assert [s.text for s in segments_of(words, TIMELINE, pause=5)] == ["a b c d e"]
    assert segments_of([], TIMELINE) == []


def test_a_long_segment_is_cut_at_its_widest_late_gap():
    words = spoken("a b c d", gap=5) + spoken("e f", start=65, gap=5) + spoken("g h i j", start=90)
    # 0.3 s a word; the gap before e is 0.2 s wide, the others 0.1 s
    assert [s.text for s in segments_of(words, TIMELINE, longest=2.0)] == ["a b c d", "e f g h i j"]
    assert [s.text for s in segments_of(words, TIMELINE, longest=0.01)] == list("abcdefghij")


@given(
    st.lists(st.tuples(st.integers(0, 80), st.integers(1, 60)), max_size=60),
    st.floats(0.02, 2.0),
    st.floats(0.02, 9.0),
)
def test_segments_keep_every_word_and_both_rules(gaps_and_frames, pause, longest):
    words, frame = [], 0
    for gap, frames in gaps_and_frames:
        frame += gap
        words.append(Word.of([Character("x", frame, frame + frames, 0.5)]))
        frame += frames
    segments = segments_of(words, TIMELINE, pause=pause, longest=longest)
    assert [word for s in segments for word in s.words] == [TimedWord.of(word, TIMELINE) for word in words]
    for s in segments:
        assert len(s.words) == 1 or s.end - s.start <= longest + 1e-9
        assert all(b.start - a.end < pause for a, b in pairwise(s.words))
    # Segments come one by one: the end of the recording does not change the first ones.
    shorter = segments_of(words[:-1], TIMELINE, pause=pause, longest=longest)
    assert shorter[:-1] == segments[: max(len(shorter) - 1, 0)]


@pytest.mark.parametrize("bad", [{"pause": 0}, {"longest": -1.0}, {"longest": float("nan")}])
def test_bad_limits(bad):
    with pytest.raises(InputError, match=r"must be a positive number of seconds"):
        segments_of([], TIMELINE, **bad)


# ---- whisper's formats ----------------------------------------------------------------------------------------------

TWO = [segment("three one four"), Segment(3661.5, 3662.0, "a --> b")]


def test_txt_and_tsv():
    assert render(TWO, "txt") == "three one four\na --> b\n"
    assert render(TWO, "tsv") == "start\tend\ttext\n0\t1400\tthree one four\n3661500\t3662000\ta --> b\n"


def test_srt():
    assert render(TWO, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,400\nthree one four\n\n2\n01:01:01,500 --> 01:01:02,000\na -> b\n\n"
    )


def test_vtt():
    assert render(TWO, "vtt") == (
        "WEBVTT\n\n00:00.000 --> 00:01.400\nthree one four\n\n01:01:01.500 --> 01:01:02.000\na -> b\n\n"
    )


@pytest.mark.parametrize(
    ("seconds", "vtt", "srt"),
    [
        (59.9996, "01:00.000", "00:01:00,000"),
        (3599.9996, "01:00:00.000", "01:00:00,000"),
        (3600.0, "01:00:00.000", "01:00:00,000"),
        (35_999.5, "09:59:59.500", "09:59:59,500"),
        (360_000.0, "100:00:00.000", "100:00:00,000"),
    ],
)
def test_clocks_roll_over(seconds, vtt, srt):
    segments = [Segment(0.0, seconds, "a")]
    assert render(segments, "vtt").splitlines()[2].split(" --> ")[1] == vtt
    assert render(segments, "srt").splitlines()[1].split(" --> ")[1] == srt


def test_json():
    written = json.loads(render(TWO, "json", language="eng"))
    assert written == to_dict(TWO, language="eng")
    assert list(written) == ["text", "segments", "language"]
    assert written["text"] == "three one four a --> b"
    first = written["segments"][0]
    assert list(first) == ["id", "start", "end", "text", "words"]
    assert first["words"][1] == {"word": "one", "start": 0.5, "end": 0.9, "probability": 0.75}
    assert "words" not in to_dict(TWO, word_timestamps=False)["segments"][0]


def texts(segments, **options):
    """The texts of the subtitles, ``/`` for a line break."""
    cues = re.findall(r"\n\d\d:.* --> .*\n((?:.+\n)+)", "\n" + render(segments, "srt", layout=Layout(**options)))
    return [cue.strip().replace("\n", "/") for cue in cues]


def test_lines_and_subtitles():
    segments = [segment("one two three four"), segment("five six", start=2.5)]
    assert texts(segments) == ["one two three four", "five six"]
    assert texts(segments, max_line_width=9) == ["one two/three/four", "five six"]
    assert texts(segments, max_line_width=2) == ["one/two/three/four", "five/six"]
    assert texts(segments, max_words_per_line=3) == ["one two three", "four", "five six"]
    assert texts(segments, max_words_per_line=3, max_line_width=7) == ["one two/three", "four", "five/six"]
    assert texts(segments, max_line_count=1) == ["one two three four", "five six"]
    # A width and a count: words flow from segment to segment.
    assert texts(segments, max_line_width=10, max_line_count=1) == ["one two", "three four", "five six"]
    assert texts(segments, max_line_width=10, max_line_count=2) == ["one two/three four", "five six"]
    assert texts(segments, max_line_width=16, max_line_count=1) == ["one two three", "four five six"]
    # ... except over a long pause.
    late = [segments[0], segment("five six", start=1.5 + 3.01)]
    assert texts(late, max_line_width=16, max_line_count=2) == ["one two three/four", "five six"]


def test_highlighted_words():
    assert render([segment("a b")], "vtt", layout=Layout(highlight_words=True)) == (
        "WEBVTT\n\n00:00.000 --> 00:00.400\n<u>a</u> b\n\n00:00.400 --> 00:00.500\na b\n\n"
        "00:00.500 --> 00:00.900\na <u>b</u>\n\n"
    )
    lines = texts([segment("aa bb", gap=0.0)], highlight_words=True, max_line_width=3)
    assert lines == ["<u>aa</u>/bb", "aa/<u>bb</u>"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_line_width": 0}, "max_line_width=0 must be an integer of 1 or more"),
        ({"max_line_count": True}, "max_line_count=True must be an integer"),
        ({"max_words_per_line": 2, "word_timestamps": False}, "need word_timestamps"),
    ],
)
def test_bad_layouts(options, message):
    with pytest.raises(InputError, match=message):
        Layout(**options)


def test_unknown_format():
    with pytest.raises(
        InputError, match="'doc' is unknown: use one of txt, srt, vtt, tsv, json, ctm, textgrid, audacity"
    ):
        render([], "doc")


# ---- label files ----------------------------------------------------------------------------------------------------


def test_ctm():
    assert render([segment("a b")], "ctm", name="my tape") == (
        "my_tape 1 0.000 0.400 a 0.7500\nmy_tape 1 0.500 0.400 b 0.7500\n"
    )


def test_audacity():
    assert render([segment("a b")], "audacity") == "0.000000\t0.400000\ta\n0.500000\t0.900000\tb\n"


def test_textgrid():
    written = render(segments_of(spoken('a"', start=10), TIMELINE), "textgrid", duration=1.5)
    assert written.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 1.5\n')
    assert read_textgrid(written) == {
        "words": [(0, 0.2, ""), (0.2, 0.4, 'a"'), (0.4, 1.5, "")],
        "characters": [(0, 0.2, ""), (0.2, 0.3, "a"), (0.3, 0.4, '"'), (0.4, 1.5, "")],
    }
    assert read_textgrid(render([], "textgrid", duration=2.0)) == {"words": [(0, 2.0, "")]}


@pytest.mark.parametrize(
    ("words", "duration", "message"),
    [
        ([TimedWord("a", 0.0, 1.0, 1.0), TimedWord("b", 0.9, 2.0, 1.0)], None, "'b' from 0.9 to 2 s follows .* 1 s"),
        ([TimedWord("a", 0.5, 0.5, 1.0)], None, "'a' from 0.5 to 0.5 s"),
        ([TimedWord("a", 0.5, 0.8, 1.0)], 0.7, "'the end' from 0.7 to 0.7 s follows what ends at 0.8 s"),
    ],
)
def test_textgrids_that_praat_would_refuse(words, duration, message):
    with pytest.raises(InputError, match=message):
        render([Segment.of(words)], "textgrid", duration=duration)


# ---- whatever is written can be read back ---------------------------------------------------------------------------

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(lambda text: text.split())


@st.composite
def transcripts(draw):
    segments, time = [], 0
    for _ in range(draw(st.integers(0, 4))):
        words = []
        for text in draw(st.lists(WORDS, min_size=1, max_size=5)):
            time += draw(st.integers(0, 5_000))
            end = time + draw(st.integers(1, 900_000))
            words.append(TimedWord(text, time / 1000, end / 1000, draw(st.floats(0, 1))))
            time = end
        segments.append(Segment.of(words))
    return segments


def folded(text):
    return " ".join(text.split())


def read_clock(text):
    hours, minutes, seconds = (["00", *text.split(":")])[-3:]
    assert len(minutes) == len(seconds.split(".")[0]) == 2
    return 3_600_000 * int(hours) + 60_000 * int(minutes) + round(1000 * float(seconds))


def read_cues(text):
    """(start, end, lines) of the blocks of an SRT or VTT file; blocks are apart by an empty line."""
    for block in text.split("\n\n"):
        lines = block.split("\n")
        index = next((i for i, line in enumerate(lines) if "-->" in line), None)
        if index is not None:
            start, end = lines[index].replace(",", ".").split(" --> ")
            yield read_clock(start), read_clock(end), lines[index + 1 :]


def read_textgrid(text):
    """Tier -> (start, end, text), by the tokens alone, as Praat reads: numbers, quoted text, flags."""
    tokens = re.findall(r'"((?:[^"]|"")*)"|(?<= )(\d[\d.]*)(?=\n)|<exists>', text)
    values = iter([quoted.replace('""', '"') if number == "" else float(number) for quoted, number in tokens])
    assert [next(values) for _ in range(3)] == ["ooTextFile", "TextGrid", 0.0]
    end, _exists, tiers = next(values), next(values), int(next(values))
    result = {}
    for _ in range(tiers):
        assert next(values) == "IntervalTier"
        name, first, last, count = (next(values) for _ in range(4))
        assert (first, last) == (0.0, end)
        result[name] = [(next(values), next(values), next(values)) for _ in range(int(count))]
    assert next(values, None) is None
    return result


@given(transcripts(), st.sampled_from(["srt", "vtt"]))
def test_subtitles_read_back(segments, output_format):
    content = render(segments, output_format)
    if output_format == "vtt":
        assert "&" not in re.sub("&(amp|lt);", "", content)
        content = content.replace("&lt;", "<").replace("&amp;", "&")
    assert list(read_cues(content)) == [
        (round(1000 * s.start), round(1000 * s.end), [folded(s.text).replace("-->", "->")]) for s in segments
    ]


@pytest.mark.parametrize("output_format", ["srt", "vtt"])
@pytest.mark.parametrize("options", [{}, {"max_line_width": 40}, {"highlight_words": True}])
@pytest.mark.parametrize("speaker", [None, "x--"])
def test_no_text_makes_a_line_of_times(output_format, options, speaker):
    texts = ["--->", "a-->b", "---->>", "-->-->", "--", ">", "-", "->", "-- >"]
    words = [TimedWord(text, i, i + 1, 0.5, joined=i in (5, 7)) for i, text in enumerate(texts)]
    cues = render([replace(Segment.of(words), speaker=speaker)], output_format, layout=Layout(**options))
    times = [line for line in cues.splitlines() if "-->" in line]
    assert all(re.fullmatch(r"[\d:.,]+ --> [\d:.,]+", line) for line in times)
    assert cues.count("-->") == len(times) > 0


def test_hours_beyond_two_digits():
    late = [Segment(359_999.9996, 360_001, "late")]
    assert render(late, "srt").splitlines()[1] == "100:00:00,000 --> 100:00:01,000"
    assert render(late, "vtt").splitlines()[2] == "100:00:00.000 --> 100:00:01.000"


@given(
    transcripts(),
    st.one_of(st.none(), st.integers(1, 30)),
    st.one_of(st.none(), st.integers(1, 3)),
    st.one_of(st.none(), st.integers(1, 4)),
    st.booleans(),
)
def test_any_layout_shows_every_word_in_order(segments, width, count, most, highlight):
    layout = Layout(max_line_width=width, max_line_count=count, max_words_per_line=most, highlight_words=highlight)
    cues = list(read_cues(render(segments, "srt", layout=layout)))
    times = [time for start, end, _ in cues for time in (start, end)]
    assert times == sorted(times)
    words = [folded(word.text).replace("-->", "->") for s in segments for word in s.words]
    shown = [" ".join(lines) for _, _, lines in cues]
    if highlight:
        shown = [re.search(r"<u>(.*)</u>", cue)[1] for cue in shown if "<u>" in cue]
    assert " ".join(shown) == " ".join(words)
    for _, _, lines in cues:
        bare = [re.sub("</?u>", "", line) for line in lines]
        assert count is None or width is None or len(lines) <= count
        assert width is None or all(len(line) <= width or line in words for line in bare)


@given(transcripts())
def test_rows_read_back(segments):
    header, *rows = [line.split("\t") for line in render(segments, "tsv").split("\n")[:-1]]
    assert header == ["start", "end", "text"]
    assert rows == [[str(round(1000 * s.start)), str(round(1000 * s.end)), folded(s.text)] for s in segments]
    words = [word for s in segments for word in s.words]
    labels = [line.split("\t") for line in render(segments, "audacity").split("\n")[:-1]]
    assert [(float(a), float(b), text) for a, b, text in labels] == [(w.start, w.end, folded(w.text)) for w in words]
    columns = [line.split() for line in render(segments, "ctm", name="x").split("\n")[:-1]]
    assert [(c[0], c[1], float(c[2]), c[4]) for c in columns] == [
        ("x", "1", w.start, folded(w.text).replace(" ", "_")) for w in words
    ]
    assert all(float(c[3]) == pytest.approx(w.end - w.start) for c, w in zip(columns, words, strict=True))


@given(transcripts())
def test_json_reads_back(segments):
    written = json.loads(render(segments, "json"))
    assert [entry["id"] for entry in written["segments"]] == list(range(len(segments)))
    again = [
        Segment(
            entry["start"],
            entry["end"],
            entry["text"],
            tuple(TimedWord(w["word"], w["start"], w["end"], pytest.approx(w["probability"])) for w in entry["words"]),
        )
        for entry in written["segments"]
    ]
    assert [(s.start, s.end, s.text) for s in again] == [(s.start, s.end, s.text) for s in segments]
    for mine, theirs in zip(again, segments, strict=True):
        assert [(w.text, w.start, w.end) for w in mine.words] == [(w.text, w.start, w.end) for w in theirs.words]
        assert all(
            abs(a.probability.expected - b.probability) < 1e-4 for a, b in zip(mine.words, theirs.words, strict=True)
        )


@given(transcripts(), st.integers(0, 1000))
def test_textgrids_read_back(segments, rest):
    words = [word for s in segments for word in s.words]
    duration = (words[-1].end if words else 0.0) + rest / 1000
    [(_, intervals)] = read_textgrid(render(segments, "textgrid", duration=duration)).items()
    assert [i for i in intervals if i[2]] == [(w.start, w.end, folded(w.text)) for w in words]
    assert intervals[0][0] == 0
    assert intervals[-1][1] == pytest.approx(duration)
    assert all(a[1] == b[0] for a, b in pairwise(intervals))


def test_names_of_formats_are_what_render_knows():
    for name in FORMATS:
        assert isinstance(render([segment("a b")], name), str)


# ---- speakers -------------------------------------------------------------------------------------------------------


def conversation():
    """Two speakers who overlap, in order of time, and a third who says nothing."""
    left, right = segment("good morning", 0.2), segment("oh hello", 0.6)
    again = segment("shall we", 4.0)
    return [replace(one, speaker=speaker) for one, speaker in ((left, "left"), (right, "right"), (again, "left"))], (
        "left",
        "right",
        "third",
    )


def test_speakers_in_every_format():
    segments, speakers = conversation()
    made = {name: render(segments, name, name="talk", speakers=speakers) for name in FORMATS if name != "audacity"}
    assert [(entry["speaker"], entry["text"]) for entry in json.loads(made["json"])["segments"]] == [
        ("left", "good morning"),
        ("right", "oh hello"),
        ("left", "shall we"),
    ]
    assert made["txt"] == "left: good morning\nright: oh hello\nleft: shall we\n"
    assert made["srt"].splitlines()[:6] == [
        "1", "00:00:00,200 --> 00:00:01,100", "left: good morning", "", "2", "00:00:00,600 --> 00:00:01,500",
    ]  # fmt: skip
    assert re.findall(r"<v .*", made["vtt"]) == ["<v left>good morning", "<v right>oh hello", "<v left>shall we"]
    assert made["tsv"].splitlines()[:2] == ["start\tend\ttext\tspeaker", "200\t1100\tgood morning\tleft"]
    assert [line.split()[1] for line in made["ctm"].splitlines()] == ["1", "1", "2", "2", "1", "1"]
    tiers = re.findall(r'class = "IntervalTier"\s+name = "(.*)"', made["textgrid"])
    assert tiers == ["left - words", "right - words", "third - words"]
    assert made["textgrid"].count('text = "oh"') == made["textgrid"].count('text = "shall"') == 1


def test_speakers_that_a_format_cannot_name_are_refused():
    segments, speakers = conversation()
    with pytest.raises(InputError, match="audacity have no place for speakers: use json, textgrid"):
        render(segments, "audacity")
    with pytest.raises(InputError, match="audacity have no place for speakers"):
        render([], "audacity", speakers=speakers)


@pytest.mark.parametrize("layout", [Layout(max_line_width=5, max_line_count=1), Layout(highlight_words=True)])
def test_subtitles_never_hold_words_of_two_speakers(layout):
    segments, _ = conversation()
    words = {"left": {"good", "morning", "shall", "we"}, "right": {"oh", "hello"}}
    for output_format, pattern in (("srt", r"^(left|right): (.*)"), ("vtt", r"<v (left|right)>(.*)")):
        cues = re.findall(pattern, render(segments, output_format, layout=layout), re.MULTILINE)
        assert {speaker for speaker, _ in cues} == words.keys()
        for speaker, text in cues:
            assert {*re.sub("<.*?>", "", text).split()} <= words[speaker]


def test_a_speaker_of_any_name_harms_no_format():
    segments = [Segment(0, 1, "yes", speaker='a"b\n<c> --> &d\te')]
    assert render(segments, "vtt").count("-->") == 1
    assert '<v a"b &lt;c&gt; -&gt; &amp;d e>yes' in render(segments, "vtt")
    assert 'name = "a""b <c> --> &d e - words"' in render(segments, "textgrid")
    assert render(segments, "tsv").count("\t") == 6


def test_a_stretch_is_on_the_clock_of_its_recording():
    whole, stretch = TIMELINE, TIMELINE.starting_at(2.5)
    assert (stretch.seconds(0), stretch.seconds(50)) == (2.5, 3.5)
    assert stretch.frame_at(3.5) == 50
    for one, other in zip(segments_of(spoken("ab c"), whole), segments_of(spoken("ab c"), stretch), strict=True):
        assert (other.start, other.end) == (one.start + 2.5, one.end + 2.5)
        assert other.words[0].characters[1].start == one.words[0].characters[1].start + 2.5
