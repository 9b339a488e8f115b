"""`wav2vec2 data check`: what fine-tuning would leave out."""

import json

import pytest
from tone_speech import write_tones

from wav2vec2_core.transcription import EMBEDDED_MODEL


def test_sound_data_is_counted(command, tmp_path):
    manifest = write_tones(tmp_path, 3)
    code, out, err = command("data", "check", manifest, "--model", EMBEDDED_MODEL)
    assert (code, err) == (0, "")
    assert out.startswith("3 rows, 3 to train on, ")


def test_rows_that_would_be_left_out_are_named_by_reason_and_the_exit_code_is_1(command, tmp_path):
    manifest = write_tones(tmp_path, 6)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[1]["text"] = ""
    rows[2]["text"] = "Zero"
    rows[3]["text"] = "SEVEN"
    rows[4]["audio_filepath"] = "gone.wav"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = command("data", "check", manifest)
    lines = out.splitlines()
    assert code == 1
    assert "note: no --model given" in err
    assert lines[0].startswith("6 rows, 2 to train on, ")
    assert lines[1] == "unknown letters: 2 rows"
    assert f"  {tmp_path}/2.wav: Z (the vocabulary is in lower case: use --case lower) in 'Zero'" in lines
    assert "unreadable: 1 row" in lines
    assert any("gone.wav does not exist" in line for line in lines)
    assert "no text: 1 row" in lines


def test_letters_of_the_texts_are_reported_and_known(command, tmp_path):
    manifest = write_tones(tmp_path, 3)
    manifest.write_text(manifest.read_text().replace('"text": "', '"text": "Ω, '))
    code, out, err = command("data", "check", manifest, "--model", EMBEDDED_MODEL)
    assert code == 1
    assert "unknown letters: 3 rows" in out
    code, out, err = command("data", "check", manifest, "--model", EMBEDDED_MODEL, "--vocabulary", "text")
    assert code == 0
    assert out.startswith("3 rows, 3 to train on, ")
    assert "note: vocabulary: punctuation among the letters: , (3); " in err
    assert "note: vocabulary: seen 3 times: , in 'Ω, " in err
    manifest.write_text(manifest.read_text().replace("Ω, ", "").upper().replace("AUDIO_FILEPATH", "audio_filepath")
                        .replace("TEXT", "text").replace(".WAV", ".wav"))  # fmt: skip
    assert command("data", "check", manifest, "--model", EMBEDDED_MODEL)[0] == 1
    assert command("data", "check", manifest, "--model", EMBEDDED_MODEL, "--case", "lower")[0] == 0
    code, out, err = command("data", "check", manifest, "--task", "pretrain", "--case", "lower")
    assert (code, out) == (1, "")
    assert err.endswith("error: --vocabulary and --case mean nothing to --task pretrain: leave them out\n")


def test_a_manifest_that_is_none_is_one_line(command, tmp_path):
    code, out, err = command("data", "check", tmp_path / "none.jsonl", "--model", EMBEDDED_MODEL)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_shards_are_written_gone_on_with_and_checked(command, tmp_path):
    manifest = write_tones(tmp_path, 5)
    with manifest.open("a") as file:
        file.write('{"audio_filepath": "gone.wav", "text": "one"}\n')
    code, out, err = command("data", "shard", manifest, "--output", tmp_path / "s", "--shard-seconds", "2")
    assert code == 1
    assert err == f"note: left out: {tmp_path}/gone.wav does not exist: check the path\n"
    shards = len(list((tmp_path / "s").glob("*.tar")))
    assert shards > 1
    assert out.startswith("5 rows, ")
    assert out.endswith(f" seconds, in {shards} shards: {tmp_path}/s\n")
    code, again, err = command(
        "data", "shard", manifest, "--output", tmp_path / "s", "--shard-seconds", "2", "--resume"
    )
    assert (code, again) == (1, out)
    assert err == f"note: left out: {tmp_path}/gone.wav could not be read when its shard was written\n"
    for data in (tmp_path / "s", f"{tmp_path}/s/*.tar"):
        code, out, err = command("data", "check", data, "--model", EMBEDDED_MODEL)
        assert (code, err) == (0, "")
        assert out.startswith("5 rows, 5 to train on, ")


def test_shards_that_cannot_be_written_are_one_line(command, tmp_path):
    manifest = write_tones(tmp_path, 1)
    code, out, err = command("data", "shard", manifest, "--output", manifest)
    assert (code, out, err.count("\n")) == (1, "", 1)
    code, out, err = command("data", "check", f"{tmp_path}/{{0..3}}.tar")
    assert (code, out) == (1, "")
    assert "matches no file" in err


def test_warnings_rates_and_durations_are_printed_and_leave_the_exit_code(command, tmp_path):
    manifest = write_tones(tmp_path, 3, rate=8000)
    with manifest.open("a") as file:
        file.write(manifest.read_text().splitlines()[0] + "\n")
    code, out, err = command("data", "check", manifest, "--model", EMBEDDED_MODEL)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("4 rows, 4 to train on, ")
    assert "warning: low rate: 4 rows" in lines
    assert "warning: duplicates: 1 row" in lines
    assert f"  {tmp_path}/0.wav: it is named twice" in lines
    assert "recorded at 8000 Hz (4)" in lines
    assert sum(int(line.split()[2]) for line in lines[lines.index("recorded at 8000 Hz (4)") + 1 :]) == 4


def test_the_same_for_programs(command, tmp_path):
    manifest = write_tones(tmp_path, 2)
    with manifest.open("a") as file:
        file.write('{"audio_filepath": "gone.wav", "text": "one"}\n')
    code, out, _ = command("data", "check", manifest, "--model", EMBEDDED_MODEL, "--json")
    found = json.loads(out)
    assert (code, found["rows"], found["usable"], found["rates"]) == (1, 3, 2, {"16000": 2})
    assert found["findings"][0]["row"] == f"{tmp_path}/gone.wav"


@pytest.mark.parametrize(
    ("task", "options", "usable"),
    [
        ("pretrain", (), 4),
        ("classify", (), 3),
        ("xvector", ("--column", "label"), 3),
        ("frames", ("--column", "parts"), 2),
    ],
)
def test_every_task_has_its_own_needs(command, tmp_path, task, options, usable):
    manifest = write_tones(tmp_path, 4)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for number, row in enumerate(rows[1:]):
        row["label"] = f"l{number % 2}"
        row["text"] = None
    rows[0]["parts"], rows[1]["parts"], rows[2]["parts"] = [[0, 0.2, "a"]], [[0, 0.4, "b"]], [[1, 0, "a"]]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = command("data", "check", manifest, "--task", task, *options)
    assert (code, err) == (int(usable < 4), "")
    assert out.startswith(f"4 rows, {usable} to train on, ")


def test_what_is_too_short_to_mask_is_skipped_by_pretraining(command, tmp_path):
    manifest = write_tones(tmp_path, 2)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[0]["duration"] = 0.06  # 2 frames, and a span has more
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = command("data", "check", manifest, "--task", "pretrain")
    assert code == 1
    assert "too short to mask: 1 row" in out.splitlines()


def test_a_column_that_the_task_has_not(command, tmp_path):
    manifest = write_tones(tmp_path, 1)
    code, _, err = command("data", "check", manifest, "--column", "speaker", "--model", EMBEDDED_MODEL)
    assert code == 1
    assert "--column 'speaker' means nothing to --task ctc" in err
    code, _, err = command("data", "check", manifest, "--task", "classify")
    assert code == 1
    assert "column 'label' of the training data holds nothing" in err
