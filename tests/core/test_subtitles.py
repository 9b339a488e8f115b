"""Subtitles as text: what is said, and nothing else of them."""

import pytest

from wav2vec2_core.captions import Layout, Segment, TimedWord, render
from wav2vec2_core.errors import InputError
from wav2vec2_core.subtitles import spoken_lines


def test_srt():
    text = (
        "1\n00:00:01,000 --> 00:00:02,500\n<i>Good</i> morning\n7 o'clock\n\n2\n100:00:02,500 --> 100:00:03,000\n12\n"
    )
    assert spoken_lines(text) == ["Good morning 7 o'clock", "12"]
    assert spoken_lines(text.replace("\n", "\r\n")) == ["Good morning 7 o'clock", "12"]


def test_srt_without_empty_lines():
    text = "1\n00:00:01,000 --> 00:00:02,500\none\n2\n00:00:02,500 --> 00:00:03,000 X1:1\n{\\an8}two\n"
    assert spoken_lines(text) == ["one", "two"]


def test_no_line_of_srt_is_lost():
    text = "\ufeff1\n00:00:01,000 --> 00:00:02,500\none\n\ntwo\n\n2\n00:00:02,500 --> 00:00:03,000\nthree\n"
    assert spoken_lines(text) == ["one two", "three"]


@pytest.mark.parametrize("times", ["00:00:02,500 -> 00:00:03,000", "00:00:02,500 --> ", "0:02 \u2013> 0:03"])
@pytest.mark.parametrize("first", ["1\n00:00:01,000 --> 00:00:02,500\none\n\n", "WEBVTT\n\n", ""])
def test_times_that_cannot_be_read_are_an_error(times, first):
    with pytest.raises(InputError, match=rf"^line {first.count(chr(10)) + 2}, .*mend the times"):
        spoken_lines(f"{first}2\n{times}\nfour\n")


def test_webvtt():
    text = (
        "\ufeffWEBVTT - a title\nKind: captions\n\nNOTE\nnot said\n\nSTYLE\n::cue {color: red}\n\n"
        "intro\n00:01.000 --> 00:02.000 align:start\n<v Anna>R&amp;D &lt; <00:01.500><c.loud>you</c>\n\n"
        "01:00:02.000 --> 01:00:03.000\nyes\n"
    )
    assert spoken_lines(text) == ["R&D < you", "yes"]
    assert spoken_lines("WEBVTT") == []


@pytest.mark.parametrize(
    "text", ["one\ntwo", "", "12\n13:00 a --> b", "WEBVTTX\none", "a <i>b</i> &amp; c", "1\n\n2", "3 -> 4"]
)
def test_other_texts_stay_as_they_are(text):
    assert spoken_lines(text) == text.splitlines()


@pytest.mark.parametrize("output_format", ["srt", "vtt"])
@pytest.mark.parametrize("width", [None, 8])
def test_what_is_written_is_read(output_format, width):
    texts = ["R&D", "a<b", "&amp;", "one", "12"]
    segments = [Segment.of([TimedWord(text, i, i + 1, 0.5), TimedWord("so", i + 1, i + 1.5, 0.5)]) for i, text in
                enumerate(texts)]  # fmt: skip
    written = render(segments, output_format, layout=Layout(max_line_width=width))
    assert spoken_lines(written) == [f"{text} so" for text in texts]
