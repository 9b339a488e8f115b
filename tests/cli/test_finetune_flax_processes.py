"""`finetune ctc --backend flax` in two processes: the run of one; stopped or killed, all go on bit for bit."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from tone_speech import write_tones

from wav2vec2_core.transcription import EMBEDDED_MODEL

pytestmark = pytest.mark.slow
SETTINGS = {
    "schedule.frozen": 0, "evaluation.every": 4, "checkpoints.every": 3, "model.activation_dropout": 0,
    "model.layerdrop": 0, "model.mask_time_prob": 0.05, "model.mask_feature_prob": 0.05,
    "model.mask_feature_length": 8,
}  # fmt: skip
#: As in conformance.backends, which this test does without: compile quickly, one thread.
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), 12)


def start(manifest, output, *more, count=2):
    """The command in so many processes."""
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    arguments = [
        "finetune", "ctc", "--backend", "flax", "--model", str(EMBEDDED_MODEL), "--train", str(manifest),
        "--eval", str(manifest), "--preset", "10min", "--output", str(output), "--steps", "8", "--batch-seconds", "6",
        "--learning-rate", "1e-3", *settings, *more,
    ]  # fmt: skip
    common = {**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    if count > 1:
        common |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "wav2vec2_core", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**common, "JAX_PROCESS_ID": str(index)},
        )
        for index in range(count)
    ]  # fmt: skip


def end(processes):
    """Exit codes and what the processes wrote on stderr, once all have ended."""
    texts = [process.communicate(timeout=540)[1] for process in processes]
    return [process.returncode for process in processes], texts


def wait_for_records(folder, lines, processes):
    path, deadline = folder / "train.jsonl", time.monotonic() + 500
    while not (path.exists() and path.read_text().count("\n") >= lines):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), end(processes)
        time.sleep(0.01)


@pytest.fixture(scope="module")
def together(manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "together"
    codes, texts = end(start(manifest, folder))
    assert codes == [0, 0], texts
    return folder


def same_run(folder, whole):
    assert (folder / "train.jsonl").read_text() == (whole / "train.jsonl").read_text()
    name = "model/model.safetensors"
    assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_two_processes_make_the_run_of_one(manifest, together, tmp_path):
    codes, texts = end(start(manifest, tmp_path / "alone", count=1))
    assert codes == [0], texts
    expected, found = (
        [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "alone", together)
    )
    assert len(found) == len(expected) == 10
    for one, other in zip(expected, found, strict=True):
        if "scores" in one:
            assert other["scores"] == one["scores"]
        else:
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
            assert (other["step"], other["seconds"]) == (one["step"], one["seconds"])
    assert (together / "model" / "vocab.json").exists()


def test_sigterm_to_one_process_stops_all_after_the_same_update(manifest, together, tmp_path):
    folder = tmp_path / "stopped"
    processes = start(manifest, folder)
    wait_for_records(folder, 2, processes)
    processes[1].send_signal(signal.SIGTERM)
    codes, texts = end(processes)
    assert codes == [143, 143], texts
    assert "stopped by SIGTERM after " in texts[0]
    assert not (folder / "model").exists()
    made = int(texts[0].split("stopped by SIGTERM after ")[1].split()[0])
    assert (folder / "checkpoints" / f"step-{made}").exists()
    codes, texts = end(start(manifest, folder, "--resume"))
    assert codes == [0, 0], texts
    assert f"going on after {made} updates" in texts[0]
    same_run(folder, together)


def test_a_run_whose_processes_are_killed_goes_on_bit_for_bit(manifest, together, tmp_path):
    folder = tmp_path / "killed"
    processes = start(manifest, folder)
    wait_for_records(folder, 5, processes)
    processes[1].kill()
    codes, _ = end(processes)  # no process is left waiting
    assert codes[0] != 0
    assert not (folder / "model").exists()
    codes, texts = end(start(manifest, folder, "--resume"))
    assert codes == [0, 0], texts
    assert "note: going on after " in texts[0]
    same_run(folder, together)
