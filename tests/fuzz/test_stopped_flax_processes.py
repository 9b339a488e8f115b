"""`finetune ctc --backend flax` in two processes: stopped or killed, all end, and go on bit for bit."""

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
    "schedule.frozen": 0, "evaluation.every": 3, "checkpoints.every": 2, "model.activation_dropout": 0,
    "model.layerdrop": 0, "model.mask_time_prob": 0.05, "model.mask_feature_prob": 0.05,
    "model.mask_feature_length": 8,
}  # fmt: skip
#: As in conformance.backends, which this test does without: compile quickly, one thread.
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def start(manifest, output, *more):
    """The command in two processes."""
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    arguments = [
        "finetune", "ctc", "--backend", "flax", "--model", str(EMBEDDED_MODEL), "--train", str(manifest),
        "--eval", str(manifest), "--preset", "10min", "--output", str(output), "--steps", "6", "--batch-seconds", "6",
        "--learning-rate", "1e-3", *settings, *more,
    ]  # fmt: skip
    common = {**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    common |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "wav2vec2_core", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**common, "JAX_PROCESS_ID": str(index)},
        )
        for index in range(2)
    ]  # fmt: skip


def end(processes):
    """Exit codes and what the processes wrote on stderr, once all have ended."""
    texts = [process.communicate(timeout=900)[1] for process in processes]
    return [process.returncode for process in processes], texts


def wait_for_records(folder, lines, processes):
    path, deadline = folder / "train.jsonl", time.monotonic() + 900
    while not (path.exists() and path.read_text().count("\n") >= lines):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), end(processes)
        time.sleep(0.01)


def test_processes_that_are_stopped_or_killed_go_on_bit_for_bit(tmp_path):
    manifest, whole, folder = write_tones(tmp_path, 12), tmp_path / "whole", tmp_path / "run"
    codes, texts = end(start(manifest, whole))
    assert codes == [0, 0], texts

    processes = start(manifest, folder)
    wait_for_records(folder, 1, processes)
    processes[1].send_signal(signal.SIGTERM)  # to one of them
    codes, texts = end(processes)
    assert codes == [143, 143], texts
    made = int(texts[0].split("stopped by SIGTERM after ")[1].split()[0])
    assert (folder / "checkpoints" / f"step-{made}").exists()

    processes = start(manifest, folder, "--resume")
    wait_for_records(folder, made + 2, processes)
    processes[1].kill()
    codes, texts = end(processes)  # no process is left waiting
    assert codes == [1, -signal.SIGKILL], texts
    assert f"going on after {made} updates" in texts[0]
    assert texts[0].splitlines()[-1].startswith("error: another process of this run has ended (")
    assert not (folder / "model").exists()

    codes, texts = end(start(manifest, folder, "--resume"))
    assert codes == [0, 0], texts
    assert (folder / "train.jsonl").read_text() == (whole / "train.jsonl").read_text()
    name = "model/model.safetensors"
    assert (folder / name).read_bytes() == (whole / name).read_bytes()
