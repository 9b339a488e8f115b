"""A Ray cluster of two workers on this machine: the texts of the plain command, workers that die, an object store."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wav2vec2_core.transcription import EMBEDDED_MODEL

pytest.importorskip("ray", reason="Ray is not installed: the extra bulk")

SAMPLES = Path(__file__).parents[2] / "samples"


def write_inputs(folder, count):
    """A manifest of stretches of the samples."""
    names = sorted(SAMPLES.glob("*.flac"))
    lines = [
        json.dumps({"audio_filepath": str(names[number % 2]), "offset": number % 40 / 80, "duration": 1.0})
        for number in range(count)
    ]
    (folder / "inputs.jsonl").write_text("\n".join(lines))
    return folder / "inputs.jsonl"


def command(*arguments):
    return [sys.executable, "-m", "wav2vec2_core", "bulk", *map(str, arguments)]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "results").iterdir())}


def workers():
    """Processes of Ray's that run our workers."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if name.startswith(b"ray::MapWorker"):
                found.append(int(folder.name))
    return found


def test_two_workers_one_of_which_dies(tmp_path):
    inputs = write_inputs(tmp_path, 200)
    subprocess.run(command(inputs, "-o", tmp_path / "plain", "--shard-size", 8), check=True)
    options = ("--shard-size", 8, "--engine", "ray", "--workers", 2)
    process = subprocess.Popen(command(inputs, "-o", tmp_path / "ray", *options), stdout=subprocess.PIPE, text=True)
    results = tmp_path / "ray" / "results"
    killed = False
    while process.poll() is None:
        if not killed and results.is_dir() and len(list(results.iterdir())) >= 2:
            victims = workers()
            assert len(victims) == 2
            os.kill(victims[0], signal.SIGKILL)
            killed = True
        time.sleep(0.02)
    assert killed
    assert process.returncode == 0
    with process.stdout as said:
        assert said.read().startswith("200 recordings, ")
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")


def test_an_object_store(tmp_path, monkeypatch):
    moto = pytest.importorskip("moto.server", reason="moto, an S3 server for tests, is not installed")
    import s3fs

    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        for name, value in (
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        store = s3fs.S3FileSystem(skip_instance_cache=True)
        store.mkdir("audio")
        for path in SAMPLES.glob("*.flac"):
            store.put_file(str(path), f"audio/in/{path.name}")
        for engine in (("local",), ("ray", "--workers", 1)):
            out = f"s3://audio/{engine[0]}"
            done = subprocess.run(
                command("s3://audio/in", "-o", out, "--shard-size", 1, "--engine", *engine),
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            assert done.stdout.startswith("2 recordings, ")
            texts = [
                json.loads(store.cat_file(f"{out}/results/part-{number:05d}.jsonl"))["text"] for number in range(2)
            ]
            assert texts == ["three one four", "two seven one eight"]
    finally:
        server.stop()


def test_a_worker_that_cannot_start_says_why(tmp_path):
    shutil.copytree(EMBEDDED_MODEL, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"damaged")
    done = subprocess.run(
        command(SAMPLES, "-o", tmp_path / "out", "--model", tmp_path / "model", "--engine", "ray", "--workers", 1),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "model.safetensors" in last
    assert "Ray" not in last


def test_a_cluster_that_is_not_there(tmp_path):
    done = subprocess.run(
        command(SAMPLES, "-o", tmp_path / "out", "--engine", "ray", "--address", "127.0.0.1:1"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: the Ray cluster '127.0.0.1:1' does not answer (" in done.stderr
