"""Runs of the command that are killed again and again."""

import random
import signal
import subprocess
import sys
import time

import numpy as np
from safetensors.numpy import load_file

KILLS = 20


def lines(folder):
    path = folder / "train.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def kill(process, folder, generator):
    """Kill a run in or after one of its first updates; whether it was still running."""
    known, wanted, deadline = lines(folder), generator.randrange(1, 5), time.monotonic() + 900
    while lines(folder) < known + wanted and process.poll() is None:
        known = min(known, lines(folder))  # it begins by cutting the file back to its checkpoint
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(generator.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def check_killed(arguments, tmp_path, *, limit=0.0, environment=None):
    """A run that is killed twenty times, at any moment, ends as one that nothing disturbed.

    ``arguments(output)``: of the command, with ``--resume``; ``limit``: of a parameter's difference at the end.
    """

    def start(output):
        command = [sys.executable, "-m", "wav2vec2_core", *map(str, arguments(output))]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)

    def to_the_end(output):
        process = start(output)
        _, err = process.communicate()
        assert process.returncode == 0, err

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    to_the_end(whole)
    generator = random.Random(5)
    kills = sum(kill(start(killed), killed, generator) for _ in range(KILLS))
    assert kills == KILLS, "the run was over too early"
    assert not (killed / "model").exists()
    to_the_end(killed)
    expected, found = (load_file(folder / "model" / "model.safetensors") for folder in (whole, killed))
    for name, array in expected.items():
        assert np.abs(found[name] - array).max() <= limit, name
    if limit == 0:
        assert (killed / "train.jsonl").read_text() == (whole / "train.jsonl").read_text()
