"""``wav2vec2 pretrain`` from the command line."""

import json

import pytest
from pretraining_cases import SMALL
from tone_speech import write_tones
from typer.testing import CliRunner

from wav2vec2_core.cli import app

pytest.importorskip("torch", reason="trains with the PyTorch back end")
NAMED = ("schedule.steps", "data.batch_seconds")  # which have options of their own
SETTINGS = [word for setting in SMALL if not setting.startswith(NAMED) for word in ("--set", setting)]
SHORT = ("--steps", 2, "--seed", 3, "--batch-hours", 0.001)


def invoke(*words):
    return CliRunner().invoke(app, ["pretrain", *map(str, words)])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), 12)


def test_a_run_and_what_it_says(data, tmp_path):
    output = tmp_path / "run"
    result = invoke("--preset", "tiny", "--train", data, "--output", output, *SETTINGS, *SHORT)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == f"model: {output / 'model'}"
    assert "wav2vec2 finetune ctc --model" in result.stdout
    lines = result.stderr.splitlines()
    assert any(line.startswith("a fresh model of 0.") and "12 utterances" in line for line in lines)
    (first,) = (line for line in lines if line.startswith("step 1: "))
    for name in ("contrastive", "accuracy", "perplexity soft", "hard", "penalty", "gradient norm", "masked"):
        assert name in first
    assert any(line.startswith("step 2: ") and "hours of audio a second" in line for line in lines)
    assert json.loads((output / "run.json").read_text())["recipe"]["seed"] == 3
    assert json.loads((output / "model" / "preprocessor_config.json").read_text())["do_normalize"] is True
    assert json.loads((output / "model" / "config.json").read_text())["feature_penalty_weight"] == 1
    again = invoke("--preset", "tiny", "--train", data, "--output", output, *SETTINGS, *SHORT)
    assert again.exit_code == 1
    assert "go on with it by --resume" in str(again.exception)


def test_a_dry_run_writes_nothing(data, tmp_path):
    result = invoke("--preset", "tiny", "--train", data, "--dry-run", *SETTINGS, "--batch-hours", 0.001)
    assert result.exit_code == 0, result.output
    assert "batch_seconds = 3.6" in result.stdout
    assert "one update: loss " in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_run_needs_a_place(data):
    result = invoke("--preset", "tiny", "--train", data)
    assert "there is no --output: name a folder" in str(result.exception)
