"""The command as a shell runs it: results on stdout, all else on stderr, honest exit codes."""

import io
import itertools
import json
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from command_results import one_error
from mms_folder import LANGUAGES, write_mms

from wav2vec2_core.cli.doctor import EXTRAS, _check_extra
from wav2vec2_core.transcription import EMBEDDED_MODEL

ROOT = Path(__file__).parents[2]
THREE_ONE_FOUR = ROOT / "samples" / "three-one-four.flac"
TWO_SEVEN = ROOT / "samples" / "two-seven-one-eight.flac"
SHARED = ROOT.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the recordings of ../shared/data are not here")


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


@pytest.fixture(scope="module")
def mms(tmp_path_factory):
    return write_mms(tmp_path_factory.mktemp("mms"))


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


def test_doctor_names_every_extra(monkeypatch, capsys):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    tried, for_developers = {"torch", "tf", "flax", "media"}, {"docs", "test", "dev", "all"}
    assert set(EXTRAS) == set(extras) - tried - for_developers
    for module in ("json", "numba"):
        monkeypatch.setitem(EXTRAS, "lm", ("fast decoding", (module,)))
        monkeypatch.setitem(sys.modules, "numba", None)
        _check_extra("lm")
    found, missing = capsys.readouterr().out.splitlines()
    assert found.startswith("ok  extra lm ")
    assert missing.startswith("--  extra lm ")
    assert missing.endswith('numba is not installed; for fast decoding: pip install "wav2vec2-frameworks[lm]"')


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


