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
