"""``wav2vec2 --backend tf``, as a shell runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "samples"


CODE = "from wav2vec2_core.cli import main; main()"


def command(*arguments, code=CODE, **environment):
    names = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**names, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_transcribe(tmp_path):
    done = command("transcribe", SAMPLES / "three-one-four.flac", "--backend", "tf")
    assert (done.returncode, done.stdout) == (0, "three one four\n"), done.stderr
    assert "no --model given" in done.stderr
    unused = ["numba", "torch", "transformers", "wav2vec2_core.training", "wav2vec2_core.serving"]
    tell = f"import atexit, sys; atexit.register(lambda: print(*set({unused}) & set(sys.modules))); "
    arguments = SAMPLES / "two-seven-one-eight.flac", "--backend", "tf", "-o", tmp_path, "-f", "json"
    done = command("transcribe", *arguments, code=tell + CODE)
    assert (done.returncode, done.stdout) == (0, "\n"), "the start is for what is used"
    result = json.loads((tmp_path / "two-seven-one-eight.json").read_text())
    assert result["text"] == "two seven one eight"
    assert len(result["segments"][0]["words"]) == 4


def test_doctor():
    done = command("doctor")
    assert done.returncode == 0
    assert "ok  back end tf" in done.stdout


def test_another_keras_backend_is_one_line():
    done = command("transcribe", SAMPLES / "three-one-four.flac", "--backend", "tf", KERAS_BACKEND="jax")
    assert (done.returncode, done.stdout) == (1, "")
    assert "KERAS_BACKEND='jax' makes Keras run on jax" in done.stderr.splitlines()[-1]
