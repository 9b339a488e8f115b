"""Binaries that KenLM wrote, of every kind."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from mutated_files import fuzz

from wav2vec2_core.decoding import build_ctcdecoder
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.language_model.ngram import NgramModel
from wav2vec2_core.language_model.tables import write_binary

FOLDER = Path(__file__).parents[2] / "support" / "kenlm_files"
QUANTISED = ("quantised", "both")
KINDS = ("probing", "trie", "compressed", *QUANTISED)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def sentences(model, seed=0, count=60):
    chance = random.Random(seed)
    words = model.unigrams[3:]
    for _ in range(count):
        yield [chance.choice([*words, "unheard-of"]) for _ in range(chance.randrange(1, 9))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["whole", "endings"])
def test_every_kind(name, kind):
    expected = NgramModel.open(FOLDER / f"{name}.arpa")
    model = NgramModel.open(FOLDER / f"{name}-{kind}.bin")
    assert model.order == 4
    assert sorted(model.unigrams) == sorted(expected.unigrams)
    for said in sentences(expected):
        if kind not in QUANTISED:
            assert model.word_scores(said).tolist() == expected.word_scores(said).tolist()


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize("name", ["whole", "endings"])
def test_quantised_values(name, kind):
    model = NgramModel.open(FOLDER / f"{name}-{kind}.bin")
    for sentence, scores in json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))[f"{name}-{kind}"]:
        assert model.word_scores(sentence.split(" ")).tolist() == scores


def test_tables_hold_the_same_bytes(tmp_path):
    """The n-grams are where KenLM puts them: only their places among equal hash values may differ."""
    (tmp_path / "own.bin").touch()
    write_binary(FOLDER / "whole.arpa", tmp_path / "own.bin")
    own, theirs = (tmp_path / "own.bin").read_bytes(), (FOLDER / "whole-probing.bin").read_bytes()
    assert len(own) == len(theirs)
    layout = NgramModel.open(tmp_path / "own.bin").layout
    assert own[: 4 * layout.vocabulary] == theirs[: 4 * layout.vocabulary]
    assert own[4 * layout.end :] == theirs[4 * layout.end :]
    for order in range(5):
        rows = [
            sorted(map(tuple, layout.view(np.frombuffer(content, np.uint32, layout.end), order).tolist()))
            for content in (own, theirs)
        ]
        assert rows[0] == rows[1]


@pytest.mark.parametrize("kind", KINDS)
def test_truncated(tmp_path, kind):
    content = (FOLDER / f"whole-{kind}.bin").read_bytes()
    for size in range(0, len(content), 37):
        (tmp_path / "cut.bin").write_bytes(content[:size])
        with pytest.raises(CheckpointError):
            _ = NgramModel.open(tmp_path / "cut.bin").unigrams


@pytest.mark.parametrize("kind", KINDS[1:])
def test_mutated(tmp_path, kind):
    content = (FOLDER / f"endings-{kind}.bin").read_bytes()
    words = NgramModel.open(FOLDER / "endings.arpa").unigrams
    fuzz(tmp_path, content, words, 150, seed=1)


@pytest.mark.parametrize(("value", "alpha"), [(np.nan, 0.5), (np.inf, 0.5), (-np.inf, 0.0)])
def test_probabilities_that_are_no_numbers(tmp_path, monkeypatch, value, alpha):
    """They are found when a file is opened for the first time; later the search says so when nothing is left of it."""
    path, content = tmp_path / "damaged.bin", bytearray((FOLDER / "endings-probing.bin").read_bytes())
    layout = NgramModel.open(FOLDER / "endings-probing.bin").layout
    words = np.frombuffer(content, np.uint32, layout.end)
    layout.view(words, 1).view(np.float32)[:] = value
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="has 1-grams whose values are no numbers: copy or build"):
        NgramModel.open(path)
    monkeypatch.setattr(NgramModel, "check_values", lambda model: None)  # damaged after it was checked
    labels = ["", " ", *"abcdefg"]
    decoder = build_ctcdecoder(labels, path, ["bbe", "f"], alpha=alpha)
    logits = np.random.default_rng(0).normal(0, 2, (40, len(labels)))
    match = "no reading has a score that is a number: the language model's file is damaged"
    with pytest.raises(InputError, match=match):
        decoder.decode(logits)
    stream = decoder.stream()
    with pytest.raises(InputError, match=match):
        _ = stream.feed(logits) + stream.finish()


@pytest.mark.parametrize(("order", "column", "value"), [(1, 1, np.inf), (2, 2, np.nan), (2, 3, np.nan), (3, 2, np.nan)])
def test_one_value_that_is_no_number(tmp_path, order, column, value):
    content = bytearray((FOLDER / "whole-probing.bin").read_bytes())
    layout = NgramModel.open(FOLDER / "whole-probing.bin").layout
    table = layout.view(np.frombuffer(content, np.uint32, layout.end), order).view(np.float32)
    used = np.flatnonzero(table.view(np.uint32)[:, :2].any(1))
    table[used[len(used) // 2], column] = value
    (tmp_path / "damaged.bin").write_bytes(content)
    for _ in range(2):  # what was refused is not remembered as checked
        with pytest.raises(CheckpointError, match=f"has {order}-grams whose values are no numbers"):
            NgramModel.open(tmp_path / "damaged.bin")


def test_values_are_checked_once(tmp_path, monkeypatch):
    path, calls = tmp_path / "model.bin", []
    path.write_bytes((FOLDER / "whole-probing.bin").read_bytes())
    monkeypatch.setattr(NgramModel, "check_values", lambda model: calls.append(model.path))
    for _ in range(3):
        NgramModel.open(path)
    assert calls == [path]
    path.write_bytes((FOLDER / "endings-probing.bin").read_bytes())
    NgramModel.open(path)
    assert calls == [path, path]
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")  # no cache: each time
    NgramModel.open(path)
    NgramModel.open(path)
    assert len(calls) == 4
