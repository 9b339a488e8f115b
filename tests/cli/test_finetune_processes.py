"""`wav2vec2 finetune ctc` in two processes under torchrun: the run of one; killed, it ends and goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tone_speech import write_tones

from wav2vec2_core.transcription import EMBEDDED_MODEL

SETTINGS = {
    "schedule.frozen": 0, "evaluation.every": 4, "checkpoints.every": 3, "model.activation_dropout": 0,
    "model.layerdrop": 0, "model.mask_time_prob": 0.05, "model.mask_feature_prob": 0.05,
    "model.mask_feature_length": 8,
}  # fmt: skip
pytestmark = pytest.mark.slow
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), 12)


def arguments(manifest, output, *more):
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    return [
        "finetune", "ctc", "--model", str(EMBEDDED_MODEL), "--train", str(manifest), "--eval", str(manifest),
        "--preset", "10min", "--output", str(output), "--steps", "8", "--batch-seconds", "6",
        "--learning-rate", "1e-3", *settings, *more,
    ]  # fmt: skip


def start(*args):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*TORCHRUN, "-m", "wav2vec2_core", *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def records(folder):
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def together(manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "together"
    process = start(*arguments(manifest, folder))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return folder, out, err


def test_two_processes_make_the_run_of_one(command, manifest, together, tmp_path):
    folder, out, err = together
    code, alone_out, alone_err = command(*arguments(manifest, tmp_path / "alone"))
    assert code == 0
    expected, found = records(tmp_path / "alone"), records(folder)
    assert len(found) == len(expected) == 10
    for one, other in zip(expected, found, strict=True):
        if "scores" in one:
            assert other["scores"] == one["scores"]
        else:
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
            assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)
            assert (other["step"], other["seconds"]) == (one["step"], one["seconds"])
    assert (folder / "model" / "vocab.json").exists()
    assert out.replace(str(folder), str(tmp_path / "alone")) == alone_out  # one process speaks, and says the same
    assert [line for line in err.splitlines() if line.startswith("step ")] == [
        line for line in alone_err.splitlines() if line.startswith("step ")
    ]


@pytest.mark.rare
def test_a_process_that_is_killed_ends_the_run_and_all_go_on_bit_for_bit(manifest, together, tmp_path):
    whole, _, _ = together
    folder = tmp_path / "killed"
    process = start(*arguments(manifest, folder))
    path, deadline = folder / "train.jsonl", time.monotonic() + 200
    while not (path.exists() and path.read_text().count("\n") >= 5) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, err = process.communicate(timeout=120)  # no process is left waiting
    assert process.returncode == 1
    assert "Signal 9 (SIGKILL)" in err
    assert not (folder / "model").exists()
    process = start(*arguments(manifest, folder, "--resume"))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert err.count("note: going on after ") == 1
    assert path.read_text() == (whole / "train.jsonl").read_text()
    name = "model/model.safetensors"
    assert (folder / name).read_bytes() == (whole / name).read_bytes()
