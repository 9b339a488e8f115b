"""Shards that are written: the same sound, texts and columns, in order, whenever the writing was stopped."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import soundfile

from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.data.opening import open_rows
from wav2vec2_core.data.sharding import write_shards
from wav2vec2_core.errors import InputError, OutputError

RATE = 16_000


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Seven rows of half a second; number 2 cannot be read."""
    folder = tmp_path_factory.mktemp("recordings")
    generator = np.random.default_rng(3)
    rows = []
    for number in range(7):
        path = folder / f"a.b ü{number}.wav"
        samples = generator.integers(-(1 << 15), 1 << 15, RATE // 2).astype(np.int16)
        soundfile.write(path, samples, RATE)
        columns = {"speaker": number, "mood": "gl\u00fccklich", "vector": np.arange(2)} if number % 2 else {}
        rows.append(Utterance(path, None if number == 4 else f"text {number}", columns=columns))
    rows[2].path.write_bytes(b"RIFF")
    rows[5] = Utterance(rows[5].path, "a stretch", 0.125, 0.25, columns={"text": "longer"})
    return rows


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_shards_hold_what_the_rows_did(rows, tmp_path):
    done = []
    result = write_shards(rows, tmp_path / "s", shard_seconds=1.0, progress=done.append)
    assert (result.shards, result.utterances, result.seconds, sum(done)) == (3, 6, 2.75, 7)
    ((lost, reason),) = result.left_out
    assert lost is rows[2]
    assert "ü2.wav" in reason
    kept = [row for row in rows if row is not rows[2]]
    for source in (tmp_path / "s", f"{tmp_path}/s/shard-{{00000..00002}}.tar"):  # by the index, and without it
        read = open_rows(source)
        assert [row.text for row in read] == [row.text for row in kept]
        assert read[1].columns == {"speaker": 1, "mood": "gl\u00fccklich", "vector": [0, 1]}
        assert read[4].columns == {"text": "longer"}
        for row, origin in zip(read, kept, strict=True):
            assert np.array_equal(row.recording().read(), origin.recording().read())
            assert row.samples in (None, len(row.recording().read()))
    assert open_rows(tmp_path / "s")[0].samples == RATE // 2


def test_other_programs_read_them(rows, tmp_path):
    write_shards(rows, tmp_path / "s")
    with tarfile.open(tmp_path / "s" / "shard-00000.tar") as tar:
        names = tar.getnames()
        assert names[:4] == [
            "00000000-a-b-0.flac",
            "00000000-a-b-0.txt",
            "00000001-a-b-1.flac",
            "00000001-a-b-1.txt",
        ]
        stream = tar.extractfile(names[0])
        sound = soundfile.info(io.BytesIO(stream.read()))
    assert (sound.samplerate, sound.channels, sound.format, sound.subtype) == (RATE, 1, "FLAC", "PCM_16")


@pytest.mark.parametrize("there", [0, 1, 2])
def test_what_was_stopped_goes_on_to_the_same_bytes(rows, tmp_path, there):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    write_shards(rows, whole, shard_seconds=1.0)
    shutil.copytree(whole, stopped)
    for number in range(there, 3):
        (stopped / f"shard-{number:05d}.tar").unlink()
    index = json.loads((stopped / "shards.json").read_text())
    kept = ("format", "source", "sampling_rate", "shard_seconds", "shard_mb")
    (stopped / "shards.json").write_text(json.dumps({name: index[name] for name in kept} | {"complete": False}))
    with pytest.raises(InputError, match="not complete"):
        open_rows(stopped)
    result = write_shards(rows, stopped, shard_seconds=1.0, resume=True)
    assert [row for row, _ in result.left_out] == [rows[2]]
    assert files(stopped) == files(whole)
    again = write_shards(rows, stopped, shard_seconds=1.0, resume=True)  # nothing is left to do
    assert (again.utterances, files(stopped)) == (6, files(whole))


def test_a_limit_of_bytes(rows, tmp_path):
    write_shards(rows, tmp_path / "s", shard_mb=0.04)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "s").glob("*.tar"))]
    assert len(sizes) > 2
    assert max(sizes) < 60_000
    write_shards(rows, tmp_path / "t", shard_seconds=0.01)  # a row is never cut
    assert len(list((tmp_path / "t").glob("*.tar"))) == 6


def test_folders_with_other_data_are_refused(rows, tmp_path):
    write_shards(rows[:2], tmp_path / "s")
    with pytest.raises(OutputError, match=r"holds shards: go on with them \(--resume\)"):
        write_shards(rows, tmp_path / "s")
    with pytest.raises(InputError, match="begun with other rows"):
        write_shards(rows, tmp_path / "s", resume=True)
    with pytest.raises(InputError, match=r"begun with shard_mb=None, not 3"):
        write_shards(rows[:2], tmp_path / "s", shard_mb=3, resume=True)
    (tmp_path / "s" / "shards.json").unlink()
    with pytest.raises(OutputError, match=r"holds shard-00000.tar, and no shards.json"):
        write_shards(rows, tmp_path / "s", resume=True)
    for name in ("shard_seconds", "shard_mb"):
        with pytest.raises(InputError, match=f"{name}=0"):
            write_shards(rows, tmp_path / "t", **{name: 0})
    assert not (tmp_path / "t").exists()


def test_an_index_that_is_not_of_these_shards_is_refused(rows, tmp_path):
    write_shards(rows[:2], tmp_path)
    index = tmp_path / "shards.json"
    content = index.read_text()
    index.write_text(content.replace('"rows": [[', '"rows": [[[], '))
    with pytest.raises(InputError, match="is not what wav2vec2 data shard writes"):
        open_rows(tmp_path)
    index.write_text(content)
    tar = tmp_path / "shard-00000.tar"
    tar.write_bytes(tar.read_bytes() + bytes(512))
    with pytest.raises(InputError, match=r"shard-00000.tar has \d+ bytes, .* says \d+"):
        open_rows(tmp_path)
    tar.unlink()
    with pytest.raises(InputError, match=r"shard-00000.tar is missing"):
        open_rows(index)


def test_nothing_readable_makes_no_shard(rows, tmp_path):
    result = write_shards([rows[2]], tmp_path)
    assert (result.shards, result.utterances, len(result.left_out)) == (0, 0, 1)
    with pytest.raises(InputError, match="names no utterances"):
        open_rows(tmp_path)
