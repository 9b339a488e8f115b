"""What the command makes of recordings: tracks, channels, damage, standard input, clocks, and names of any bytes."""

import io
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from command_results import one_error

from wav2vec2_core.audio import read_audio
from wav2vec2_core.audio.selection import find_sources
from wav2vec2_core.captions import FORMATS
from wav2vec2_core.data.manifest import Utterance, read_manifest, write_manifest
from wav2vec2_core.errors import InputError
from wav2vec2_core.transcription import EMBEDDED_MODEL

ROOT = Path(__file__).parents[2]
THREE_ONE_FOUR = ROOT / "samples" / "three-one-four.flac"
TWO_SEVEN = ROOT / "samples" / "two-seven-one-eight.flac"
MODEL = ("--model", EMBEDDED_MODEL)


@pytest.fixture
def stereo(tmp_path):
    """An interview: one says "three one four" on the left, then the other "two seven one eight" on the right."""
    left, right = read_audio(THREE_ONE_FOUR), read_audio(TWO_SEVEN)
    channels = np.zeros((len(left) + len(right), 2), np.float32)
    channels[: len(left), 0], channels[len(left) :, 1] = left, right
    soundfile.write(tmp_path / "stereo.wav", channels, 16_000)
    return tmp_path / "stereo.wav"


@pytest.fixture
def film(tmp_path):
    """A video with two tracks, English and German, whose first begins half a second late."""
    av = pytest.importorskip("av", reason="PyAV comes with the media extra")
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        streams = []
        for source, language in ((THREE_ONE_FOUR, "eng"), (TWO_SEVEN, "deu")):
            stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
            stream.metadata["language"] = language
            streams.append((stream, (read_audio(source) * 32767).astype(np.int16)))
        for start in range(0, 48_000, 1024):
            for (stream, samples), late in zip(streams, (0, 8_000), strict=True):
                piece = samples[start : start + 1024]
                if len(piece):
                    frame = av.AudioFrame.from_ndarray(piece[None], format="s16", layout="mono")
                    frame.sample_rate, frame.pts = 16_000, late + start
                    container.mux(stream.encode(frame))
        for stream, _ in streams:
            container.mux(stream.encode(None))
    return path


# ---- channels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "text"),
    [("mix", "three one four two seven one eight"), ("left", "three one four"), ("1", "two seven one eight")],
)
def test_one_channel(command, stereo, channel, text):
    assert command("transcribe", stereo, "--channel", channel, *MODEL) == (0, f"{text}\n", "")


def test_each_channel_a_speaker(command, stereo, tmp_path):
    split = ("transcribe", stereo, "--channel", "split", *MODEL)
    assert command(*split) == (0, "left: three one four\nright: two seven one eight\n", "")
    code, out, err = command(*split, THREE_ONE_FOUR, tmp_path / "gone.wav")
    assert code == 1
    assert out.splitlines() == [
        f"{stereo}\tleft: three one four",
        f"{stereo}\tright: two seven one eight",
        f"{THREE_ONE_FOUR}\t0: three one four",
    ]
    assert re.fullmatch(r"error: .*gone\.wav does not exist: check the path\n", err)
    entry = json.loads(command(*split, "-f", "json")[1])
    assert [(one["speaker"], one["text"]) for one in entry["segments"]] == [
        ("left", "three one four"), ("right", "two seven one eight"),
    ]  # fmt: skip
    assert entry["segments"][1]["words"][0]["start"] > 2
    for output_format, says in (
        ("vtt", "<v left>three one four\n"), ("srt", "right: two seven one eight\n"), ("tsv", "\tthree one four\tleft"),
        ("ctm", "stereo 2 "), ("textgrid", 'name = "right - words"'),
    ):  # fmt: skip
        assert says in command(*split, "-f", output_format)[1]
    assert command(*split, "-f", "all", "-o", tmp_path / "out")[0] == 0
    assert len([*(tmp_path / "out").iterdir()]) == 5


def test_channels_that_cannot_be(command, stereo, tmp_path):
    one_error(command("transcribe", stereo, "--channel", "top", *MODEL), "channel 'top' is not possible here")
    one_error(
        command("transcribe", stereo, "--channel", "2", *MODEL), "stereo.wav has 2 channels: there is no channel 2"
    )
    one_error(command("transcribe", stereo, "--channel", "split", "-f", "audacity", *MODEL), "no place for speakers")
    embed = ("embed", stereo, "-o", tmp_path / "out", "--channel", "split")
    one_error(command(*embed), "channel 'split' is not possible here: use mix, left, right or a number from 0")
    assert not (tmp_path / "out").exists()


