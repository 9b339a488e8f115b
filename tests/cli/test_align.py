"""``wav2vec2 align`` and ``wav2vec2 evaluate`` as a shell runs them, on real recordings."""

import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_results import one_error
from mms_folder import write_mms

from wav2vec2_core.audio import read_audio
from wav2vec2_core.transcription import EMBEDDED_MODEL, Transcriber

ROOT = Path(__file__).parents[2]
THREE_ONE_FOUR = ROOT / "samples" / "three-one-four.flac"
TWO_SEVEN = ROOT / "samples" / "two-seven-one-eight.flac"
SHARED = ROOT.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the recordings of ../shared/data are not here")
MODEL = ("--model", EMBEDDED_MODEL)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Three, one -\n\nfour!\n", encoding="utf-8")
    return path


def heard(path):
    transcript = Transcriber().transcribe(path)
    return [(word.text, word.start, word.end) for word in transcript.timed_words]


# ---- align ----------------------------------------------------------------------------------------------------------


def test_the_words_of_a_text_have_the_times_of_the_transcript(command, text):
    code, out, err = command("align", THREE_ONE_FOUR, text, *MODEL, "--characters")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert [segment["text"] for segment in result["segments"]] == ["Three, one -", "four!"]
    words = [word for segment in result["segments"] for word in segment["words"]]
    assert [word["word"] for word in words] == ["Three,", "one -", "four!"]
    wanted = heard(THREE_ONE_FOUR)
    assert [(word["start"], word["end"]) for word in words] == [(start, end) for _, start, end in wanted]
    assert all(0.5 < word["probability"] <= 1 for word in words)
    assert [c["character"] for c in words[0]["characters"]] == list("Three")
    assert words[0]["characters"][0]["start"] == words[0]["start"]


def test_digits_are_found_among_words(command):
    code, out, err = command("align", THREE_ONE_FOUR, "-", *MODEL, "-f", "tsv", stdin="3\none\n4")
    assert (code, err) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()[1:]]
    assert [row[2] for row in rows] == ["3", "one", "4"]
    for (start, end, _), (_, first, last) in zip(rows, heard(THREE_ONE_FOUR), strict=True):
        assert abs(int(start) - 1000 * first) <= 40
        assert abs(int(end) - 1000 * last) <= 40


def test_all_formats_into_a_folder(command, text, tmp_path):
    folder = tmp_path / "new" / "out"
    assert command("align", THREE_ONE_FOUR, text, *MODEL, "-f", "all", "-o", folder) == (0, "", "")
    names = {path.name.removeprefix("three-one-four.") for path in folder.iterdir()}
    assert names == {"json", "tsv", "srt", "vtt", "ctm", "TextGrid", "audacity.txt"}
    assert (folder / "three-one-four.srt").read_text().startswith("1\n00:00:00,120 --> 00:00:00,")
    assert (folder / "three-one-four.ctm").read_text().startswith("three-one-four 1 0.120 ")
    assert "xmax = 2.00" in (folder / "three-one-four.TextGrid").read_text()


