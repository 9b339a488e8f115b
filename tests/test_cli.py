"""The command as a shell runs it: results on stdout, all else on stderr, honest exit codes."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2vec2_core.cli import main
from wav2vec2_core.transcription import EMBEDDED_MODEL

ROOT = Path(__file__).parent.parent
THREE_ONE_FOUR = ROOT / "samples" / "three-one-four.flac"
TWO_SEVEN = ROOT / "samples" / "two-seven-one-eight.flac"
SHARED = ROOT.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the recordings of ../shared/data are not here")


@pytest.fixture
def command(monkeypatch, capfd):
    """Run `wav2vec2 ...`; gives exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["wav2vec2", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stopped:
            code = stopped.code or 0
        out, err = capfd.readouterr()
        return code, out, err

    return run


def write(path, samples, rate=16_000, **options):
    soundfile.write(path, samples, rate, **options)
    return path


def noise(samples, channels=None):
    shape = samples if channels is None else (samples, channels)
    return np.random.default_rng(0).normal(0, 0.05, shape)


# ---- transcribe ---------------------------------------------------------------------------------------------------


def test_first_command_of_the_readme(command):
    code, out, err = command("transcribe", THREE_ONE_FOUR)
    assert (code, out) == (0, "three one four\n")
    assert "no --model given" in err
    assert "digits" in err
    assert "--model facebook/" in err
    assert err.count("\n") == 1


def test_no_note_where_a_model_is_named(command):
    assert command("transcribe", THREE_ONE_FOUR, "--model", EMBEDDED_MODEL) == (0, "three one four\n", "")


def test_several_files_on_stdout(command):
    code, out, _ = command("transcribe", THREE_ONE_FOUR, TWO_SEVEN)
    assert code == 0
    assert out == f"{THREE_ONE_FOUR}\tthree one four\n{TWO_SEVEN}\ttwo seven one eight\n"


def test_text_and_json_files(command, tmp_path):
    code, out, _ = command("transcribe", THREE_ONE_FOUR, TWO_SEVEN, "--output-dir", tmp_path / "new" / "out")
    assert (code, out) == (0, "")
    assert (tmp_path / "new" / "out" / "three-one-four.txt").read_text() == "three one four\n"
    code, out, _ = command("transcribe", TWO_SEVEN, "-o", tmp_path, "-f", "json")
    assert (code, out) == (0, "")
    result = json.loads((tmp_path / "two-seven-one-eight.json").read_text())
    assert result["text"] == "two seven one eight"
    words = result["segments"][0]["words"]
    assert [word["word"] for word in words] == ["two", "seven", "one", "eight"]
    times = [time for word in words for time in (word["start"], word["end"])]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 2.7
    assert all(0.3 < word["probability"] <= 1 for word in words)


def test_json_on_stdout_is_a_line_a_file(command):
    _, out, _ = command("transcribe", THREE_ONE_FOUR, TWO_SEVEN, "--output-format", "json")
    results = [json.loads(line) for line in out.splitlines()]
    assert [(result["file"], result["text"]) for result in results] == [
        (str(THREE_ONE_FOUR), "three one four"),
        (str(TWO_SEVEN), "two seven one eight"),
    ]


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (48_000, 6), (16_000, 1)])
def test_any_rate_and_channel_count(command, tmp_path, rate, channels):
    import soxr

    samples, original = soundfile.read(THREE_ONE_FOUR)
    samples = soxr.resample(samples, original, rate)
    path = write(tmp_path / "a.wav", np.stack([samples] * channels, axis=1), rate)
    assert command("transcribe", path)[1] == "three one four\n"