def test_channels_that_cancel_each_other_are_noted(command, tmp_path):
    samples = read_audio(THREE_ONE_FOUR)
    soundfile.write(tmp_path / "a.wav", np.stack([samples, -samples], 1), 16_000)
    code, out, err = command("transcribe", tmp_path / "a.wav", *MODEL)
    assert (code, out) == (0, "three one four\n")
    assert re.fullmatch(r"note: .*a\.wav: its channels cancel each other .*\n", err)


def test_every_command_reads_the_channel_that_is_asked_for(command, stereo, tmp_path):
    rows = [{"audio_filepath": str(stereo), "text": "two seven one eight"}]
    (tmp_path / "m.jsonl").write_text(json.dumps(rows[0]))
    (tmp_path / "t.txt").write_text("two seven one eight")
    assert "WER 0.00%" in command("evaluate", tmp_path / "m.jsonl", "--channel", "right", *MODEL)[1]
    assert "WER 0.00%" not in command("evaluate", tmp_path / "m.jsonl", "--channel", "left", *MODEL)[1]
    found = json.loads(command("align", stereo, tmp_path / "t.txt", "--channel", "right", *MODEL)[1])
    words = [word for segment in found["segments"] for word in segment["words"]]
    assert min(word["probability"] for word in words) > 0.3
    assert words[0]["start"] > 2
    alone = tmp_path / "alone.wav"
    soundfile.write(alone, soundfile.read(stereo)[0][:, 1], 16_000)
    for name, options in (("one", (stereo, "--channel", "right")), ("two", (alone,))):
        assert command("embed", *options, "-o", tmp_path / name)[0] == 0
    with np.load(tmp_path / "one" / "stereo.npz") as one, np.load(tmp_path / "two" / "alone.npz") as two:
        assert all(np.array_equal(one[name], two[name]) for name in one)


# ---- tracks and clocks ----------------------------------------------------------------------------------------------


def test_tracks(command, film):
    code, out, err = command("transcribe", film, *MODEL)
    assert (code, out) == (0, "three one four\n")
    assert re.fullmatch(r"note: .*film\.mkv has 2 audio tracks: .*eng.*deu.*track 0 is read.*\n", err)
    for track in ("1", "deu"):
        code, out, _ = command("transcribe", film, "--audio-track", track, *MODEL)
        assert (code, out) == (0, "two seven one eight\n")
    one_error(command("transcribe", film, "--audio-track", "fra", *MODEL), "film.mkv has no audio track 'fra'")


def test_captions_are_on_the_clock_of_the_film(command, film, tmp_path):
    entry = json.loads(command("transcribe", film, "--audio-track", "1", "-f", "json", *MODEL)[1])
    alone = json.loads(command("transcribe", TWO_SEVEN, "-f", "json", *MODEL)[1])
    for one, other in zip(entry["segments"][0]["words"], alone["segments"][0]["words"], strict=True):
        assert one["start"] == pytest.approx(other["start"] + 0.5, abs=0.05)
    (tmp_path / "t.txt").write_text("two seven one eight")
    found = json.loads(command("align", film, tmp_path / "t.txt", "--audio-track", "1", *MODEL)[1])
    assert found["segments"][0]["words"][0]["start"] == pytest.approx(
        alone["segments"][0]["words"][0]["start"] + 0.5, abs=0.06
    )


# ---- damage ---------------------------------------------------------------------------------------------------------


