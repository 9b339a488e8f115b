"""examples/digits: its data from a small archive like the real one, and a run with its recipe from its fresh model."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2vec2_core.data.manifest import read_manifest
from wav2vec2_core.training.recipe import Recipe
from wav2vec2_core.transcription import EMBEDDED_MODEL

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
RECIPE = EXAMPLE / "recipe.toml"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two digits by three speakers, eight takes of each: tones in place of speech, at 8 kHz."""
    path = tmp_path_factory.mktemp("fsdd") / "fsdd.tar.gz"
    time = np.arange(3200) / 8000
    with tarfile.open(path, "w:gz") as tar:
        for digit in (1, 2):
            for speaker, pitch in (("george", 200), ("jackson", 150), ("theo", 300)):
                for take in range(8):
                    content = io.BytesIO()
                    tone = np.sin(2 * np.pi * pitch * (digit + take / 50) * time) * np.hanning(len(time))
                    soundfile.write(content, 0.3 * tone, 8000, format="WAV")
                    member = tarfile.TarInfo(f"fsdd-1.0/recordings/{digit}_{speaker}_{take}.wav")
                    member.size = content.tell()
                    tar.addfile(member, io.BytesIO(content.getvalue()))
    return path


def prepare(archive, folder, *more):
    command = [
        sys.executable,
        EXAMPLE / "prepare.py",
        archive,
        folder,
        "--utterances",
        "12",
        "--voices",
        "0",
        "--words",
        "9",
        *more,
    ]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def data(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "data"
    done = prepare(archive, folder)
    assert done.returncode == 0, done.stderr
    return folder


def words(manifest):
    return [word for row in read_manifest(manifest) for word in (row.text or "").split()]


def test_each_clip_of_the_tests_is_heard_as_often_as_promised(data):
    assert sorted(words(data / "unseen.jsonl")) == ["one"] * 8 + ["two"] * 8  # theo
    assert sorted(words(data / "seen.jsonl")) == ["one"] * 30 + ["two"] * 30  # two speakers, takes 0 to 4, three times
    assert sum(1 for _ in read_manifest(data / "train.jsonl")) == 12
    for name, count in (("words-train", 9), ("words-unseen", 16)):
        labels = [json.loads(line)["label"] for line in (data / f"{name}.jsonl").read_text().splitlines()]
        assert len(labels) == count
        if name == "words-unseen":  # the others may be those of synthesisers
            assert set(labels) == {"one", "two"}
    assert not (data / "other.jsonl").exists()


def test_training_data_are_disturbed_speech_of_the_length_of_their_text(data):
    for row in read_manifest(data / "train.jsonl"):
        samples, rate = soundfile.read(row.path)
        count = len(row.text.split())
        assert rate == 16_000
        assert 0.1 + 0.2 * count < len(samples) / rate < 0.8 + 1.1 * count
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() > 0.05


def test_the_same_arguments_write_the_same_files(archive, data, tmp_path):
    assert prepare(archive, tmp_path / "again").returncode == 0
    files = sorted(path.relative_to(data) for path in data.rglob("*.*"))
    assert files == sorted(path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*.*"))
    assert all((data / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)
    other = prepare(archive, tmp_path / "other", "--seed", "1")
    assert other.returncode == 0
    assert (data / "train.jsonl").read_text() != (tmp_path / "other" / "train.jsonl").read_text()


def test_a_folder_that_exists_and_an_archive_of_something_else_are_refused(archive, data, tmp_path):
    done = prepare(archive, data)
    assert (done.returncode, done.stderr) == (1, f"{data} exists: name a new folder\n")
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    done = prepare(tmp_path / "empty.tar", tmp_path / "new")
    assert done.returncode == 1
    assert "is it the dataset?" in done.stderr


def test_the_recipe_trains_a_fresh_model(command, data, tmp_path):
    code, out, err = command(
        "finetune", "ctc", "--model", EXAMPLE / "model", "--train", data / "train.jsonl", "--eval",
        data / "unseen.jsonl", "--preset", RECIPE, "--output", tmp_path / "run", "--steps", "2",
    )  # fmt: skip
    assert code == 0, err
    assert "has no weights: a fresh model starts from seed 0" in err
    assert out.startswith("WER ")
    from safetensors.numpy import load_file

    from wav2vec2_core.config import Wav2Vec2Config
    from wav2vec2_core.parameters import initial_values, parameter_table

    config = Wav2Vec2Config.from_pretrained(tmp_path / "run" / "model")
    found = load_file(tmp_path / "run" / "model" / "model.safetensors")
    start = dict(initial_values(parameter_table(config, "ForCTC"), 0))
    assert found.keys() == start.keys()
    for name in ("wav2vec2.feature_extractor.conv_layers.0.conv.weight", "lm_head.weight"):
        moved = np.abs(found[name] - start[name])
        assert 0 < moved.max() < 0.05, name  # two steps of Adam from the values of the seed


def test_the_second_stage_is_the_first_one_with_masks_and_more_updates():
    first, second = (Recipe.read(path).to_dict() for path in (RECIPE, EXAMPLE / "second.toml"))
    different = {(part, name) for part in first for name in (first[part] if isinstance(first[part], dict) else ())
                 if first[part][name] != second[part][name]}  # fmt: skip
    assert different == {("model", "mask_time_prob"), ("schedule", "steps"), ("schedule", "hold"),
                         ("evaluation", "every"), ("checkpoints", "every")}  # fmt: skip


def test_the_recipe_of_the_keywords_trains_a_classifier(command, data, tmp_path):
    code, out, err = command(
        "finetune", "classify", "--model", EMBEDDED_MODEL, "--train", data / "words-train.jsonl", "--eval",
        data / "words-unseen.jsonl", "--preset", EXAMPLE / "words.toml", "--output", tmp_path / "run", "--steps", "2",
    )  # fmt: skip
    assert code == 0, err
    assert out.startswith("accuracy ")
    assert "train: 9 utterances" in err
    assert "eval: 16 utterances" in err


def test_a_model_without_weights_is_refused_where_parts_would_stay_random(command, data, tmp_path):
    code, _, err = command(
        "finetune", "ctc", "--model", EXAMPLE / "model", "--train", data / "train.jsonl", "--eval",
        data / "unseen.jsonl", "--preset", "1h", "--output", tmp_path / "run",
    )  # fmt: skip
    assert code == 1
    assert "has no weights, and the recipe leaves parts of it untrained: add the weights, or start fresh by" in err
    assert not (tmp_path / "run").exists()