def bad_files(folder):
    """name -> (path, part of the message)"""
    flac = THREE_ONE_FOUR.read_bytes()
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is no audio " * 50)
    (folder / "truncated.flac").write_bytes(flac[: len(flac) // 3])
    (folder / "folder.wav").mkdir()
    broken = noise(16_000)
    broken[5000] = np.nan
    infinite = noise(16_000)
    infinite[5000] = np.inf
    return {
        "missing": (folder / "missing.wav", "missing.wav"),
        "empty": (folder / "empty.wav", "empty"),
        "text": (folder / "text.wav", "text.wav"),
        "truncated": (folder / "truncated.flac", "truncated.flac"),
        "folder": (folder / "folder.wav", "folder"),
        "zero samples": (write(folder / "zero.wav", np.zeros(0)), "zero.wav"),
        "399 samples": (write(folder / "short.wav", noise(399)), "short.wav has 399 samples at 16000 Hz"),
        "nan": (write(folder / "nan.wav", broken, subtype="FLOAT"), "nan.wav"),
        "infinite": (write(folder / "inf.wav", infinite, subtype="FLOAT"), "inf.wav"),
    }


def test_bad_files_are_one_line_each_and_do_not_stop_the_others(command, tmp_path):
    cases = bad_files(tmp_path)
    out_folder = tmp_path / "out"
    paths = [path for path, _ in cases.values()]
    code, out, err = command("transcribe", *paths, THREE_ONE_FOUR, "--model", EMBEDDED_MODEL, "-o", out_folder)
    assert code == 1
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == len(cases), err
    for line, (name, (_, message)) in zip(lines, cases.items(), strict=True):
        assert line.startswith("error: "), name
        assert message in line, name
    assert [path.name for path in out_folder.iterdir()] == ["three-one-four.txt"]


def one_error(result, *parts):
    code, out, err = result
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    for part in parts:
        assert part in err


def test_output_folder_that_cannot_be_made_stops_before_the_work(command, tmp_path):
    (tmp_path / "file").touch()
    one_error(command("transcribe", THREE_ONE_FOUR, "-o", tmp_path / "file" / "x"), "cannot create folder")
    one_error(command("transcribe", THREE_ONE_FOUR, "-o", tmp_path / "file"), "cannot create folder")


def test_output_folder_that_takes_no_files(command):
    one_error(command("transcribe", THREE_ONE_FOUR, "-o", "/proc"), "folder /proc is not writable")


def test_two_recordings_never_share_a_result(command, tmp_path):
    other = write(tmp_path / "three-one-four.wav", noise(16_000))
    one_error(
        command("transcribe", THREE_ONE_FOUR, other, "-o", tmp_path / "out"),
        "would both be written",
        "two output folders",
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["transcribe", "info"])
def test_models_that_are_not_there(command, tmp_path, verb):
    arguments = (THREE_ONE_FOUR, "--model") if verb == "transcribe" else ()
    one_error(command(verb, *arguments, "nobody/no-such-model"), "nobody/no-such-model")
    one_error(command(verb, *arguments, tmp_path), "config.json", str(tmp_path))
    one_error(command(verb, *arguments, tmp_path / "missing"), "missing")


def test_names_of_back_ends_devices_and_dtypes(command):
    one_error(command("transcribe", THREE_ONE_FOUR, "--model", EMBEDDED_MODEL, "--backend", "mxnet"), "mxnet", "torch")
    one_error(command("transcribe", THREE_ONE_FOUR, "--model", EMBEDDED_MODEL, "--device", "abacus"), "abacus")
    one_error(command("transcribe", THREE_ONE_FOUR, "--model", EMBEDDED_MODEL, "--dtype", "int3"), "int3")


def test_language_of_a_model_without_languages(command):
    one_error(command("transcribe", THREE_ONE_FOUR, "--model", EMBEDDED_MODEL, "--language", "fra"), "fra")
    one_error(command("transcribe", THREE_ONE_FOUR, "--model", EMBEDDED_MODEL, "--language", "../x"), "../x")


LANGUAGES = {"eng": ["<pad>", "|", "a", "b"], "fra": ["<pad>", "|", "é", "à", "ç"]}


@pytest.fixture(scope="module")
def mms(tmp_path_factory):
    """A small model with a vocabulary and an adapter for each of two languages, none of them chosen."""
    import torch

    from wav2vec2_core import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
    from wav2vec2_torch import Wav2Vec2ForCTC

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("mms")
    nested = {language: {token: i for i, token in enumerate(tokens)} for language, tokens in LANGUAGES.items()}
    (folder / "vocab.json").write_text(json.dumps(nested), encoding="utf-8")
    none = {"bos_token": None, "eos_token": None, "unk_token": None}
    tokenizer = Wav2Vec2CTCTokenizer(folder / "vocab.json", target_lang="eng", **none)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["target_lang"] = None
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    for language, tokens in reversed(LANGUAGES.items()):
        config = Wav2Vec2Config(
            vocab_size=len(tokens), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            conv_dim=(16,) * 3, conv_stride=(10, 8, 4), conv_kernel=(10, 8, 4), num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=4, do_stable_layer_norm=True, adapter_attn_dim=4, mask_time_prob=0.0,
        )  # fmt: skip
        model = Wav2Vec2ForCTC(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.3)
            model.lm_head.bias[0] = -30  # no blanks: random weights say something
        model.save_adapter(folder, language)
        model.save_pretrained(folder)
    return folder


def test_languages(command, mms):
    for language, others in (("eng", "éàç"), ("fra", "ab")):
        code, out, err = command("transcribe", THREE_ONE_FOUR, "--model", mms, "--language", language)
        assert (code, err) == (0, "")
        assert out.strip()
        assert set(out.strip()) <= {*LANGUAGES[language], " "} - {*others}
    one_error(command("transcribe", THREE_ONE_FOUR, "--model", mms), "--language", "eng, fra")
    one_error(command("transcribe", THREE_ONE_FOUR, "--model", mms, "--language", "deu"), "deu", "eng, fra")
    code, out, _ = command("info", mms)
    assert code == 0
    assert "vocabulary eng     4 tokens: <pad> | a b" in out
    assert "languages          2: eng, fra" in out


def test_usage_errors_exit_with_2(command):
    assert command("transcribe")[0] == 2
    assert command("transcribe", THREE_ONE_FOUR, "--no-such-option")[0] == 2
    assert command("transcribe", THREE_ONE_FOUR, "--output-format", "doc")[0] == 2


# ---- info, doctor, help ---------------------------------------------------------------------------------------------


def test_info(command):
    code, out, err = command("info", EMBEDDED_MODEL)
    assert (code, err) == (0, "")
    rows = dict(line.split("  ", 1) for line in out.splitlines())
    rows = {name: value.strip() for name, value in rows.items()}
    assert rows["head"] == "Wav2Vec2ForCTC"
    assert rows["parameters"] == "1,048,065"
    assert rows["complete"] == "yes"
    assert "hop 320 samples" in rows["feature encoder"]
    assert "4 layers, width 128, 2 heads" in rows["transformer"]
    assert rows["vocabulary"].startswith("17 tokens: <pad> | e f g")
    assert rows["input"].startswith("16000 Hz")


def test_doctor(command):
    code, out, err = command("doctor")
    assert (code, err) == (0, "")
    assert "ok  back end torch" in out
    assert "ran the embedded model on" in out


def test_help_and_version(command):
    assert "transcribe" in command("--help")[1]
    assert command("--version")[1].startswith("wav2vec2-frameworks ")


def test_the_installed_command_starts_without_any_framework():
    script = Path(sys.executable).parent / "wav2vec2"
    report = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "
    start = f"import runpy; sys.argv = ['wav2vec2', '--help']; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", report + start], capture_output=True, text=True, check=True)
    assert "transcribe" in done.stdout
    assert done.stderr.strip() == "False"


# ---- real speech ---------------------------------------------------------------------------------------------------


@needs_shared
def test_real_speech(command):
    assert command("transcribe", SHARED / "speech" / "cards_004.flac")[1] == "five five\n"


@needs_shared
def test_spoken_digits(command, tmp_path):
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    wanted = {f"{d}_{take}.wav": word for d, word in enumerate(words) for take in ("jackson_1", "george_3")}
    with tarfile.open(SHARED / "fsdd.tar.xz") as archive:
        for member in archive:
            name = Path(member.name).name
            if name in wanted:
                (tmp_path / name).write_bytes(archive.extractfile(member).read())
    paths = [tmp_path / name for name in wanted]
    code, out, _ = command("transcribe", *paths)
    assert code == 0
    heard = [line.split("\t")[1] for line in out.splitlines()]
    assert len(heard) == 20
    assert sum(text == word for text, word in zip(heard, wanted.values(), strict=True)) >= 17
