"""`wav2vec2 data check`: what fine-tuning would leave out."""

import json

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
    assert f"  {tmp_path}/2.wav: Z (the vocabulary is in lower case) in 'Zero'" in lines
    assert "unreadable: 1 row" in lines
    assert any("gone.wav does not exist" in line for line in lines)
    assert "no text: 1 row" in lines


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
