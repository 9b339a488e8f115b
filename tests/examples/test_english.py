"""examples/english: its sentences, its data from small shards like the real ones, and an update of its fresh model."""

import importlib.util
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2vec2_core.data.manifest import read_manifest
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

DIGITS = Path(__file__).parents[2] / "wav2vec2_core" / "assets" / "demo-digits"
EXAMPLE = Path(__file__).parents[2] / "examples" / "english"
BOOK = """CHAPTER II

Mr. Weston--who had been there 12 years--said, "It's a well-known house; 'tis
cold hearted and rather selfish!" She walked to the river with her friends, her sisters, her mother, three of her
aunts and a dog who barked. Hm, he said to them.
"""


@pytest.fixture(scope="module")
def texts():
    specification = importlib.util.spec_from_file_location("english_texts", EXAMPLE / "texts.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two recordings to train on and three others, of as many speakers; tones in place of speech."""
    folder = tmp_path_factory.mktemp("speechocean")
    time = np.arange(16000) / 16000
    texts = {
        "train": ("HE'S AT HOME", "ROOM 5", "WALK TO THE RIVER NOW"),
        "dev": tuple(f"THIS IS {name}" for name in ("ANN", "BOB", "CAT", "DAN", "EVE", "FAY", "GUY", "HAL", "IDA")),
    }
    for part, said in texts.items():
        with tarfile.open(folder / f"{part}-00000.tar", "w") as tar:
            for number, text in enumerate(said):
                sound = io.BytesIO()
                soundfile.write(sound, 0.3 * np.sin(2 * np.pi * (200 + 30 * number) * time), 16000, format="FLAC")
                columns = json.dumps({"speaker": f"{number:04d}"})
                for end, content in (("flac", sound.getvalue()), ("txt", text.encode()), ("json", columns.encode())):
                    member = tarfile.TarInfo(f"{number}.{end}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


def prepare(shards, folder, *more):
    command = [sys.executable, EXAMPLE / "prepare.py", shards, folder, *more]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def data(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("english") / "data"
    done = prepare(shards, folder)
    assert done.returncode == 0, done.stderr
    return folder


def said(manifest):
    return [row.text for row in read_manifest(manifest)]


def test_sentences_are_cut_to_stretches_that_can_be_spelt(texts):
    found = list(texts.utterances(BOOK, np.random.default_rng(0)))
    assert "tis cold hearted and rather selfish" in found
    assert "it's a well known house" in found
    assert all(3 <= len(text.split()) <= 14 for text in found)
    words = {word for text in found for word in text.split()}
    assert {"river", "friends"} <= words
    assert not words & {"ii", "chapter", "12", "years", "hm", "mr"}  # a sentence is left out with what cannot be spelt
    assert list(texts.utterances("Mrs. Bates and Dr. Perry came.", np.random.default_rng(0))) == [
        "missus bates and doctor perry came"
    ]


def test_what_can_be_spelt_is_what_the_model_can_write(texts):
    assert texts.spelt("It’s Ann's 'OK'") == "it's ann's ok"
    assert [texts.spelt(text) for text in ("room 5", "café", "50%", "")] == [None] * 4
    tokens = Wav2Vec2CTCTokenizer.from_pretrained(EXAMPLE / "model")
    text = "the quick brown fox jumps over the lazy dog's back"
    assert tokens.decode(tokens(text)["input_ids"], group_tokens=False) == text


def test_words_of_a_test_are_found(texts):
    forbidden = texts.ngrams(["He was not an ill-disposed young man", "five five"])
    assert texts.shares("and he was not an enemy", forbidden)
    assert texts.shares("four five five", forbidden)
    assert not texts.shares("he was not a man of five and five", forbidden)


def test_the_data_are_recordings_whose_text_can_be_spelt_and_their_disturbed_copies(data):
    assert said(data / "train.jsonl") == ["he's at home"] * 2 + ["walk to the river now"] * 2
    assert said(data / "dev.jsonl") == [
        f"this is {name}" for name in ("ann", "bob", "cat", "dan", "eve", "fay", "guy", "hal")
    ]
    assert said(data / "other.jsonl") == ["this is ida"]
    plain, copy = (soundfile.read(row.path)[0] for row in list(read_manifest(data / "train.jsonl"))[:2])
    assert len(plain) == 16_000
    assert 0.6 * len(plain) < len(copy) < 1.6 * len(plain)
    assert len(copy) != len(plain)
    assert np.abs(copy).max() > 0.05


def test_the_words_of_tests_are_left_out(shards, tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps({"audio_filepath": "a.wav", "text": "walk to the river"}) + "\n")
    done = prepare(shards, tmp_path / "data", "--without", tmp_path / "test.jsonl")
    assert done.returncode == 0, done.stderr
    assert said(tmp_path / "data" / "train.jsonl") == ["he's at home"] * 2


@pytest.mark.skipif(not shutil.which("espeak-ng") and not shutil.which("flite"), reason="no speech synthesiser here")
def test_books_are_spoken_the_same_way_each_time(shards, data, tmp_path):
    book = tmp_path / "book.txt"
    book.write_text(BOOK)
    options = ("--text", book, "--sentences", "3", "--voices", "2")
    for folder in ("once", "again"):
        done = prepare(shards, tmp_path / folder, *options)
        assert done.returncode == 0, done.stderr
    files = sorted(path.relative_to(tmp_path / "once") for path in (tmp_path / "once").rglob("*.*"))
    assert all((tmp_path / "once" / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)
    spoken = said(tmp_path / "once" / "train.jsonl")[len(said(data / "train.jsonl")) :]
    assert len(spoken) == 3
    for row in list(read_manifest(tmp_path / "once" / "train.jsonl"))[-3:]:
        assert 0.5 < soundfile.info(row.path).duration / len(row.text.split()) * 4 < 6


def test_a_book_without_english_and_a_folder_that_exists_are_refused(shards, data, tmp_path):
    done = prepare(shards, data)
    assert (done.returncode, done.stderr) == (1, f"{data} exists: name a new folder\n")
    (tmp_path / "book.txt").write_text("1 2 3\n")
    done = prepare(shards, tmp_path / "new", "--text", tmp_path / "book.txt")
    assert (done.returncode, (tmp_path / "new").exists()) == (1, False)
    assert "has no sentences of three words in English letters: name plain text" in done.stderr


def test_short_utterances_are_those_of_the_training_data(data):
    lines = (data / "train.jsonl").read_text().splitlines()
    durations = [soundfile.info(row.path).duration for row in read_manifest(data / "train.jsonl")]
    assert (data / "short.jsonl").read_text().splitlines() == [
        line for line, seconds in zip(lines, durations, strict=True) if seconds <= 2.5
    ]


def test_the_first_recipe_makes_updates_of_the_model_to_begin_with(command, data, tmp_path):
    start = [sys.executable, EXAMPLE / "start.py", tmp_path / "start"]
    subprocess.run([*map(str, start)], check=True)
    code, out, err = command(
        "finetune", "ctc", "--model", tmp_path / "start", "--train", data / "short.jsonl", "--eval",
        data / "other.jsonl", "--preset", EXAMPLE / "first.toml", "--output", tmp_path / "run", "--steps", "1",
    )  # fmt: skip
    assert code == 0, err
    assert out.startswith("WER ")
    from safetensors.numpy import load_file

    begun = load_file(tmp_path / "start" / "model.safetensors")
    digits = load_file(DIGITS / "model.safetensors")
    encoder = [name for name in begun if "feature_extractor" in name]
    assert len(encoder) == 12
    assert all(np.array_equal(begun[name], digits[name].astype(np.float32)) for name in encoder)
    trained = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert 5e6 < sum(array.size for array in trained.values()) < 8e6
    again = subprocess.run([*map(str, start)], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (1, "usage: python examples/english/start.py FOLDER, a new one\n")


def test_the_second_recipe_goes_on(command, data, tmp_path):
    code, _, err = command(
        "finetune", "ctc", "--model", EXAMPLE / "model", "--train", data / "train.jsonl", "--eval",
        data / "other.jsonl", "--preset", EXAMPLE / "second.toml", "--output", tmp_path / "run", "--dry-run",
    )  # fmt: skip
    assert code == 0, err
