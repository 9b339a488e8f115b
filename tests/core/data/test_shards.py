"""Tar shards: names that stand for several, samples and their columns, and what is wrong with them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from written_shards import sound, write_shard, write_tar

from wav2vec2_core.data.opening import open_rows
from wav2vec2_core.data.shards import find_shards
from wav2vec2_core.errors import AudioError, InputError

SPEECH = Path(__file__).parents[3].parent / "shared" / "data" / "speechocean762"


def test_samples_have_text_columns_and_sound(tmp_path):
    (row, *others) = open_rows(write_shard(tmp_path / "a.tar", 4))
    assert (row.text, row.columns, len(others)) == (
        "text 0",
        {"speaker": "s0", "text": "other"},
        3,
    )  # key.txt before key.json
    assert row.path == tmp_path / "a.tar" / "0000.flac"
    (tmp_path / "0.flac").write_bytes(sound())
    assert np.array_equal(row.recording().read(), soundfile.read(tmp_path / "0.flac", dtype="float32")[0])


def test_a_stretch_of_a_member_and_another_rate(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"1.wav": sound(1, 8000, format="WAV"), "1.json": b'{"sentence": "hallo"}'})
    (row,) = open_rows(path)
    assert (row.text, row.columns) == ("hallo", {})
    assert len(row.recording().read()) == 16_000
    assert len(row.recording(sampling_rate=8000).read()) == 8000


def test_keys_end_at_the_first_dot_and_keep_their_folder(tmp_path):
    files = {"a/1.flac": sound(), "b/1.FLAC": sound(seed=1), "a/1.txt": b"one", "b/1.txt": b"two", "b/1.seg.npy": b"x"}
    rows = open_rows(write_tar(tmp_path / "a.tar", {**files, "__meta.json": b"{", "._1.flac": b""}))
    assert [(row.text, row.path.name) for row in rows] == [("one", "1.flac"), ("two", "1.FLAC")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.mic.flac": b"x", "1.txt": b"a"}, r"holds no recording: it has names that end in mic.flac, txt"),
        ({"1.flac": b"x", "1.wav": b"x"}, "key '1' has two files for its audio"),
        ({"1.flac": b"x", "1.txt": b"\xff"}, "'1.txt' is not UTF-8"),
        ({"1.flac": b"x", "1.json": b"{"}, "the .json of '1' is not JSON"),
        ({"1.flac": b"x", "1.json": b"[1]"}, "the .json of '1' is a JSON list"),
        ({}, "holds no recording: it has names that end in nothing"),
    ],
)
def test_what_is_wrong_in_a_shard_is_named(tmp_path, files, message):
    with pytest.raises(InputError, match=message):
        open_rows(write_tar(tmp_path / "a.tar", files))


def test_a_text_without_its_recording_is_a_row_that_cannot_be_read(tmp_path):
    rows = open_rows(write_tar(tmp_path / "a.tar", {"1.flac": sound(), "2.txt": b"gone"}))
    assert len(rows) == 2
    with pytest.raises(AudioError, match="has a text for '2' and no recording"):
        rows[1].recording()


def test_one_error_names_every_damaged_shard(tmp_path):
    for number in range(3):
        write_shard(tmp_path / f"{number}.tar", 1)
    for number in (0, 2):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(AudioError, match=r"2 of 3 shards are damaged: .*0\.tar is damaged.*2\.tar is damaged"):
        open_rows(tmp_path)


def test_names_stand_for_shards(tmp_path):
    for name in ("t-08.tar", "t-09.tar", "t-10.tar", "x.tar", "{1..2}.tar"):
        write_shard(tmp_path / name, 1)

    def names(pattern):
        return [path.name for path in find_shards(f"{tmp_path}/{pattern}")]

    assert names("t-{08..10}.tar") == ["t-08.tar", "t-09.tar", "t-10.tar"]
    assert names("{x,t-09}.tar") == ["x.tar", "t-09.tar"]
    assert names("t-*.tar") == ["t-08.tar", "t-09.tar", "t-10.tar"]
    assert names("{t-0?,x}.tar") == ["t-08.tar", "t-09.tar", "x.tar"]
    assert names("{1..2}.tar") == ["{1..2}.tar"]  # a file of this very name
    assert len(open_rows(tmp_path)) == 5
    assert len(open_rows(f"{tmp_path}/t-{{08..09}}.tar")) == 2


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none.tar", "matches no file"),
        ("t-{00..02}.tar", r"t-02.tar' matches no file"),
        ("{2..1}.tar", "must count up"),
        ("{0..999999999999}.tar", "must count up, to at most"),
        ("{0..9999}{0..9999}.tar", "stands for more than 100000 names"),
        ("*.gz", "is compressed"),
        ("*.wav", "is no .tar"),
        ("a.tar.gz", "is compressed"),
    ],
)
def test_patterns_that_are_wrong(tmp_path, pattern, message):
    for name in ("t-00.tar", "t-01.tar", "a.tar.gz", "a.wav"):
        write_shard(tmp_path / name, 1)
    with pytest.raises(InputError, match=message):
        open_rows(f"{tmp_path}/{pattern}")


@pytest.mark.skipif(not SPEECH.is_dir(), reason="needs the recordings in ../shared/data")
def test_shards_of_others(tmp_path):
    rows = open_rows(SPEECH / "dev-00000.tar")
    assert len(rows) == 500
    assert rows[0].text == "andy likes brown"
    assert rows[0].columns.keys() == {"speaker", "gender", "age", "seconds"}
    assert all(abs(len(row.recording().read()) / 16_000 - row.columns["seconds"]) < 0.01 for row in rows[::50])
