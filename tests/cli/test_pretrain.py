"""``wav2vec2 pretrain`` from the command line."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from pretraining_cases import SMALL
from safetensors.numpy import load_file
from tone_speech import write_tones
from typer.testing import CliRunner

from wav2vec2_core.cli import app
from wav2vec2_core.cli.run_progress import Speed
from wav2vec2_core.training.loop import Update
from wav2vec2_core.transcription import EMBEDDED_MODEL

pytest.importorskip("torch", reason="trains with the PyTorch back end")
NAMED = ("schedule.steps", "data.batch_seconds")  # which have options of their own
SETTINGS = [word for setting in SMALL if not setting.startswith(NAMED) for word in ("--set", setting)]
SHORT = ("--steps", 2, "--seed", 3, "--batch-hours", 0.001)


def invoke(*words):
    return CliRunner().invoke(app, ["pretrain", *map(str, words)])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), 12)


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """A run's folder and what the command said."""
    output = tmp_path_factory.mktemp("runs") / "run"
    result = invoke("--preset", "tiny", "--train", data, "--output", output, *SETTINGS, *SHORT)
    assert result.exit_code == 0, result.output
    return output, result


def test_a_run_and_what_it_says(data, made):
    output, result = made
    assert result.stdout.splitlines()[0] == f"model: {output / 'model'}"
    assert "wav2vec2 finetune ctc --model" in result.stdout
    lines = result.stderr.splitlines()
    assert any(line.startswith("a fresh model of 0.") and "12 utterances" in line for line in lines)
    (first,) = (line for line in lines if line.startswith("step 1: "))
    for name in ("contrastive", "accuracy", "perplexity soft", "hard", "penalty", "gradient norm", "masked"):
        assert name in first
    (last,) = (line for line in lines if line.startswith("step 2: "))
    assert re.search(r", [0-9.e-]+ hours of audio a second, [0-9.e-]+ TFLOP/s$", last), "a processor has no known peak"
    assert json.loads((output / "run.json").read_text())["recipe"]["seed"] == 3
    assert json.loads((output / "model" / "preprocessor_config.json").read_text())["do_normalize"] is True
    assert json.loads((output / "model" / "config.json").read_text())["feature_penalty_weight"] == 1
    again = invoke("--preset", "tiny", "--train", data, "--output", output, *SETTINGS, *SHORT)
    assert again.exit_code == 1
    assert "go on with it by --resume" in str(again.exception)


def test_a_model_goes_on(data, made, tmp_path):
    model = made[0] / "model"
    result = invoke(
        "--preset", "tiny", "--model", model, "--train", data, "--output", tmp_path / "on", *SETTINGS, *SHORT
    )
    assert result.exit_code == 0, result.output
    assert f"going on from {model}, a model of 0." in result.stderr
    assert "warning" not in result.stderr
    assert json.loads((tmp_path / "on" / "run.json").read_text())["model"] == str(model)
    before, after = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "on" / "model"))
    moved = {name: np.abs(after[name] - array).max() for name, array in before.items()}
    assert 0 < max(moved.values()) < 0.01, "two updates change a model little, and another seed would be another model"
    other = invoke("--preset", "tiny", "--model", EMBEDDED_MODEL, "--train", data, "--dry-run")
    assert "has another architecture than the preset: num_attention_heads is " in str(other.exception)


def test_the_speed_between_lines(monkeypatch):
    now = iter([10.0, 12.0, 15.0, 16.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    speed, update = Speed(), Update(1, 0, 1.0, 1.0, 1.0, 7200.0, operations=4e12, peak=8e12)
    speed.add(update)
    assert speed.take() == "", "nobody knows how long the first one took"
    speed.add(update)
    speed.add(update)
    assert speed.passed == 5
    assert speed.take() == ", 0.8 hours of audio a second, 1.6 TFLOP/s (20.0% of the peak)"
    speed.add(replace(update, peak=None))
    assert speed.take() == ", 2 hours of audio a second, 4 TFLOP/s"


def test_a_dry_run_writes_nothing(data, tmp_path):
    result = invoke("--preset", "tiny", "--train", data, "--dry-run", *SETTINGS, "--batch-hours", 0.001)
    assert result.exit_code == 0, result.output
    assert "batch_seconds = 3.6" in result.stdout
    assert "one update: loss " in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_run_needs_a_place(data):
    result = invoke("--preset", "tiny", "--train", data)
    assert "there is no --output: name a folder" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--set", "data.shortest_seconds=20"),
            r"no row of .* can be used: too short to mask \(12\), such as .*/0.wav: it has \d+ samples of at least "
            r"320000 \(data.shortest_seconds\); see wav2vec2 data check",
        ),
        (
            ("--set", "model.mask_time_length=24"),
            r"crops of 8000 samples have 23 frames, too few to mask a span of 24 "
            r"\(mask_time_length\): make them longer \(data.longest_seconds\)",
        ),
        (("--set", "model.mask_time_length=300"), r"too short to mask \(12\), such as .* frames are too few to mask"),
        (("--device", "cuda"), r"device .*cuda"),
        (("--backend", "jaxx"), r"backend 'jaxx' is unknown|jaxx"),
        (("--set", "torch.sharding=zero"), r"torch.sharding is 'zero', it must be one of none, fsdp"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(data, tmp_path, words, message):
    result = invoke("--preset", "tiny", "--train", data, "--output", tmp_path / "run", *SETTINGS, *SHORT, *words)
    assert result.exit_code == 1
    assert re.search(message, str(result.exception)), result.exception
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "run").exists()
