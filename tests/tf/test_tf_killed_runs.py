"""`wav2vec2 finetune --backend tf`, killed at a random place: the resumed run ends as one that nothing disturbed."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file
from tone_speech import write_tones

from wav2vec2_core.transcription import EMBEDDED_MODEL

SETTINGS = ("schedule.frozen=0.25", "evaluation.every=8", "checkpoints.every=2", "model.mask_feature_length=8")


def start(manifest, output, *more):
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    options = [
        "--backend", "tf", "--model", EMBEDDED_MODEL, "--train", manifest, "--eval", manifest, "--preset", "10min",
        "--steps", 8, "--batch-seconds", 6, "--learning-rate", 1e-3, "--output", output, *settings, *more,
    ]  # fmt: skip
    command = [sys.executable, "-m", "wav2vec2_core", "finetune", "ctc", *map(str, options)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def updates(folder):
    path = folder / "train.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_run_that_is_killed_goes_on(tmp_path):
    manifest = write_tones(tmp_path, 12)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    errors = finish(start(manifest, whole))
    assert "retracing" not in errors
    process, deadline = start(manifest, killed), time.monotonic() + 240
    while len(updates(killed)) < 5 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    elsewhere = start(manifest, killed, "--resume", "--set", "tf.strategy=mirrored")  # where it runs may change
    assert "note: going on after 4 updates" in finish(elsewhere)
    losses, resumed = ([line["loss"] for line in updates(folder) if "loss" in line] for folder in (whole, killed))
    assert len(losses) == 8
    assert resumed == pytest.approx(losses, rel=1e-6)
    expected, found = (load_file(folder / "model" / "model.safetensors") for folder in (whole, killed))
    for name, array in expected.items():
        assert np.abs(found[name] - array).max() <= 1e-6 * max(np.abs(array).max(), 1), name
