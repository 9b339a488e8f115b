"""From what a user names to recordings and the places of their results."""

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from wav2vec2_core.audio.selection import find_sources, output_paths
from wav2vec2_core.errors import AudioError, InputError


@pytest.fixture
def tree(tmp_path):
    for name in ("b.wav", "a.MP3", "notes.txt", "sub/c.flac", "sub/deep/d.mp4", ".hidden/e.wav", ".f.wav", "v1.2.ogg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "in"


def found(*named, **options):
    return [(one.path, str(one.relative)) for one in find_sources([str(name) for name in named], **options)]


def test_folders(tree):
    here = [(tree / "a.MP3", "a"), (tree / "b.wav", "b"), (tree / "v1.2.ogg", "v1.2")]
    assert found(tree) == here
    deeper = [(tree / "sub" / "c.flac", "sub/c"), (tree / "sub" / "deep" / "d.mp4", "sub/deep/d")]
    assert found(tree, recursive=True) == [*here, *deeper]


def test_patterns(tree):
    assert found(tree / "*.wav") == [(tree / "b.wav", "b")]
    assert found(tree / "**" / "*.*4") == [(tree / "sub" / "deep" / "d.mp4", "sub/deep/d")]
    strange = tree / "what[1].wav"
    strange.write_bytes(b"x")
    assert found(strange) == [(strange, "what[1]")]  # a file of that name is no pattern


def test_a_file_is_taken_whatever_its_name(tree):
    assert found(tree / "notes.txt", tree / "none") == [(tree / "notes.txt", "notes"), (tree / "none", "none")]


def test_each_recording_once(tree):
    assert len(found(tree / "b.wav", tree, tree / "*.wav")) == 3


def test_nothing_there(tree):
    for name, message in ((tree / "*.aiff", "matches no file"), (tree / "sub" / "deep" / "x*", "matches no file")):
        with pytest.raises(InputError, match=message):
            found(name)
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match="holds no recording: name another or add --recursive"):
        found(tree / "empty")


def test_standard_input(monkeypatch):
    content = io.BytesIO()
    samples = np.linspace(-0.5, 0.5, 1600, dtype=np.float32)
    soundfile.write(content, samples, 16_000, format="wav", subtype="FLOAT")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content.getvalue())))
    (source,) = find_sources(["-", "-"])
    assert (source.name, str(source.relative)) == ("-", "stdin")
    recording = source.recording(channel="left")
    assert (recording.path, recording.channel) == (None, "left")
    assert np.array_equal(recording.read(), samples)
    assert np.array_equal(recording.read(), samples)  # also a second time
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    with pytest.raises(AudioError, match="standard input is empty"):
        found("-")


def test_names_of_any_kind(tmp_path):
    names = ["line\nbreak.wav", "naïve ☃ 語.wav", "-dash.wav", " space .wav", os.fsdecode(b"bytes\xff.wav")]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert sorted(path.name for path, _ in found(tmp_path)) == sorted(names)


def test_places_of_results(tree):
    targets = output_paths(find_sources([str(tree)], recursive=True), Path("out"), ["txt", "srt"])
    assert targets[tree / "sub" / "c.flac"] == [Path("out/sub/c.txt"), Path("out/sub/c.srt")]
    assert targets[tree / "v1.2.ogg"][0] == Path("out/v1.2.txt")
    (tree / "b.flac").write_bytes(b"x")
    with pytest.raises(InputError, match=r"b\.flac and .*b\.wav would both be"):
        output_paths(find_sources([str(tree)]), Path("out"), ["txt"])


@pytest.mark.parametrize(
    "name", ["https://example.com/speech.mp3", "http://example.com/a.wav?x=1", "s3://bucket/a.flac"]
)
def test_addresses_are_said_to_be_addresses(name):
    (source,) = find_sources([name])
    with pytest.raises(AudioError, match="is an address, only files are read: download it"):
        source.recording()
