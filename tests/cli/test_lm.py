"""``wav2vec2 lm attach`` and ``tune``, and language models in ``transcribe``, as a shell runs them."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_results import one_error
from mms_folder import write_mms

from wav2vec2_core.audio import read_audio
from wav2vec2_core.transcription import EMBEDDED_MODEL

ROOT = Path(__file__).parents[2]
THREE_ONE_FOUR = ROOT / "samples" / "three-one-four.flac"
TWO_SEVEN = ROOT / "samples" / "two-seven-one-eight.flac"
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def arpa(tmp_path):
    """Digits: each as probable as the others."""
    words = "".join(f"-1.1\t{word}\n" for word in DIGITS)
    (tmp_path / "digits.arpa").write_text(
        f"\\data\\\nngram 1=13\n\n\\1-grams:\n-9\t<unk>\n-9\t<s>\n-1.1\t</s>\n{words}\n\\end\\\n"
    )
    return tmp_path / "digits.arpa"


@pytest.fixture
def model(command, tmp_path, arpa):
    """The embedded model with a language model whose weights are of no use."""
    folder = tmp_path / "model"
    assert command("lm", "attach", EMBEDDED_MODEL, arpa, "-o", folder) == (0, f"{folder}\n", "")
    attributes = json.loads((folder / "language_model" / "attrs.json").read_text())
    attributes |= {"alpha": 0.0, "beta": -30.0}
    (folder / "language_model" / "attrs.json").write_text(json.dumps(attributes))
    return folder


@pytest.fixture
def manifest(tmp_path):
    """One recording alone, one as two stretches of a longer file."""
    samples = np.concatenate([np.zeros(16_000, np.float32), read_audio(TWO_SEVEN)])
    soundfile.write(tmp_path / "later.wav", samples, 16_000)
    rows = [
        {"audio_filepath": str(THREE_ONE_FOUR), "text": "three one four"},
        {"audio_filepath": "later.wav", "text": "two seven one eight", "offset": 1.0},
        {"audio_filepath": str(TWO_SEVEN)},
    ]
    return write(tmp_path / "dev.jsonl", rows)


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_tuning_finds_weights_and_keeps_them(command, model, manifest):
    attributes = model / "language_model" / "attrs.json"
    before = attributes.read_text()
    code, out, err = command("lm", "tune", model, manifest, "--trials", 6, "--threads", 1, "--dry-run")
    assert (code, err) == (0, "")
    assert attributes.read_text() == before
    assert out.splitlines()[-1].startswith("greedy decoding 0.00%, the weights before ")
    assert not out.splitlines()[-1].endswith(" 0.00%")
    code, again, err = command("lm", "tune", model, manifest, "--trials", 6, "--threads", 1)
    best = again.splitlines()[1].split()
    assert (code, again, best[2]) == (0, out, "0.00%")
    found = json.loads(attributes.read_text())
    assert [found["alpha"], found["beta"]] == [float(value) for value in best[:2]]
    assert err == f"note: {attributes} has alpha={found['alpha']} and beta={found['beta']} now\n"
    assert command("transcribe", THREE_ONE_FOUR, "--model", model) == (0, "three one four\n", "")


def test_texts_in_another_case(command, model, tmp_path):
    shouted = write(tmp_path / "m.jsonl", [{"audio_filepath": str(THREE_ONE_FOUR), "text": "THREE, ONE, FOUR!"}])
    before = (model / "language_model" / "attrs.json").read_text()
    one_error(
        command("lm", "tune", model, shouted),
        "'THREE, ONE, FOUR!' is heard as 'three one four'", "--lower-case", "--remove-punctuation",
    )  # fmt: skip
    assert (model / "language_model" / "attrs.json").read_text() == before
    options = ("--lower-case", "--remove-punctuation", "--trials", 2)
    code, out, _ = command("lm", "tune", model, shouted, *options)
    assert code == 0
    assert "greedy decoding 0.00%" in out


def test_what_cannot_be_tuned(command, model, manifest, tmp_path):
    silent = write(tmp_path / "silent.jsonl", [{"audio_filepath": str(THREE_ONE_FOUR)}])
    one_error(command("lm", "tune", model, silent), "silent.jsonl has no text for any recording: add")
    one_error(command("lm", "tune", EMBEDDED_MODEL, manifest), "no folder language_model", "wav2vec2 lm attach")
    one_error(command("lm", "tune", tmp_path / "gone", manifest), "gone' does not exist")
    late = write(tmp_path / "late.jsonl", [{"audio_filepath": str(THREE_ONE_FOUR), "text": "one", "offset": 9.0}])
    one_error(command("lm", "tune", model, late), "three-one-four.flac lasts 2.01 s", "begins at 9 s")


def test_folders_and_vocabularies(command, model, arpa, tmp_path):
    plain = ("transcribe", THREE_ONE_FOUR, "--model", EMBEDDED_MODEL)
    for folder in (model, model / "language_model"):
        code, out, err = command(*plain, "--lm", folder, "--alpha", 0.5, "--beta", 1.5)
        assert (code, out, err) == (0, "three one four\n", "")
    one_error(command(*plain, "--lm", tmp_path), "no folder language_model", "wav2vec2 lm attach")
    content = json.loads((model / "alphabet.json").read_text())
    content["labels"][5], content["labels"][6] = content["labels"][6], content["labels"][5]
    (model / "alphabet.json").write_text(json.dumps(content))
    for arguments in (("--model", model), ("--model", EMBEDDED_MODEL, "--lm", model)):
        result = command("transcribe", THREE_ONE_FOUR, *arguments)
        one_error(result, "attached for another vocabulary (token ", "attach it for this one")


def test_languages_of_a_model(command, tmp_path):
    """A language model belongs to the vocabulary of one language."""
    (tmp_path / "mms").mkdir()
    mms = write_mms(tmp_path / "mms")
    (tmp_path / "eng.arpa").write_text(
        "\\data\\\nngram 1=5\n\n\\1-grams:\n-9\t<unk>\n-9\t<s>\n-1\t</s>\n-0.5\tab\n-0.5\tba\n\n\\end\\\n"
    )
    assert command("lm", "attach", mms, tmp_path / "eng.arpa", "--language", "eng")[0] == 0
    assert command("transcribe", THREE_ONE_FOUR, "--model", mms, "--language", "eng")[0] == 0
    one_error(
        command("transcribe", THREE_ONE_FOUR, "--model", mms, "--language", "fra"), "attached for another vocabulary"
    )
    assert command("transcribe", THREE_ONE_FOUR, "--model", mms, "--language", "fra", "--lm", "none")[0] == 0
    copied = tmp_path / "copied"
    assert command("lm", "attach", mms, tmp_path / "eng.arpa", "--language", "eng", "-o", copied)[0] == 0
    both = [command("transcribe", THREE_ONE_FOUR, "--model", name, "--language", "eng") for name in (mms, copied)]
    assert both[0] == both[1]
    assert both[0][0] == 0
    dev = write(tmp_path / "dev.jsonl", [{"audio_filepath": str(THREE_ONE_FOUR), "text": "ab ba"}])
    code, out, _ = command("lm", "tune", mms, dev, "--language", "eng", "--trials", 2)
    assert code == 0
    assert "greedy decoding" in out
    one_error(command("lm", "tune", mms, dev, "--trials", 2), "--language", "eng, fra")
