"""Results in shards, wherever inputs and results are: each recording once, and finished shards are kept."""

import json
import shutil
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
from command_results import one_error

from wav2vec2_core.bulk import Job, find_items, run_bulk
from wav2vec2_core.embedding import Embedder
from wav2vec2_core.errors import OutputError
from wav2vec2_core.transcription import EMBEDDED_MODEL

SAMPLES = Path(__file__).parents[2] / "samples"
TEXTS = {"three-one-four.flac": "three one four", "two-seven-one-eight.flac": "two seven one eight"}


@pytest.fixture
def manifest(tmp_path):
    """Five rows: two recordings, a stretch of one, one that does not exist and one that is none."""
    for name in TEXTS:
        shutil.copy(SAMPLES / name, tmp_path / name)
    (tmp_path / "none.wav").write_bytes(b"no sound")
    first, second = TEXTS
    rows = [(first, {}), ("missing.wav", {}), (second, {}), (first, {"offset": 0.9, "duration": 0.8}), ("none.wav", {})]
    lines = [json.dumps({"audio_filepath": name, **stretch}) for name, stretch in rows]
    (tmp_path / "inputs.jsonl").write_text("\n".join(lines))
    return tmp_path / "inputs.jsonl"


@pytest.fixture
def memory():
    """The store of this process, as an address without its slash."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def rows(folder, kind="results"):
    return [json.loads(line) for path in sorted((folder / kind).iterdir()) for line in path.read_text().splitlines()]


def test_each_recording_has_one_result_or_one_error(command, manifest, tmp_path):
    code, out, err = command("bulk", manifest, "--output", tmp_path / "out", "--shard-size", 2)
    assert (code, out.count("\n")) == (1, 1)
    assert out.startswith("5 recordings, ")
    assert "2 failed" in out
    assert "error" not in err
    names = sorted(path.name for path in (tmp_path / "out" / "results").iterdir())
    assert names == ["part-00000.jsonl", "part-00001.jsonl", "part-00002.jsonl"]
    found, failed = rows(tmp_path / "out"), rows(tmp_path / "out", "failed")
    first, second = TEXTS
    assert [(Path(row["audio"]).name, row["offset"]) for row in found] == [(first, 0), (second, 0), (first, 0.9)]
    assert [row["text"] for row in found] == [*TEXTS.values(), "four"]
    assert [word["word"] for word in found[2]["words"]] == ["four"]
    assert 0.9 < found[2]["words"][0]["start"] < found[2]["words"][0]["end"] < 1.7, "of the whole recording's clock"
    assert [Path(row["audio"]).name for row in failed] == ["missing.wav", "none.wav"]
    assert all(row["audio"] in row["error"] for row in failed)


def test_the_texts_and_times_are_those_of_transcribe(command, tmp_path):
    command("bulk", SAMPLES, "--output", tmp_path / "out")
    _, out, _ = command("transcribe", *sorted(SAMPLES.glob("*.flac")), "--output-format", "json")
    for row, line in zip(rows(tmp_path / "out"), out.splitlines(), strict=True):
        said = json.loads(line)
        assert (row["audio"], row["text"]) == (said["file"], said["text"])
        words = [word for segment in said["segments"] for word in segment["words"]]
        assert [word["word"].strip() for word in words] == [word["word"] for word in row["words"]]
        assert [word["start"] for word in words] == pytest.approx([word["start"] for word in row["words"]], abs=1e-3)


def test_the_same_command_goes_on(command, manifest, tmp_path):
    arguments = ("bulk", manifest, "--output", tmp_path / "out", "--shard-size", 2)
    command(*arguments)
    results = tmp_path / "out" / "results"
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    (results / "part-00001.jsonl").unlink()
    kept = (results / "part-00000.jsonl").stat().st_mtime_ns
    (tmp_path / "out" / "failed" / "part-00001.jsonl").write_text("{}\n")  # of a worker that died
    code, out, _ = command(*arguments)
    assert code == 0
    assert out.startswith("2 recordings, ")
    assert "3 were finished before" in out
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before
    assert (results / "part-00000.jsonl").stat().st_mtime_ns == kept
    assert not (tmp_path / "out" / "failed" / "part-00001.jsonl").exists()
    code, out, _ = command(*arguments)
    assert (code, out.split(",")[0]) == (0, "0 recordings")


def test_folders_of_others_are_left_alone(command, manifest, tmp_path):
    model = ("--model", EMBEDDED_MODEL)
    arguments = ("bulk", manifest, "--output", tmp_path / "out", "--shard-size", 2, *model)
    command(*arguments)
    for more, said in (
        (("--shard-size", 3), "shard_size was 2, is 3"),
        (("--output-format", "parquet"), "result_format was 'jsonl', is 'parquet'"),
    ):
        one_error(command(*arguments, *more), said)
    with manifest.open("a") as file:
        file.write('\n{"audio_filepath": "more.wav"}')
    one_error(command(*arguments), "recordings was 5, is 6")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    one_error(command("bulk", manifest, "-o", tmp_path / "other", *model), "holds other files: name a new folder")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["mine.txt"]


def test_inputs_and_results_of_a_store(memory, manifest, tmp_path):
    for path in (manifest, tmp_path / "three-one-four.flac", tmp_path / "none.wav"):
        memory.pipe_file(f"/data/set/{path.name}", path.read_bytes())
    memory.pipe_file("/elsewhere/two.flac", (tmp_path / "two-seven-one-eight.flac").read_bytes())
    lines = manifest.read_text().replace("two-seven-one-eight.flac", "memory://elsewhere/two.flac")
    memory.pipe_file("/data/set/inputs.jsonl", lines.encode())
    items = find_items("memory://data/set/inputs.jsonl")
    names = ["/data/set/three-one-four.flac", "/data/set/missing.wav", "elsewhere/two.flac"]
    assert [item.audio for item in items[:3]] == [f"memory://{name}" for name in names]
    job = Job("memory://out/here", str(EMBEDDED_MODEL), shard_size=4)
    outcomes = list(run_bulk(job, items))
    assert [(one.number, one.recordings, one.failed) for one in outcomes] == [(0, 4, 1), (1, 1, 1)]
    found = [json.loads(line) for line in memory.cat_file("/out/here/results/part-00000.jsonl").splitlines()]
    assert [row["text"] for row in found] == [*TEXTS.values(), "four"]
    assert list(run_bulk(job, items)) == []
    below = [item.audio for item in find_items("memory://data")]
    assert below == ["memory:///data/set/none.wav", "memory:///data/set/three-one-four.flac"]


def test_a_store_that_does_not_take_results(memory, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("no")

    items = find_items(str(SAMPLES))
    monkeypatch.setattr(type(memory), "pipe_file", refuse)
    with pytest.raises(OutputError, match=r"bulk.json' cannot be written .PermissionError: no.: check the address"):
        list(run_bulk(Job("memory://out", str(EMBEDDED_MODEL)), items))


def test_parquet(command, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for task in ("transcribe", "embed"):
        code, _, _ = command("bulk", SAMPLES, "-o", tmp_path / task, "--task", task, "-f", "parquet", "--layer", 2)
        assert code == 0
    texts = parquet.read_table(tmp_path / "transcribe" / "results" / "part-00000.parquet").to_pylist()
    assert [row["text"] for row in texts] == [*TEXTS.values()]
    assert texts[0]["words"][0].keys() == {"word", "start", "end", "probability"}
    states = parquet.read_table(tmp_path / "embed" / "results" / "part-00000.parquet").to_pylist()
    expected = Embedder(EMBEDDED_MODEL, layers=(2,)).embed(states[1]["audio"])[0]
    assert np.array_equal(np.array(states[1]["embedding"], np.float32), expected)


@pytest.mark.parametrize(("option", "value", "library"), [("-f", "parquet", "pyarrow"), ("--engine", "ray", "ray")])
def test_without_a_library_nothing_is_written(command, tmp_path, monkeypatch, option, value, library):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"{library}.{'parquet' if library == 'pyarrow' else 'data'}", raising=False)
    arguments = ("bulk", SAMPLES, "-o", tmp_path / "out", "--model", EMBEDDED_MODEL, option, value)
    one_error(command(*arguments), "wav2vec2-frameworks[bulk]")
    assert not (tmp_path / "out").exists()


def test_bad_arguments(command, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    for arguments, said in (
        ((tmp_path / "no.jsonl",), "no.jsonl cannot be read (No such file"),
        ((tmp_path / "empty",), "there is no recording below"),
        (("wrong://a/b",), "'wrong://a/b' is no address (Protocol not known: wrong"),
        ((tmp_path, "--task", "sing"), "task 'sing' is none: use transcribe or embed"),
        ((tmp_path, "--task", "embed"), "use the format parquet"),
        ((tmp_path, "-f", "csv"), "format 'csv' is none: use jsonl or parquet"),
        ((tmp_path, "--shard-size", 0), "shard_size=0 must be 1 or more"),
        ((tmp_path, "--model", tmp_path / "none"), "none' does not exist: check the path"),
        ((tmp_path, "--engine", "spark"), "engine 'spark' is none: use local or ray"),
        ((tmp_path, "--workers", 2), "use the engine ray"),
        ((tmp_path, "--engine", "ray", "--workers", 0), "workers=0 must be 1 or more"),
    ):
        one_error(command("bulk", "--model", EMBEDDED_MODEL, *arguments, "-o", out), said)
        assert not out.exists(), arguments
