"""One function for all data: folders, tables of ``datasets``, manifests."""

import os

import numpy as np
import pytest
from written_shards import sound, write_shard

from wav2vec2_core.data.manifest import KINDS, Utterance, write_manifest
from wav2vec2_core.data.opening import open_rows
from wav2vec2_core.errors import AudioError, InputError


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound() if path.suffix == ".flac" else path.stem.encode())
    return folder


def described(rows, folder):
    return [(row.path.relative_to(folder).as_posix(), row.text, dict(row.columns)) for row in rows]


def test_texts_beside_recordings(tmp_path):
    put(tmp_path, "b/2.flac", "b/2.txt", "a/1.flac", "a/1.txt", "3.flac", ".hidden/4.flac")
    (tmp_path / "a" / "1.txt").write_text("\ufeffeins\n", encoding="utf-8")
    assert described(open_rows(tmp_path), tmp_path) == [
        ("3.flac", None, {}),
        ("a/1.flac", "eins", {}),
        ("b/2.flac", "2", {}),
    ]


def test_librispeech(tmp_path):
    put(tmp_path, "84/121/84-121-0.flac", "84/121/84-121-1.flac")
    (tmp_path / "84/121/84-121.trans.txt").write_text("84-121-0 GO ON\n84-121-1 STOP\n")
    assert [row.text for row in open_rows(tmp_path)] == ["GO ON", "STOP"]


def test_folders_are_classes_where_nothing_has_a_text(tmp_path):
    put(tmp_path, "yes/1.flac", "no/1.flac", "2.flac")
    assert described(open_rows(tmp_path), tmp_path) == [
        ("2.flac", None, {}),
        ("no/1.flac", None, {"label": "no"}),
        ("yes/1.flac", None, {"label": "yes"}),
    ]


def test_metadata_says_all_of_a_folder(tmp_path):
    put(tmp_path, "yes/1.flac", "yes/2.flac")
    (tmp_path / "metadata.csv").write_text("file_name,text,mood\nyes/1.flac,one,glad\n")
    assert described(open_rows(str(tmp_path)), tmp_path) == [("yes/1.flac", "one", {"mood": "glad"})]


def test_a_text_that_is_not_utf_8(tmp_path):
    put(tmp_path, "1.flac")
    (tmp_path / "1.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"1\.txt is not UTF-8"):
        open_rows(tmp_path)


def test_folders_that_are_nothing_or_two_things(tmp_path):
    with pytest.raises(InputError, match=r"holds no recording, no \.tar and no metadata\.csv"):
        open_rows(tmp_path)
    put(tmp_path, "1.flac")
    write_shard(tmp_path / "a.tar", 1)
    with pytest.raises(InputError, match="holds recordings and tars"):
        open_rows(tmp_path)


def test_a_pipe_is_no_shard(tmp_path):
    """Opening one would wait for a writer for ever."""
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(InputError, match=r"is no \.tar"):
        open_rows(tmp_path / "a.tar")
    with pytest.raises(InputError, match=r"holds no recording, no \.tar"):
        open_rows(tmp_path)


def test_manifests_and_utterances(tmp_path):
    put(tmp_path, "1.flac")
    write_manifest(tmp_path / "m.jsonl", [Utterance(tmp_path / "1.flac", "one")])
    rows = open_rows(tmp_path / "m.jsonl")
    assert described(rows, tmp_path) == [("1.flac", "one", {})]
    assert open_rows(rows) == rows


NOISE = 0.1 * np.random.default_rng(0).standard_normal(8000)


def table(folder):
    (folder / "2.flac").write_bytes(sound(seed=2))
    return [
        {"audio": {"array": NOISE, "sampling_rate": 8000}, "sentence": "one", "age": 3},
        {"audio": {"bytes": sound(), "path": "x.flac"}, "sentence": "two", "age": 4},
        {"audio": {"bytes": None, "path": str(folder / "2.flac")}, "sentence": None, "age": 5},
        {"audio": str(folder / "2.flac"), "sentence": "four", "age": 6},
        {"audio": {"array": np.round(NOISE * 2**15).astype(np.int16), "sampling_rate": 8000}, "sentence": "", "age": 7},
    ]


def test_rows_of_mappings(tmp_path):
    rows = open_rows(table(tmp_path))
    assert [row.text for row in rows] == ["one", "two", None, "four", ""]
    assert [row.columns["age"] for row in rows] == [3, 4, 5, 6, 7]
    assert [len(row.recording().read()) for row in rows] == [16_000, 8000, 8000, 8000, 16_000]
    assert np.array_equal(rows[0].recording(sampling_rate=8000).read(), NOISE.astype(np.float32))
    assert np.abs(rows[4].recording(sampling_rate=8000).read() - NOISE).max() <= 0.6 / 2**15
    assert str(rows[4].path) == "row 4"


def test_rows_of_datasets(tmp_path):
    """As that library has them; its own decoding, which needs more libraries, is not used."""
    datasets = pytest.importorskip("datasets", reason="compares with the datasets library")
    data = datasets.Dataset.from_list([row for row in table(tmp_path) if not isinstance(row["audio"], str)][1:3])
    data = data.cast_column("audio", datasets.Audio(sampling_rate=8000))
    rows = open_rows(data)
    assert [(row.text, row.columns) for row in rows] == [("two", {"age": 4}), (None, {"age": 5})]
    assert [len(row.recording().read()) for row in rows] == [8000, 8000]
    with pytest.raises(InputError, match="has the splits train, test: choose one"):
        open_rows(datasets.DatasetDict(train=data, test=data))
    with pytest.raises(InputError, match="is loaded without streaming"):
        open_rows(data.to_iterable_dataset())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the data set has no rows"),
        ([{"wav": "1.wav", "text": "one"}], "has no column 'audio', it has wav, text"),
        ([1], "row 0 is a int"),
        ([{"audio": "1.wav", "text": 7}], "row 0 has text=7: it must be text"),
        (iter([]), "is no data with rows by number"),
        (None, "NoneType is no data"),
        ("", "the name of the data is empty"),
        ("none", "'none' does not exist: check the path"),
        ("none.jsonl", r"manifest none\.jsonl cannot be read"),
    ],
)
def test_tables_that_are_wrong(rows, message):
    with pytest.raises(InputError, match=message):
        open_rows(rows)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ({"array": [], "sampling_rate": 16_000}, "holds no samples"),
        ({"array": [np.nan], "sampling_rate": 16_000}, "NaN or infinite"),
        ({"array": [0.1]}, "it must hold bytes, a path, or array and sampling_rate"),
        ({"bytes": b""}, "is empty"),
        ({"bytes": b"no sound"}, "row 0"),
        (None, "row 0 has audio=None"),
        ({"path": "gone.wav"}, "gone.wav does not exist"),
    ],
)
def test_recordings_of_a_table_that_cannot_be_read(audio, message):
    (row,) = open_rows([{"audio": audio}])
    with pytest.raises(AudioError, match=message):
        row.recording().read()


def test_an_address_is_no_data():
    with pytest.raises(InputError, match="is an address"):
        open_rows("https://example.org/train-{00..10}.tar")


def test_a_row_of_a_table_or_a_tar_is_no_file_for_a_manifest(tmp_path):
    rows = open_rows(write_shard(tmp_path / "a.tar", 1))
    for kind in KINDS:
        with pytest.raises(InputError, match=r"0000\.flac is no file of its own"):
            write_manifest(tmp_path / "m", rows, kind)
    assert not (tmp_path / "m").exists()
