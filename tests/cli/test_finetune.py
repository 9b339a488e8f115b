"""`wav2vec2 finetune ctc` with PyTorch and the embedded model, on tones."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from statistics import fmean

import pytest
from tone_speech import write_tones

from wav2vec2_core.transcription import EMBEDDED_MODEL

SETTINGS = {
    "schedule.frozen": 0, "evaluation.every": 8, "checkpoints.every": 3,
    "model.mask_time_prob": 0.05, "model.mask_feature_prob": 0.05, "model.mask_feature_length": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), 12)


def arguments(manifest, output, *more, steps=16):
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    return [
        "finetune", "ctc", "--model", str(EMBEDDED_MODEL), "--train", str(manifest), "--eval", str(manifest),
        "--preset", "10min", "--output", str(output), "--steps", str(steps), "--batch-seconds", "6",
        "--learning-rate", "1e-3", *settings, *map(str, more),
    ]  # fmt: skip


def records(folder):
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(manifest, tmp_path_factory):
    """A run of the command, as a shell starts it, that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = subprocess.run(
        [sys.executable, "-c", "from wav2vec2_core.cli import main; main()", *arguments(manifest, folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_loss_falls_and_the_result_is_a_model(command, finished, manifest):
    folder, done = finished
    losses = [record["loss"] for record in records(folder) if "loss" in record]
    assert len(losses) == 16
    assert fmean(losses[-4:]) < 0.5 * fmean(losses[:4])
    assert "train: 12 utterances, " in done.stderr
    assert "seconds of audio on average (batch_seconds 6)" in done.stderr
    assert "step 16: loss " in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("WER ")
    assert f"model: {folder / 'model'}" in lines
    evaluate = next(line for line in lines if "evaluate" in line).split()[1:]
    code, out, _ = command(*evaluate)
    assert code == 0
    assert lines[0].partition(",")[0] in out  # what the run says is what the next command measures


def test_a_run_that_is_killed_goes_on_bit_for_bit(command, finished, manifest, tmp_path):
    whole, _ = finished
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", "from wav2vec2_core.cli import main; main()", *arguments(manifest, folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    path, deadline = folder / "train.jsonl", time.monotonic() + 120
    while not (path.exists() and path.read_text().count("\n") >= 5) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "model").exists()
    code, _, err = command(*arguments(manifest, folder, "--resume"))
    assert code == 0, err
    assert "note: going on after " in err
    assert path.read_text() == (whole / "train.jsonl").read_text()
    for name in ("model/model.safetensors", "checkpoints/step-16/checkpoint.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_folder_with_a_run_and_another_configuration_are_refused(command, finished, manifest):
    folder, _ = finished
    code, out, err = command(*arguments(manifest, folder))
    assert (code, out) == (1, "")  # and no data have been read: there is nothing else on stderr
    assert err.splitlines() == [f"error: {folder} holds a run: go on with it by --resume, or name another folder"]
    code, _, err = command(*arguments(manifest, folder, "--resume", "--seed", 3))
    assert code == 1
    assert "recipe.seed was 0 and is 3; repeat its options or name a new folder" in err.splitlines()[-1]


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(command, manifest, tmp_path):
    code, out, err = command(*arguments(manifest, tmp_path / "none", "--device", "cuda:77"))
    assert (code, out) == (1, "")
    assert "error: device 'cuda:77' is not available here" in err.splitlines()[-1]
    assert not (tmp_path / "none").exists()


def test_a_dry_run_prints_a_recipe_that_can_be_used_and_writes_nothing(command, manifest, tmp_path):
    code, out, err = command(*arguments(manifest, tmp_path / "none", "--dry-run"))
    assert code == 0
    recipe, _, last = out.rpartition("one update: ")
    assert "loss " in last
    assert "an update: " in err
    assert "warning: that is far from the 1600 seconds of 10min. batch_seconds counts seconds of audio" in err
    assert re.search(r"memory: about \d+ MB: parameters 4 MB, gradients 3 MB, Adam 7 MB, activations \d+ MB;", err)
    assert re.search(
        r"time: about [\d.e+-]+ (s|min) for 16 updates, evaluations not included \(the second one took", err
    )
    assert not (tmp_path / "none").exists()
    (tmp_path / "own.toml").write_text(recipe)
    options = arguments(manifest, tmp_path / "none", "--dry-run")
    options[options.index("10min")] = str(tmp_path / "own.toml")
    code, again, err = command(*options)
    assert (code, again) == (0, out)


def test_shards_are_data_too(command, manifest, tmp_path):
    assert command("data", "shard", manifest, "--output", tmp_path / "data", "--shard-seconds", 9)[0] == 0
    code, from_files, _ = command(*arguments(manifest, tmp_path / "none", "--dry-run"))
    options = arguments(tmp_path / "data", tmp_path / "none", "--dry-run")
    options[options.index("--eval") + 1] = f"{tmp_path}/data/shard-{{00000..00001}}.tar"
    code, from_shards, err = command(*options)
    assert code == 0, err
    assert from_shards == from_files  # the same sound makes the same update


def test_rows_that_cannot_be_used_are_named_and_left_out(command, manifest, tmp_path):
    shutil.copytree(manifest.parent, tmp_path / "data")
    own = tmp_path / "data" / "train.jsonl"
    rows = [json.loads(line) for line in own.read_text().splitlines()]
    rows[0]["text"], rows[1]["audio_filepath"] = "ONE!", "gone.wav"
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = command(*arguments(own, tmp_path / "run", "--dry-run"))
    assert code == 0
    assert f"warning: train {own} has 2 rows that cannot be learned from" in err
    assert "gone.wav does not exist" in err
    assert "train: 10 utterances, " in err
    assert "eval: 11 utterances" in err  # unknown letters are errors of the model: they count
    own.write_text(json.dumps(rows[0]) + "\n")
    code, out, err = command(*arguments(own, tmp_path / "run"))
    assert (code, out) == (1, "")
    assert f"error: no row of {own} can be used: unknown letters (1)" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--preset", "2h"], "preset '2h' is unknown: use one of 10min, 1h, 10h, 100h, 960h"),
        (["--set", "schedule.stepz=3"], "did you mean schedule.steps?"),
        (["--steps", "0"], "schedule.steps is 0"),
        (["--backend", "theano"], "back end 'theano' is unknown"),
        (["--model", "no/such/folder"], "does not exist"),
    ],
)
def test_wrong_options_are_one_line_before_anything_is_written(command, manifest, tmp_path, more, message):
    code, out, err = command(*arguments(manifest, tmp_path / "run"), *more)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_output_is_needed(command, manifest):
    options = arguments(manifest, "x")
    del options[options.index("--output") : options.index("--output") + 2]
    code, _, err = command(*options)
    assert code == 1
    assert "there is no --output" in err


def test_a_pretrained_body_gets_a_head_of_the_vocabularys_size(command, manifest, tmp_path):
    from wav2vec2_core import Wav2Vec2Config, Wav2Vec2Processor
    from wav2vec2_torch import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining

    config = Wav2Vec2Config.from_pretrained(EMBEDDED_MODEL).replace(
        vocab_size=32, feat_extract_norm="group", do_stable_layer_norm=False, num_hidden_layers=1, pad_token_id=1
    )
    processor = Wav2Vec2Processor.from_pretrained(EMBEDDED_MODEL)
    Wav2Vec2ForPreTraining(config).save_pretrained(tmp_path / "body")
    options = arguments(manifest, tmp_path / "run", steps=2)
    options[options.index(str(EMBEDDED_MODEL))] = str(tmp_path / "body")
    processor.save_pretrained(tmp_path / "body")
    code, out, err = command(*options)
    assert code == 0, err
    assert out.startswith("WER ")
    model = Wav2Vec2ForCTC.from_pretrained(tmp_path / "run" / "model")
    assert (model.config.vocab_size, model.config.pad_token_id, model.config.masked_group_norm) == (17, 0, True)


def test_a_vocabulary_that_is_larger_than_the_head_is_refused_where_texts_need_it(command, manifest, tmp_path):
    shutil.copytree(EMBEDDED_MODEL, tmp_path / "model")
    path = tmp_path / "model" / "vocab.json"
    vocabulary = json.loads(path.read_text())
    options = arguments(manifest, tmp_path / "run", "--dry-run")
    options[options.index(str(EMBEDDED_MODEL))] = str(tmp_path / "model")
    path.write_text(json.dumps(vocabulary | {"q": 17}))
    assert command(*options)[0] == 0  # no text has a q
    path.write_text(json.dumps(vocabulary | {"z": 17, "q": 16}))
    code, _, err = command(*options)
    assert code == 1
    assert "numbers 'z' as 17 and the model's head has 17 outputs" in err
