"""What a run leaves: scores on test data, a model card, a language model, and command lines that work."""

import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from local_hub import local_hub, run_with_hub
from tone_speech import write_tones

from wav2vec2_core.transcription import EMBEDDED_MODEL


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A manifest to train and measure on, and another one to test on."""
    folder = tmp_path_factory.mktemp("tones")
    (folder / "train").mkdir()
    (folder / "test").mkdir()
    return write_tones(folder / "train", 12), write_tones(folder / "test", 5, seed=3)


def arguments(data, output, *more):
    settings = {
        "schedule.frozen": 0, "evaluation.every": 12, "checkpoints.every": 12, "model.mask_time_prob": 0.0,
        "model.mask_feature_prob": 0.0,
    }  # fmt: skip
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return [
        "finetune", "ctc", "--model", str(EMBEDDED_MODEL), "--train", str(data[0]), "--eval", str(data[0]),
        "--preset", "10min", "--output", str(output), "--steps", "12", "--batch-seconds", "6",
        "--learning-rate", "1e-3", *sets, *map(str, more),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a *new* run"
    done = subprocess.run(
        [sys.executable, "-m", "wav2vec2_core", *arguments(data, folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture
def again(command, data, finished, tmp_path):
    """End the finished run once more, with other options; its folder is a copy."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)

    def run(*more):
        code, out, err = command(*arguments(data, folder, "--resume", *more))
        assert code == 0, err
        return out

    return folder, run


def rates(line):
    """The text of a line up to the first of what only one command says."""
    return line.partition("), ")[0].partition("): ")[0]


def lines_of(out, word):
    return [shlex.split(line)[1:] for line in out.splitlines() if line.strip().startswith(f"wav2vec2 {word}")]


def test_the_score_of_the_end_is_that_of_the_commands(command, finished, data):
    folder, out = finished
    first, where, model, *_ = out.splitlines()
    assert first.startswith("WER ")
    assert first.endswith(", greedy")
    assert where == f"on {data[0]}, 12 utterances"
    assert model == f"model: {folder / 'model'}"
    (evaluate,), (transcribe,) = lines_of(out, "evaluate"), lines_of(out, "transcribe")
    code, measured, err = command(*evaluate)
    assert code == 0, err
    assert rates(first) in measured
    transcribe[transcribe.index("RECORDING")] = data[0].parent / "0.wav"
    assert command(*transcribe)[0] == 0


def test_other_data_can_be_tested_on(again, command, data):
    folder, run = again
    out = run("--test", data[1])
    assert f"on {data[1]}, 5 utterances" in out
    code, measured, _ = command("evaluate", data[1], "--model", folder / "model")
    assert code == 0
    assert rates(out.splitlines()[0]) in measured
    card = (folder / "model" / "README.md").read_text()
    assert "| test | `train.jsonl` | 5 |" in card
    assert "a little too good" not in card


def test_the_card_says_what_is_known_and_its_code_runs(finished, data):
    folder, out = finished
    card = (folder / "model" / "README.md").read_text()
    _, head, text = card.split("---\n", 2)
    assert head == (
        "library_name: transformers\npipeline_tag: automatic-speech-recognition\ntags:\n- wav2vec2\n"
        "metrics:\n- wer\n- cer\n# license: choose one, such as apache-2.0\n"
    )
    assert r"# a \*new\* run" in text
    wer = out.split()[1]
    assert f"| WER, greedy | {wer} | " in text
    assert "The checkpoint was chosen on the same data" in text
    assert "| training | `train.jsonl` | 12 | 0.0036" in text
    digest = json.loads((folder / "run.json").read_text())["train"]["sha256"]
    assert digest[:16] in text
    assert str(Path.home()) not in card
    assert str(data[0].parent) not in card
    assert "learning_rate = 0.001" in text
    assert "None is stated yet" in text
    code = text.partition("```python\n")[2].partition("```")[0]
    code = code.replace("MODEL", str(folder / "model")).replace("recording.wav", str(data[0].parent / "0.wav"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "card", "exec"), {})
    start, end, word = printed.getvalue().splitlines()[0].split()
    assert 0 <= float(start) < float(end)
    assert word


