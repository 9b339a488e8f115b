"""``wav2vec2 plot``, and how options are grouped in help."""

import re

import pytest

SAMPLE = "samples/three-one-four.flac"


def test_heard_words_and_those_of_a_text(command, tmp_path):
    pytest.importorskip("matplotlib", reason="draws with matplotlib")
    target = tmp_path / "a.svg"
    code, out, err = command("plot", SAMPLE, "-o", target)
    assert (code, out.strip()) == (0, str(target)), err
    assert re.findall(r">(three|one|four)<", target.read_text()) == ["three", "one", "four"]
    code, _, err = command("plot", SAMPLE, "-", "-o", target, stdin="Three! One.")
    assert code == 0, err
    assert re.findall(r">(Three!|One\.|four)<", target.read_text()) == ["Three!", "One."]


def test_what_is_refused_before_a_model_is_loaded(command, tmp_path):
    pytest.importorskip("matplotlib", reason="draws with matplotlib")
    for arguments, message in (
        ((SAMPLE, "-o", "a.pdf"), "a.pdf ends in neither .png nor .svg"),
        (("none.wav",), "none.wav does not exist"),
        ((SAMPLE, "none.txt"), "text none.txt cannot be read"),
        ((SAMPLE, "-o", tmp_path / "none" / "a.png"), "a.png (No such file or directory): check the folder"),
        ((SAMPLE, "--start", "2", "--end", "1"), "end=1 must be later than start=2"),
    ):
        code, out, err = command("plot", *arguments)
        assert (code, out) == (1, "")
        assert message in err
        assert "embedded" not in err


@pytest.mark.parametrize(
    ("arguments", "headings"),
    [
        (["transcribe"], ["Model and device", "Reading recordings", "Letters and language model", "Results"]),
        (["finetune", "ctc"], ["Model and device", "Data", "Training", "Letters and language model", "The run"]),
        (["pretrain"], ["Model and device", "Data", "Training", "The run"]),
    ],
)
def test_options_are_grouped_by_what_they_are_for(command, arguments, headings, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = command(*arguments, "--help")
    assert code == 0
    found = re.findall(r"^╭─ (.+?) ─+╮$", out, re.MULTILINE)
    assert sorted(heading for heading in found if heading not in ("Arguments", "Options")) == sorted(headings)
    ungrouped = out.partition("╭─ Options ")[2].partition("╰")[0]
    assert re.findall(r"--[a-z-]+", ungrouped) == ["--help"]