def test_transcribing_loads_neither_compilers_nor_what_it_does_not_use():
    """A second of processor time each; what ``import torch`` loads by itself does not count."""
    code = (
        "import atexit, sys, torch; before = set(sys.modules); "
        "atexit.register(lambda: print(*set(sys.modules) - before, file=sys.stderr)); "
        f"sys.argv = ['wav2vec2', 'transcribe', {str(THREE_ONE_FOUR)!r}, '--model', {str(EMBEDDED_MODEL)!r}]; "
        "from wav2vec2_core.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "three one four\n"
    loaded = set(done.stderr.split())
    assert "wav2vec2_torch.packed_transformer" in loaded
    compilers = {"torch._dynamo", "torch._inductor", "torch._functorch", "torch.distributed", "torch.onnx"}
    unused = {
        "sympy",
        "numba",
        "scipy",
        "matplotlib",
        "av",
        "huggingface_hub",
        "transformers",
        "fastapi",
        "onnxruntime",
    }
    unused |= {"wav2vec2_core.training", "wav2vec2_core.serving"}
    assert not loaded & (compilers | unused)


def test_the_bar_says_what_a_back_end_compiles():
    from wav2vec2_core.backend import COMPILING
    from wav2vec2_core.cli.progress import _audio_bar

    level = COMPILING.level
    with _audio_bar("Transcribing", 2.0) as (progress, advance):
        (task,) = progress.tasks
        COMPILING.info("JAX compiles for %d x %d", 1, 8000)
        assert task.description == "Transcribing (JAX compiles for 1 x 8000)"
        advance(0.5)
        assert (task.description, task.completed) == ("Transcribing", 0.5)
    COMPILING.info("nobody watches")
    assert (task.description, COMPILING.level, COMPILING.handlers) == ("Transcribing", level, [])


def test_the_bar_of_a_run_says_so_until_the_next_event(monkeypatch):
    from rich.progress import Progress

    from wav2vec2_core.backend import COMPILING
    from wav2vec2_core.cli import run_progress
    from wav2vec2_core.training.loop import Note

    bars = []
    add = Progress.add_task
    monkeypatch.setattr(
        Progress, "add_task", lambda self, *given, **more: bars.append(self) or add(self, *given, **more)
    )
    monkeypatch.setattr(run_progress.sys.stderr, "isatty", lambda: True)
    with run_progress.watching(3) as show:
        COMPILING.info("JAX compiles for %d x %d", 8, 8000)
        assert bars[0].tasks[0].description.strip() == "(JAX compiles for 8 x 8000)"
        show(Note("on it goes"))
        assert not bars[0].tasks[0].description


# ---- many files, long files, files that cannot be -----------------------------------------------------------------


def long_recording(path, minutes=1.2):
    """The sample again and again, a second of silence between."""
    import soxr

    samples, rate = soundfile.read(THREE_ONE_FOUR)
    samples = np.concatenate([soxr.resample(samples, rate, 16_000), np.zeros(16_000)])
    return write(path, np.tile(samples, round(minutes * 60 * 16_000 / len(samples))))


def test_a_recording_longer_than_a_window(command, tmp_path):
    path = long_recording(tmp_path / "long.wav")
    code, out, err = command("transcribe", path, "--model", EMBEDDED_MODEL, "-o", tmp_path / "out", "-f", "all")
    assert (code, out, err) == (0, "", "")
    repeats = round(1.2 * 60 / 3.01)
    words = (tmp_path / "out" / "long.txt").read_text().split()
    assert words == ["three", "one", "four"] * repeats
    assert sorted(file.suffix for file in (tmp_path / "out").iterdir()) == [".json", ".srt", ".tsv", ".txt", ".vtt"]
    srt = (tmp_path / "out" / "long.srt").read_text()
    assert srt.startswith("1\n00:00:00,")
    assert srt.count(" --> ") == len((tmp_path / "out" / "long.txt").read_text().splitlines())
    assert (tmp_path / "out" / "long.vtt").read_text().startswith("WEBVTT\n\n00:00.")
    assert (tmp_path / "out" / "long.tsv").read_text().startswith("start\tend\ttext\n")
    last = json.loads((tmp_path / "out" / "long.json").read_text())["segments"][-1]
    assert 60 < last["end"] <= repeats * 3.01


@pytest.mark.parametrize("window", ["8:2", "legacy:10:2"])
def test_other_windows(command, tmp_path, window):
    path = long_recording(tmp_path / "long.wav", 0.6)
    out = command("transcribe", path, "--model", EMBEDDED_MODEL, "--window", window)[1]
    assert out.split() == ["three", "one", "four"] * round(0.6 * 60 / 3.01)


def test_whispers_spelling(command, tmp_path):
    arguments = ("--output_dir", tmp_path, "--output_format=srt", "--word_timestamps", "True", "--max_line_width", 9,
                 "--max_line_count", "1", "--highlight_words", "False")  # fmt: skip
    code, out, err = command("transcribe", *arguments, THREE_ONE_FOUR, "--model", EMBEDDED_MODEL)
    assert (code, out, err) == (0, "", "")
    texts = (tmp_path / "three-one-four.srt").read_text().split("\n")[2::4]
    assert texts == ["three one", "four"]
    command("transcribe", THREE_ONE_FOUR, "-o", tmp_path, "-f", "vtt", "--highlight_words", "True")
    assert "<u>three</u> one four" in (tmp_path / "three-one-four.vtt").read_text()
    command("transcribe", THREE_ONE_FOUR, "-o", tmp_path, "-f", "json", "--word_timestamps", "False")
    assert "words" not in json.loads((tmp_path / "three-one-four.json").read_text())["segments"][0]


def test_captions_on_stdout_are_of_one_recording(command):
    code, out, _ = command("transcribe", THREE_ONE_FOUR, "-f", "srt", "--model", EMBEDDED_MODEL)
    assert code == 0
    assert out.startswith("1\n00:00:00,")
    one_error(command("transcribe", THREE_ONE_FOUR, TWO_SEVEN, "-f", "srt"), "--output-dir")
    one_error(command("transcribe", THREE_ONE_FOUR, "-f", "all"), "--output-dir")


def test_standard_input(command, monkeypatch):
    with THREE_ONE_FOUR.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=file))
        assert command("transcribe", "-", "--model", EMBEDDED_MODEL) == (0, "three one four\n", "")