def test_a_manifest_with_stretches_and_a_missing_file(command, tmp_path):
    rows = [
        {"audio_filepath": str(THREE_ONE_FOUR), "text": "three one four"},
        {"audio_filepath": "gone.wav", "text": "one"},
        {"audio_filepath": str(TWO_SEVEN), "text": "one eight", "offset": 1.1, "duration": 0.9},
        {"audio_filepath": str(TWO_SEVEN)},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, out, err = command("align", "--manifest", tmp_path / "m.jsonl", *MODEL)
    assert code == 1
    results = [json.loads(line) for line in out.splitlines()]
    assert [result["file"] for result in results] == [str(THREE_ONE_FOUR), str(TWO_SEVEN)]
    lines = err.splitlines()
    assert len(lines) == 2
    assert "gone.wav does not exist" in lines[0]
    assert "no text for" in lines[1]
    words = results[1]["segments"][0]["words"]
    assert [word["word"] for word in words] == ["one", "eight"]
    for word, (_, start, end) in zip(words, heard(TWO_SEVEN)[2:], strict=True):
        assert abs(word["start"] - start) <= 0.08  # the model hears the stretch without what is before it
        assert abs(word["end"] - end) <= 0.08


def test_what_cannot_be_aligned(command, text, tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "long.txt").write_text("one two three four five six seven eight nine " * 9)
    (tmp_path / "greek.txt").write_text("τρία ένα τέσσερα", encoding="utf-8")
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    one_error(command("align", THREE_ONE_FOUR, tmp_path / "empty.txt", *MODEL), "has no words: nothing to align")
    long = command("align", THREE_ONE_FOUR, tmp_path / "long.txt", *MODEL)
    one_error(long, "three-one-four.flac: 81 words need at least ", "the recording has 98: use the text of this")
    one_error(command("align", THREE_ONE_FOUR, tmp_path / "greek.txt", *MODEL), "no letter of 'τρία", "(e f g h")
    one_error(command("align", THREE_ONE_FOUR, tmp_path / "latin1.txt", *MODEL), "latin1.txt is not UTF-8")
    one_error(command("align", THREE_ONE_FOUR, tmp_path / "gone.txt", *MODEL), "gone.txt cannot be read (No such file")
    one_error(command("align", tmp_path / "gone.wav", text, *MODEL), "gone.wav does not exist")
    one_error(command("align", THREE_ONE_FOUR, *MODEL), "a recording and its text are needed")
    one_error(command("align", THREE_ONE_FOUR, text, *MODEL, "-f", "all"), "name a folder with --output-dir")
    one_error(command("align", THREE_ONE_FOUR, text, *MODEL, "-o", text / "x"), "cannot create folder")


def test_the_vocabulary_and_the_adapter_of_a_language(command, tmp_path):
    from wav2vec2_core.alignment import Aligner
    from wav2vec2_core.decoding.forced_alignment import align_words
    from wav2vec2_torch import Wav2Vec2ForCTC

    mms = write_mms(tmp_path)
    for language, text in (("eng", "ab ba"), ("fra", "éà çé")):
        (tmp_path / "text.txt").write_text(text, encoding="utf-8")
        model = ("--model", mms, "--language", language)
        code, out, err = command("align", THREE_ONE_FOUR, tmp_path / "text.txt", *model, "--characters")
        assert (code, err) == (0, "")
        result = json.loads(out)
        assert result["language"] == language
        words = result["segments"][0]["words"]
        assert [word["word"] for word in words] == text.split()
        assert all(c["probability"] > 0 for word in words for c in word["characters"])  # spelled, not matched by a star
        aligner = Aligner(mms, language=language)
        tokenizer = aligner.transcriber.processor.tokenizer
        direct = Wav2Vec2ForCTC.from_pretrained(mms, target_lang=language).eval()
        values = aligner.transcriber.processor(read_audio(THREE_ONE_FOUR), sampling_rate=16_000, return_tensors="pt")
        (found,) = align_words(direct(**values).logits[0].detach().numpy(), [text], tokenizer)
        seconds = aligner.transcriber.timeline.seconds
        wanted = [(round(seconds(word.start), 3), round(seconds(word.end), 3)) for word in found]
        assert [(word["start"], word["end"]) for word in words] == wanted
    text_of_another = command("align", THREE_ONE_FOUR, tmp_path / "text.txt", "--model", mms, "--language", "eng")
    assert text_of_another[0] == 0  # é and à without their accents are letters of it
    (tmp_path / "text.txt").write_text("çç", encoding="utf-8")
    one_error(
        command("align", THREE_ONE_FOUR, tmp_path / "text.txt", "--model", mms, "--language", "eng"),
        "no letter of 'çç' is in the vocabulary (a b ...)", "or a language of the model",
    )  # fmt: skip
    for given in ((), ("--language", "deu"), ("--language", "../eng")):
        result = command("align", THREE_ONE_FOUR, tmp_path / "text.txt", "--model", mms, *given)
        one_error(result, *given[1:], "eng, fra")


def test_a_bar_in_seconds_of_audio_where_a_person_watches(command, monkeypatch, tmp_path):
    """Errors and results beside it; without a terminal there is none, as the other tests show."""
    rows = [
        {"audio_filepath": str(THREE_ONE_FOUR), "text": "three one four"},
        {"audio_filepath": "gone.wav", "text": "one"},
        {"audio_filepath": str(TWO_SEVEN), "text": "one eight", "offset": 1.1, "duration": 0.9},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, out, err = command("align", "--manifest", tmp_path / "m.jsonl", *MODEL, "-f", "ctm")
    assert code == 1
    assert [line.split()[4] for line in out.splitlines()] == ["three", "one", "four", "one", "eight"]
    assert "Aligning" in err
    assert "0:02 / 0:02" in err  # 1.97 and 0.9 s, not all of the second recording
    assert "does not exist" in " ".join(err.split())  # wrapped as the terminal is wide


@needs_shared
def test_real_recordings_in_a_row_keep_their_times(command, tmp_path):
    """Digits of several speakers, with silence and foreign speech between them."""
    names = {f"{digit}_{speaker}_1.wav" for digit in range(10) for speaker in ("jackson", "george", "nicolas")}
    digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    pieces, lines, borders, position = [], [], [], 0
    generator = np.random.default_rng(0)
    with tarfile.open(SHARED / "fsdd.tar.xz") as archive:
        found = {
            Path(member.name).name: archive.extractfile(member).read()
            for member in archive
            if Path(member.name).name in names
        }
    for name in sorted(names, key=lambda _: generator.random()):
        (tmp_path / name).write_bytes(found[name])
        samples = read_audio(tmp_path / name)
        pause = generator.normal(0, 1e-3, int(generator.uniform(0.2, 3.0) * 16_000)).astype(np.float32)
        pieces += [pause, samples]
        position += len(pause)
        borders.append((position / 16_000, (position + len(samples)) / 16_000))
        position += len(samples)
        lines.append(digits[int(name[0])])
    soundfile.write(tmp_path / "long.wav", np.concatenate(pieces), 16_000)
    (tmp_path / "long.txt").write_text("\n".join(lines))
    code, out, _ = command("align", tmp_path / "long.wav", tmp_path / "long.txt", *MODEL)
    assert code == 0
    segments = json.loads(out)["segments"]
    assert [segment["text"] for segment in segments] == lines
    inside = [
        start - 0.1 <= segment["start"] and segment["end"] <= end + 0.1
        for segment, (start, end) in zip(segments, borders, strict=True)
    ]
    assert sum(inside) >= 29, [line for line, good in zip(lines, inside, strict=True) if not good]


# ---- evaluate -------------------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(tmp_path):
    pytest.importorskip("jiwer", reason="jiwer, of the extra train, is not installed here")
    path = tmp_path / "m.csv"
    path.write_text(
        f"path,text,offset\n{THREE_ONE_FOUR},Three one FIVE,\n{TWO_SEVEN},two seven one eight,\n"
        f"gone.wav,one,\n{TWO_SEVEN},eight,1.5\n"
    )
    return path


def test_error_rates(command, manifest, tmp_path):
    code, out, err = command("evaluate", manifest, *MODEL, "--lower-case", "-o", tmp_path / "rows.tsv")
    assert code == 1
    assert err.splitlines() == [f"error: {tmp_path / 'gone.wav'} does not exist: check the path"]
    assert out.startswith("3 utterances, 1 failed, 8 words\nWER 12.50% (95 % of resamples: 0.00% to ")
    assert ": 1 substitutions, 0 deletions, 0 insertions\nCER " in out
    assert f"\n33% {THREE_ONE_FOUR}\n  reference   three one five\n  hypothesis  three one four\n" in out
    rows = (tmp_path / "rows.tsv").read_text().splitlines()
    assert len(rows) == 4
    assert rows[3].split("\t")[-1] == "eight"
    code, out, _ = command("evaluate", manifest, *MODEL, "-o", tmp_path / "rows.json", "--worst", 0)
    assert (code, out.count("\n")) == (1, 3)
    result = json.loads((tmp_path / "rows.json").read_text())
    assert (result["utterances"], result["failed"], result["wer"]) == (3, 1, 0.25)
    assert result["rows"][0]["hypothesis"] == "three one four"


def test_hypotheses_without_a_model(command, manifest, tmp_path):
    (tmp_path / "h.txt").write_text("three one five\ntwo seven one\none\n\n")
    code, out, err = command("evaluate", manifest, "--hypotheses", tmp_path / "h.txt", "--lower-case")
    assert (code, err) == (0, "")
    assert out.startswith("4 utterances, 9 words\nWER 22.22% ")
    assert "\n100% " in out
    one_error(command("evaluate", manifest, "--hypotheses", tmp_path / "h.txt", *MODEL), "leave out --model")
    (tmp_path / "h.txt").write_text("one\n")
    one_error(command("evaluate", manifest, "--hypotheses", tmp_path / "h.txt"), "has 1 lines, the manifest 4")


def test_a_language_model_file(command, manifest, tmp_path):
    (tmp_path / "lm.arpa").write_text(
        "\\data\\\nngram 1=6\n\n\\1-grams:\n-9\t<unk>\n-9\t<s>\n-1\t</s>\n-0.5\tthree\n-0.5\tone\n-0.3\tfive\n\n"
        "\\end\\\n"
    )
    code, _, _ = command("evaluate", manifest, *MODEL, "--lm", tmp_path / "lm.arpa", "-o", tmp_path / "rows.json")
    assert code == 1
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert rows[0]["hypothesis"].startswith("three one")
    one_error(command("evaluate", manifest, *MODEL, "--lm", tmp_path / "gone.arpa"), "gone.arpa")


def test_a_search_without_a_language_model(command, manifest, tmp_path, monkeypatch):
    from wav2vec2_core.decoding.choice import DecoderOptions

    choices, decoder = [], DecoderOptions.decoder
    monkeypatch.setattr(DecoderOptions, "decoder", lambda choice, *of: choices.append(choice) or decoder(choice, *of))
    command("evaluate", manifest, *MODEL, "--beam-width", 7, "--hotwords", "three, one,")
    assert choices == [DecoderOptions(hotwords=("three", "one"), beam_width=7)]
    one_error(command("evaluate", manifest, *MODEL, "--alpha", 0.5), "alpha and beta weigh a language model")
    (tmp_path / "h.txt").write_text("one\n" * 4)
    with_search = command("evaluate", manifest, "--hypotheses", tmp_path / "h.txt", "--beam-width", 5)
    one_error(with_search, "leave out --model, --lm and the rest of decoding")


def test_what_cannot_be_evaluated(command, manifest, tmp_path):
    one_error(command("evaluate", tmp_path / "gone.csv", *MODEL), "gone.csv cannot be read")
    one_error(command("evaluate", manifest, *MODEL, "-o", tmp_path / "rows.doc"), "neither .tsv nor .json")
    (tmp_path / "n.csv").write_text(f"path\n{TWO_SEVEN}\n")
    one_error(command("evaluate", tmp_path / "n.csv", *MODEL), "n.csv has no text for")
    (tmp_path / "g.csv").write_text("path,text\ngone.wav,one\n")
    code, out, err = command("evaluate", tmp_path / "g.csv", *MODEL)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "error: none of 1 utterances has a hypothesis: nothing to score"