def test_a_card_that_somebody_has_changed_is_kept(again):
    folder, run = again
    path = folder / "model" / "README.md"
    path.write_text("My own words. <!-- wav2vec2 finetune writes this file anew unless this line is gone. -->")
    run()
    assert "My own words." not in path.read_text()
    path.write_text("My own words.")
    run()
    assert path.read_text() == "My own words."


@pytest.mark.parametrize("option", [["--lm"], ["--lm", "2"]])
def test_a_language_model_of_the_training_texts(again, command, data, option):
    folder, run = again
    out = run(*option, "--test", data[1])
    order = option[1] if len(option) > 1 else "3"
    file = folder / "model" / "language_model" / f"{order}-gram.bin"
    code, described, _ = command("lm", "info", file)
    assert code == 0
    assert f"order            {order}" in described
    assert "seven" in described
    greedy, searched = out.splitlines()[:2]
    assert (greedy.rpartition(", ")[2], searched.rpartition(", ")[2]) == ("greedy", "with the language model")
    for lm, line in (("none", greedy), ("auto", searched)):
        code, measured, _ = command("evaluate", data[1], "--model", folder / "model", "--lm", lm)
        assert code == 0
        assert rates(line) in measured
    assert "WER, with the language model | " in (folder / "model" / "README.md").read_text()


def test_an_order_that_is_not_possible_is_refused_before_anything_is_read(command, data, tmp_path):
    code, out, err = command(*arguments(data, tmp_path / "run", "--lm", "0"))
    assert (code, out) == (1, "")
    assert err.startswith("error: the language model's order is 0: 1 to ")
    assert not (tmp_path / "run").exists()


def test_the_line_for_the_hub_uploads_all_of_it(finished, tmp_path):
    folder, out = finished
    line = next(line for line in out.splitlines() if line.strip().startswith("hf upload"))
    program, *rest = shlex.split(line.replace("OWNER/NAME", "org/name"))
    received = {}
    with local_hub(received) as (endpoint, asked):
        where = {"HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_of_nobody", "HF_HOME": str(tmp_path)}
        run_with_hub([Path(sys.executable).with_name(program), *rest], **where)
    assert asked[0]["name"] == "name"
    assert asked[0].get("visibility") == "private" or asked[0].get("private") is True
    assert received == {path.name: path.read_bytes() for path in (folder / "model").iterdir()}


def test_test_data_that_cannot_be_scored_are_refused_before_anything_is_written(command, data, tmp_path):
    rows = [json.loads(line) for line in data[1].read_text().splitlines()]
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"audio_filepath": str(data[1].parent / rows[0]["audio_filepath"])}) + "\n")
    code, out, err = command(*arguments(data, tmp_path / "run", "--test", path))
    assert (code, out) == (1, "")
    assert f"error: no row of {path} can be used: no text (1)" in err
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_passed_over(command, data, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    state = folder / "checkpoints" / "step-12" / "state" / "parameters.safetensors"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    code, out, err = command(*arguments(data, folder, "--resume"))
    assert code == 0
    assert "step-12 is damaged (state/parameters.safetensors has changed): going back to the one before" in err
    assert out.splitlines()[0] == finished[1].splitlines()[0]
    assert (folder / "train.jsonl").read_text() == (finished[0] / "train.jsonl").read_text()


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(command, data, finished, tmp_path, monkeypatch):
    folder, synchronize = tmp_path / "run", os.fsync

    def full(descriptor):
        if any((folder / "checkpoints").glob(".*")):  # a checkpoint is being written
            raise OSError(28, "No space left on device")
        synchronize(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    code, out, err = command(*arguments(data, folder))
    assert (code, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith(f"error: cannot write {folder / 'checkpoints'}/.step-12")
    assert last.endswith("(No space left on device): check the folder, its permissions and the free space")
    assert not list((folder / "checkpoints").iterdir())
    monkeypatch.undo()
    code, out, _ = command(*arguments(data, folder, "--resume"))
    assert code == 0
    assert out.splitlines()[0] == finished[1].splitlines()[0]