def test_damaged_recordings_are_refused_or_kept(command, tmp_path):
    content = TWO_SEVEN.read_bytes()
    cut = tmp_path / "cut.flac"
    cut.write_bytes(content[: len(content) * 7 // 10])
    one_error(command("transcribe", cut, *MODEL), "cut.flac is ", "download or export it again")
    keep = ("--on-damage", "keep", *MODEL)
    code, out, err = command("transcribe", cut, THREE_ONE_FOUR, "-f", "json", *keep)
    assert code == 0
    damaged, whole = (json.loads(line) for line in out.splitlines())
    assert damaged["text"].startswith("two seven")
    assert "damage" not in whole
    seconds = damaged["damage"]["seconds"]
    assert 1 < seconds < 2.5
    assert damaged["damage"]["reason"]
    assert re.fullmatch(rf"note: .*cut\.flac .*{seconds:.2f} s could be read\n", err)
    (tmp_path / "t.txt").write_text("two seven")
    code, out, err = command("align", cut, tmp_path / "t.txt", *keep)
    assert (code, json.loads(out)["damage"], err.count("note: ")) == (0, damaged["damage"], 1)
    code, out, err = command("embed", cut, "-o", tmp_path / "out", "--on-damage", "keep")
    assert (code, err.count("note: ")) == (0, 1)
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio_filepath": "cut.flac", "text": "two seven"}))
    code, _, err = command("evaluate", tmp_path / "m.jsonl", *keep)
    assert (code, err.count("note: ")) == (0, 1)


# ---- standard input -------------------------------------------------------------------------------------------------


def test_standard_input_makes_no_file(command, film, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.mkstemp", lambda *arguments, **options: pytest.fail("a temporary file"))
    monkeypatch.setattr("tempfile.mkdtemp", lambda *arguments, **options: pytest.fail("a temporary folder"))
    for content, options, text in (
        (THREE_ONE_FOUR.read_bytes(), (), "three one four"),
        (film.read_bytes(), ("--audio-track", "deu"), "two seven one eight"),
    ):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        assert command("transcribe", "-", *options, *MODEL)[:2] == (0, f"{text}\n")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"no audio " * 99)))
    one_error(command("transcribe", "-", *MODEL), "standard input")


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path):
    """A recording whose name is not UTF-8, and one whose name is but that cannot be read."""
    good, bad = tmp_path / "in" / os.fsdecode(b"z\xff\xfe.flac"), tmp_path / "in" / os.fsdecode(b"a\xff.flac")
    good.parent.mkdir()
    try:
        good.write_bytes(THREE_ONE_FOUR.read_bytes())
    except OSError:
        pytest.skip("this file system takes no names that are not UTF-8")
    bad.write_bytes(b"no audio " * 99)
    return good, bad


def test_names_that_are_not_utf8(command, odd, tmp_path):
    good, bad = odd
    stem = os.fsdecode(b"z\xff\xfe")
    code, out, err = command("transcribe", good, bad, *MODEL)
    assert (code, out) == (1, f"{tmp_path}/in/z\\xff\\xfe.flac\tthree one four\n")
    assert err.startswith("error: ")
    assert "a\\xff.flac" in err
    assert err.count("\n") == 1
    entry = json.loads(command("transcribe", good, "-f", "json", *MODEL)[1])
    assert entry["file"] == str(good)
    for name in FORMATS:
        assert command("transcribe", good, "-f", name, "-o", tmp_path / "out", *MODEL) == (0, "", "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{stem}.{end}" for end in FORMATS.values()}
    assert (tmp_path / "out" / f"{stem}.ctm").read_text().startswith("z\\xff\\xfe 1 ")
    assert command("transcribe", good, "-f", "ctm", *MODEL)[1].startswith("z\\xff\\xfe 1 ")
    assert command("embed", good, "-o", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / f"{stem}.npz").is_file()


def test_manifests_of_names_that_are_not_utf8(command, odd, tmp_path):
    good, bad = odd
    manifest = tmp_path / "m.jsonl"
    utterances = [Utterance(good, "three one four"), Utterance(bad, "one")]
    write_manifest(manifest, utterances)
    assert manifest.read_bytes().isascii()
    assert list(read_manifest(manifest)) == utterances
    for name in ("m.csv", "m.tsv"):
        with pytest.raises(InputError, match=r"is not UTF-8, which .* must be: write \.jsonl, or rename it"):
            write_manifest(tmp_path / name, utterances)
    code, out, err = command("align", "--manifest", manifest, *MODEL)
    assert (code, json.loads(out)["file"]) == (1, str(good))
    assert "a\\xff.flac" in err
    for output in ("rows.json", "rows.tsv"):
        code, out, err = command("evaluate", manifest, "-o", tmp_path / output, *MODEL)
        assert code == 1
        assert "1 failed" in out
        assert err.count("error: ") == 1
    assert json.loads((tmp_path / "rows.json").read_text())["rows"][0]["path"] == str(good)
    assert "z\\xff\\xfe.flac\t" in (tmp_path / "rows.tsv").read_text()


def test_a_folder_of_odd_names_loses_none(odd):
    assert {source.path for source in find_sources([str(odd[0].parent)])} == set(odd)
