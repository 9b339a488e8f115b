"""`wav2vec2 finetune classify|frames|xvector` with PyTorch and the body of the embedded model, on tones."""

import json

import numpy as np
import pytest
import soundfile

from wav2vec2_core.transcription import EMBEDDED_MODEL

TONES = {"low": 300.0, "high": 1800.0}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Twelve recordings of one tone, with its name, a "speaker" who always sings it, and when it sounds."""
    folder = tmp_path_factory.mktemp("tones")
    generator = np.random.default_rng(0)
    lines = []
    for number in range(12):
        name = ("low", "high")[number % 2]
        samples = 0.01 * generator.standard_normal(16_000)
        samples[4000:12000] += 0.3 * np.sin(2 * np.pi * TONES[name] * np.arange(8000) / 16_000)
        soundfile.write(folder / f"{number}.wav", samples, 16_000)
        segments = [[0.25, 0.75, name]]
        lines.append({"path": f"{number}.wav", "label": name, "speaker": name[0], "segments": segments})
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def arguments(task, manifest, output, *more):
    settings = {
        "schedule.frozen": 0, "evaluation.every": 30, "checkpoints.every": 30, "model.mask_feature_prob": 0.0,
        "model.mask_time_prob": 0.0, "model.layerdrop": 0.0,
    }  # fmt: skip
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return [
        "finetune", task, "--model", str(EMBEDDED_MODEL), "--train", str(manifest), "--eval", str(manifest),
        "--preset", "10min", "--output", str(output), "--steps", "30", "--batch-seconds", "12",
        "--learning-rate", "2e-3", *sets, *map(str, more),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "more", "first"),
    [("classify", [], "accuracy "), ("frames", ["--rest", "quiet"], "accuracy "), ("xvector", [], "EER ")],
)
def test_the_result_is_a_model_that_classifies(command, manifest, tmp_path, task, more, first):
    code, out, err = command(*arguments(task, manifest, tmp_path / "run", *more))
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith(first)
    share = float(lines[0].removeprefix(first).partition("%")[0])
    assert share > 90 if task != "xvector" else share < 20
    use = next(line for line in lines if "classify" in line).split()[1:]
    use[use.index("RECORDING")] = str(manifest.parent / "1.wav")
    code, out, err = command(*use)
    assert code == 0, err
    answer = json.loads(out)
    if task == "classify":
        assert answer["labels"][0]["label"] == "high"
    if task == "frames":
        spans = answer["spans"]
        assert [span["label"] for span in spans if span["end"] - span["start"] > 0.2] == ["quiet", "high", "quiet"]


def test_data_without_the_column_are_refused_before_anything_is_written(command, manifest, tmp_path):
    code, out, err = command(*arguments("classify", manifest, tmp_path / "run", "--column", "emotion"))
    assert (code, out) == (1, "")
    assert "column 'emotion' of the training data holds nothing" in err
    assert "choose another --column, of label, segments, speaker" in err
    assert not (tmp_path / "run").exists()