def test_the_sound_of_a_video(command, tmp_path):
    av = pytest.importorskip("av", reason="PyAV comes with the media extra")
    samples, rate = soundfile.read(THREE_ONE_FOUR, dtype="float32")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=5)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=rate, layout="mono")
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert command("transcribe", tmp_path / "a.mp4")[1] == "three one four\n"


def test_a_folder_of_a_thousand_files(command, tmp_path):
    """Good, empty, truncated, mislabelled and unreadable ones, names with line breaks and of any alphabet."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    flac = THREE_ONE_FOUR.read_bytes()
    tone = noise(2_000)
    for index in range(940):
        (folder / f"empty {index}.wav").touch()
    for index in range(20):
        (folder / f"cut {index}.flac").write_bytes(flac[: 1000 * (index + 1)])
    for index in range(20):
        (folder / f"mislabelled {index}.mp3").write_text("not a song " * 30)
    for index in range(10):
        (folder / f"link {index}.wav").symlink_to(folder / "gone.wav")
    good = ["three\nlines\n.flac", "naïve ☃ 語.flac", "語" * 80 + ".flac", "sub/three.flac", "a --> b.flac"]
    for name in good:
        (folder / name).write_bytes(flac)
    for index in range(5):
        write(folder / f"noise {index}.wav", tone)
    out = tmp_path / "out"
    code, printed, err = command("transcribe", folder, "--recursive", "-o", out, "--model", EMBEDDED_MODEL)
    assert (code, printed) == (1, "")
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 990
    assert len(set(errors)) == 990  # the decoder of MP3 adds notes of its own
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert written == {f"{name[:-5]}.txt" for name in good} | {f"noise {index}.txt" for index in range(5)}
    for name in good:
        assert (out / f"{name[:-5]}.txt").read_text() == "three one four\n"
    code, printed, _ = command("transcribe", folder / good[0], folder / good[1], "--model", EMBEDDED_MODEL)
    assert printed.splitlines()[0].endswith("three\\nlines\\n.flac\tthree one four")


def test_resume_does_only_what_is_missing(command, tmp_path):
    done = tmp_path / "three-one-four.txt"
    done.write_text("mine\n")
    arguments = (THREE_ONE_FOUR, TWO_SEVEN, "-o", tmp_path, "--resume", "--model", EMBEDDED_MODEL)
    assert command("transcribe", *arguments) == (0, "", "")
    assert done.read_text() == "mine\n"
    assert (tmp_path / "two-seven-one-eight.txt").read_text() == "two seven one eight\n"
    assert command("transcribe", *arguments, "-f", "all")[0] == 0
    assert done.read_text() == "three one four\n"  # a recording is done when all of its files are there
    one_error(command("transcribe", THREE_ONE_FOUR, "--resume"), "--output-dir")


def test_a_disk_that_fills_up(command, tmp_path, monkeypatch):
    """The file that does not fit is an error and leaves nothing; what fits is kept."""
    original = Path.write_bytes

    def fill(self, data):
        if data == b"three one four\n":
            original(self, data[:3])
            raise OSError(28, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", fill)
    code, out, err = command("transcribe", THREE_ONE_FOUR, TWO_SEVEN, "-o", tmp_path, "--model", EMBEDDED_MODEL)
    assert (code, out) == (1, "")
    assert err == (
        f"error: cannot write {tmp_path / 'three-one-four.txt'} (No space left on device): check the folder, its "
        "permissions and the free space\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["two-seven-one-eight.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are of POSIX")
def test_embeddings_larger_than_a_file_may_be(tmp_path):
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
        "from wav2vec2_core.cli import main; main()"
    )
    arguments = ["embed", str(THREE_ONE_FOUR), "-o", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: cannot write" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
def test_ctrl_c_keeps_finished_files(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(3):
        (folder / f"a{index}.flac").write_bytes(THREE_ONE_FOUR.read_bytes())
    long_recording(folder / "z.wav", 60)
    # Shells start what is in the background with this signal ignored, and that is inherited.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heeding}; from wav2vec2_core.cli import main; main()"]
    arguments = ["transcribe", str(folder), "-o", str(tmp_path / "out"), "--model", str(EMBEDDED_MODEL)]
    with subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "out" / "a2.txt").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "--resume goes on with the others" in process.stderr.read()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a0.txt", "a1.txt", "a2.txt"]


def test_silence_and_nothing_said(command, tmp_path):
    for name, samples in (("zeros", np.zeros(16_000)), ("constant", np.full(16_000, 0.2))):
        path = write(tmp_path / f"{name}.wav", samples)
        for form in ("txt", "srt", "vtt", "tsv", "json"):
            assert command("transcribe", path, "-f", form, "-o", tmp_path, "--model", EMBEDDED_MODEL)[0] == 0
        assert json.loads((tmp_path / f"{name}.json").read_text())["segments"] == []
        assert (tmp_path / f"{name}.vtt").read_text().strip() == "WEBVTT"


# ---- listen, embed, classify --------------------------------------------------------------------------------------


def raw_samples(extra=b""):
    samples, rate = soundfile.read(THREE_ONE_FOUR, dtype="int16")
    return io.BytesIO(samples.tobytes() + extra), rate


class Pipe:
    """Standard input that is no terminal."""

    def __init__(self, buffer):
        self.buffer = buffer

    def isatty(self):
        return False


def test_listen(command, monkeypatch):
    stream, rate = raw_samples()
    monkeypatch.setattr(sys, "stdin", Pipe(stream))
    assert command("listen", "--rate", rate, "--model", EMBEDDED_MODEL) == (0, "three one four\n", "")
    stream, rate = raw_samples(b"\0")
    monkeypatch.setattr(sys, "stdin", Pipe(stream))
    code, out, err = command("listen", "--rate", rate, "--model", EMBEDDED_MODEL)
    assert (code, out) == (0, "three one four\n")
    assert err == "note: the stream stops inside a sample: its last 1 bytes are left out\n"
    monkeypatch.setattr(sys, "stdin", Pipe(io.BytesIO(b"")))
    assert command("listen", "--model", EMBEDDED_MODEL) == (0, "", "")
    one_error(command("listen", "--format", "u8"), "s16le, f32le")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True, buffer=io.BytesIO(b"")))
    one_error(command("listen"), "standard input is a terminal")


def test_listen_begins_a_line_after_a_pause(command, monkeypatch):
    samples, rate = soundfile.read(THREE_ONE_FOUR, dtype="float32")
    twice = np.concatenate([samples, np.zeros(3 * rate, np.float32), samples])
    monkeypatch.setattr(sys, "stdin", Pipe(io.BytesIO(twice.astype("<f4").tobytes())))
    _, out, _ = command("listen", "--rate", rate, "--format", "f32le", "--model", EMBEDDED_MODEL)
    assert out == "three one four\nthree one four\n"


def test_embed(command, tmp_path):
    assert command("embed", THREE_ONE_FOUR, "-o", tmp_path, "--layers", "0,-1") == (0, "", "")
    with np.load(tmp_path / "three-one-four.npz") as archive:
        assert archive["layer_0"].shape == archive["layer_4"].shape == (98, 128)
        assert np.abs(archive["layer_4"] - archive["layer_0"]).max() > 0.1
    code, out, err = command("embed", THREE_ONE_FOUR, tmp_path / "none.wav", "-o", tmp_path, "-f", "safetensors")
    assert (code, out) == (1, "")
    assert "none.wav does not exist" in err
    assert (tmp_path / "three-one-four.safetensors").exists()
    one_error(command("embed", THREE_ONE_FOUR, "-o", tmp_path, "--layers", "5"), "layer 5 does not exist: use 0 to 4")
    one_error(command("embed", THREE_ONE_FOUR, "-o", tmp_path, "--layers", "x"), "write them as 0,6,-1")


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """A small model with each head that classifies."""
    from torch_models import tiny

    from wav2vec2_core import Wav2Vec2FeatureExtractor

    folders = {}
    for head in ("ForSequenceClassification", "ForAudioFrameClassification", "ForXVector", "ForCTC"):
        folders[head] = tmp_path_factory.mktemp(head)
        tiny(head).save_pretrained(folders[head])
        Wav2Vec2FeatureExtractor().save_pretrained(folders[head])
    return folders


def test_classify(command, heads):
    code, out, err = command("classify", THREE_ONE_FOUR, "--model", heads["ForSequenceClassification"], "--top", 2)
    assert (code, err) == (0, "")
    labels = json.loads(out)["labels"]
    assert len(labels) == 2
    assert 1 >= labels[0]["probability"] >= labels[1]["probability"] > 0
    spans = json.loads(command("classify", THREE_ONE_FOUR, "--model", heads["ForAudioFrameClassification"])[1])["spans"]
    assert spans[0]["start"] == 0
    assert all(one["end"] == other["start"] for one, other in itertools.pairwise(spans))
    found = json.loads(command("classify", THREE_ONE_FOUR, "--model", heads["ForXVector"])[1])
    assert len(found["embedding"]) == 10
    one_error(command("classify", THREE_ONE_FOUR, "--model", heads["ForCTC"]), "has no labels")


def test_compare(command, heads):
    model = ("--model", heads["ForXVector"], "--compare")
    code, out, err = command("classify", THREE_ONE_FOUR, TWO_SEVEN, *model)
    assert (code, err) == (0, "")
    assert -1 <= float(out) < 1
    one_error(command("classify", THREE_ONE_FOUR, *model), "--compare takes two recordings and 1 are named")


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


# ---- convert --------------------------------------------------------------------------------------------------------


def test_convert_to_fairseq_and_back(command, tmp_path):
    code, out, err = command("convert", EMBEDDED_MODEL, tmp_path / "fairseq", "--to", "fairseq")
    assert (code, err) == (0, "")
    assert "arrays      88 read back, all bit for bit as written" in out
    assert "largest difference 0.00e+00" in out
    code, out, _ = command("info", tmp_path / "fairseq" / "checkpoint_best.pt")
    assert code == 0
    assert "program          fairseq" in out
    code, out, err = command("convert", tmp_path / "fairseq" / "checkpoint_best.pt", tmp_path / "back", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["largest_difference"] == 0
    assert json.loads(out) == json.loads((tmp_path / "back" / "conversion.json").read_text())
    code, out, _ = command("transcribe", THREE_ONE_FOUR, "--model", tmp_path / "back")
    assert out == "three one four\n"
    assert command("transcribe", THREE_ONE_FOUR, "--model", tmp_path / "fairseq" / "checkpoint_best.pt")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere", "out"), "nowhere"),
        ((EMBEDDED_MODEL, "out", "--head", "ForSpeech"), "head 'ForSpeech' is unknown"),
        ((EMBEDDED_MODEL, "out", "--head", "ForPreTraining"), "its ForPreTraining part is not trained"),
        ((EMBEDDED_MODEL, EMBEDDED_MODEL), "overlap"),
        ((EMBEDDED_MODEL, "out", "--to", "tf", "--dtype", "bfloat16"), "tf_model.h5 cannot store it"),
        (("bad.pt", "out"), "bad.pt is not a readable weight file"),
    ],
)
def test_convert_refuses(command, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Path("bad.pt").write_bytes(b"PK\0")
    code, out, err = command("convert", *arguments, "--offline")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]
