"""examples/pretrain_small: its data from small archives like the real ones, all of its runs, and its report."""

import importlib.util
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pretraining_cases import SMALL

from wav2vec2_core.data.manifest import read_manifest

EXAMPLE = Path(__file__).parents[2] / "examples" / "pretrain_small"


def tone(pitch, seconds, rate):
    time = np.arange(round(seconds * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * pitch * time) * np.hanning(len(time))


def write_tar(path, files):
    """Names -> samples and their rate, or text."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in files.items():
            buffer = io.BytesIO()
            if isinstance(content, str):
                buffer.write(content.encode())
            else:
                soundfile.write(buffer, *content, format=Path(name).suffix[1:])
            member = tarfile.TarInfo(name)
            member.size = len(buffer.getvalue())
            tar.addfile(member, io.BytesIO(buffer.getvalue()))


@pytest.fixture(scope="module")
def program():
    """Opens a file of the example as a module."""

    def opened(name):
        specification = importlib.util.spec_from_file_location(f"pretrain_small_{name}", EXAMPLE / f"{name}.py")
        module = importlib.util.module_from_spec(specification)
        sys.modules[specification.name] = module
        specification.loader.exec_module(module)
        return module

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        patch.delitem(sys.modules, "report", raising=False)
        yield opened
        for name in [name for name in sys.modules if name == "report" or name.startswith("pretrain_small_")]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Two digits by three speakers, nine takes of each, and shards of another corpus; tones in place of speech."""
    folder = tmp_path_factory.mktemp("sources")
    speakers = {"george": 200, "jackson": 150, "theo": 300}
    clips = {
        f"fsdd-1.0/recordings/{digit}_{speaker}_{take}.wav": (tone(pitch * (digit + take / 50), 0.4, 8000), 8000)
        for digit in (1, 2)
        for speaker, pitch in speakers.items()
        for take in range(9)
    }
    write_tar(folder / "fsdd.tar.gz", clips)
    for name, texts in {"train": ("ONE", "HELLO THERE"), "dev": ("TWO ONE", "ONE MORE")}.items():
        files = {}
        for number, text in enumerate(texts):
            files |= {f"{number}.flac": (tone(200 + 90 * number, 1.0, 16000), 16000), f"{number}.txt": text}
        write_tar(folder / f"{name}-00000.tar", files)
    return folder


@pytest.fixture(scope="module")
def data(program, sources, tmp_path_factory):
    prepare = program("prepare")
    prepare.LABELS = {"10m": 4, "1h": 12}
    folder = tmp_path_factory.mktemp("pretrain") / "data"
    prepare.prepare(sources / "fsdd.tar.gz", sources, folder, 0)
    return folder


def texts(manifest):
    return [row.text for row in read_manifest(manifest)]


def words(manifest):
    return sorted(word for text in texts(manifest) for word in text.split())


def test_the_data_are_what_the_readme_says(data):
    assert words(data / "unseen.jsonl") == ["one"] * 9 + ["two"] * 9  # theo
    assert words(data / "dev.jsonl") == ["one"] * 14 + ["two"] * 14  # takes 0 to 6 of the others
    assert texts(data / "other.jsonl") == ["two one"]  # nothing but digits
    assert all("text" not in json.loads(line) for line in (data / "pretrain.jsonl").read_text().splitlines())
    seconds = {
        name: sum(soundfile.info(row.path).duration for row in read_manifest(data / f"{name}.jsonl"))
        for name in ("labels-10m", "labels-1h", "pretrain")
    }
    assert 4 <= seconds["labels-10m"] < 4 + 5.5  # whole utterances of at most six digits
    assert 12 <= seconds["labels-1h"] < 12 + 5.5
    assert seconds["pretrain"] > 2 + 8 * 0.4  # the two of the other corpus, and eight clips
    few, many = (texts(data / f"labels-{name}.jsonl") for name in ("10m", "1h"))
    assert many[: len(few)] == few  # the small set is a part of the large one
    assert len(words(data / "labels-1h.jsonl")) > 8  # clips are joined again


def test_a_folder_that_exists_is_refused(program, data, sources, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prepare.py", str(sources / "fsdd.tar.gz"), str(sources), str(data)])
    with pytest.raises(SystemExit, match="exists: name a new folder"):
        program("prepare").main()


def test_everything_runs_and_is_not_run_twice(program, data, command, tmp_path, monkeypatch):
    run, said = program("run"), []

    def in_this_process(*arguments):
        small = [word for one in SMALL if "steps" not in one for word in ("--set", one)]
        code, _, err = command(*arguments, *(small if arguments[0] == "pretrain" else []))
        assert code == 0, err
        said.append(arguments)

    monkeypatch.setattr(run, "wav2vec2", in_this_process)
    monkeypatch.setattr(run, "LABELS", ("10m",))
    arguments = [data, tmp_path / "runs", "--seeds", "1", "--pretraining-steps", "2", "--steps", "2"]
    command_line = ["run.py", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", command_line)
    run.main()
    assert [one[0] for one in said] == ["pretrain", *["finetune", "evaluate", "evaluate"] * 2]
    results = (tmp_path / "runs" / "results.md").read_text()
    assert results.count("| 10m | unseen |") == results.count("| 10m | other |") == 2  # WER and CER
    assert (tmp_path / "runs" / "curves.png").read_bytes().startswith(b"\x89PNG")
    recipes = [json.loads((tmp_path / "runs" / f"10m-{start}-0" / "run.json").read_text()) for start in run.STARTS]
    assert [Path(recipe.pop("model")).name for recipe in recipes] == ["model", "scratch"]
    assert recipes[0] == recipes[1]  # they differ in nothing else
    monkeypatch.setattr(sys, "argv", command_line)
    run.main()
    assert len(said) == 7


def test_the_difference_and_its_interval(program):
    compared = program("report")._compared
    lengths = np.full(50, 4)
    better = np.stack([np.stack([np.ones(50), lengths])] * 3)
    worse = np.stack([np.stack([np.full(50, 3), lengths])] * 3)
    assert compared(better, worse) == ["25.0 (25.0 to 25.0)", "75.0 (75.0 to 75.0)", "-50.0 (-50.0 to -50.0)"]
    generator = np.random.default_rng(1)
    runs = [np.stack([np.stack([generator.integers(0, 5, 50), lengths]) for _ in range(3)]) for _ in range(2)]
    low, high = compared(*runs)[2].partition("(")[2].rstrip(")").split(" to ")
    assert float(low) < 0 < float(high)  # the same distribution twice
