"""A run of `wav2vec2 finetune` that is killed twenty times, at any moment, ends as one that nothing disturbed."""

import importlib.util
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file
from tone_speech import write_tones

from wav2vec2_core.transcription import EMBEDDED_MODEL

KILLS, STEPS = 20, 60
#: Largest difference of a parameter at the end; none at all for 0.
LIMITS = {"torch": 0, "flax": 0, "tf": 1e-6}
FRAMEWORKS = {"torch": "torch", "flax": "jax", "tf": "tensorflow"}
SETTINGS = {
    "schedule.frozen": 0.1, "evaluation.every": 15, "checkpoints.every": 2, "model.mask_time_prob": 0.05,
    "model.mask_feature_prob": 0.05, "model.mask_feature_length": 8,
}  # fmt: skip


def start(backend, manifest, output, *more):
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    return subprocess.Popen(
        [
            sys.executable, "-m", "wav2vec2_core", "finetune", "ctc", "--model", str(EMBEDDED_MODEL),
            "--train", str(manifest), "--eval", str(manifest), "--preset", "10min", "--output", str(output),
            "--steps", str(STEPS), "--batch-seconds", "6", "--learning-rate", "1e-3", "--backend", backend,
            *settings, "--resume", *more,
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def lines(folder):
    path = folder / "train.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def kill(process, folder, generator):
    """Kill a run in or after one of its first updates; whether it was still running."""
    known, wanted, deadline = lines(folder), generator.randrange(1, 5), time.monotonic() + 300
    while lines(folder) < known + wanted and process.poll() is None:
        known = min(known, lines(folder))  # it begins by cutting the file back to its checkpoint
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(generator.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("backend", LIMITS)
def test_a_run_that_is_killed_again_and_again(backend, tmp_path):
    if importlib.util.find_spec(FRAMEWORKS[backend]) is None:
        pytest.skip(f"{FRAMEWORKS[backend]} is not installed")
    (tmp_path / "tones").mkdir()
    manifest = write_tones(tmp_path / "tones", 12)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(backend, manifest, whole)
    _, err = process.communicate()
    assert process.returncode == 0, err
    generator = random.Random(5)
    kills = sum(kill(start(backend, manifest, killed), killed, generator) for _ in range(KILLS))
    assert kills == KILLS, "the run was over too early"
    assert not (killed / "model").exists()
    process = start(backend, manifest, killed)
    _, err = process.communicate()
    assert process.returncode == 0, err
    expected, found = (load_file(folder / "model" / "model.safetensors") for folder in (whole, killed))
    for name, array in expected.items():
        assert np.abs(found[name] - array).max() <= LIMITS[backend], name
    if LIMITS[backend] == 0:
        assert (killed / "train.jsonl").read_text() == (whole / "train.jsonl").read_text()
