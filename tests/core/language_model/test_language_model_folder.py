import bz2
import gzip
import json
import lzma
import random
import shutil
from pathlib import Path

import pytest
from ngram_models import arpa_text, random_ngrams

from wav2vec2_core.attaching import attach, attach_to_model
from wav2vec2_core.decoding.alphabet import Alphabet
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.language_model.folder import Attributes, find_model, read_unigrams
from wav2vec2_core.language_model.ngram import NgramModel
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer
from wav2vec2_core.transcription import EMBEDDED_MODEL

COMPRESSIONS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
WORDS = ["eins", "zwei", "drei"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def language_model(tmp_path, words=WORDS, name="words.arpa"):
    path = tmp_path / name
    path.write_text(arpa_text(random_ngrams(random.Random(0), 2, words), 2), encoding="utf-8")
    return path


def tokenizer(tmp_path, tokens, **names):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({token: number for number, token in enumerate(tokens)}), encoding="utf-8")
    return Wav2Vec2CTCTokenizer(path, **names)


LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"]


def test_alphabet_of_the_usual_vocabulary(tmp_path):
    labels = Alphabet.of(tokenizer(tmp_path, LETTERS)).labels
    assert labels == ("", "<s>", "</s>", "⁇", " ", *"abcdefghijklmnopqrstuvwxyz")


def test_alphabet_with_names_of_its_own(tmp_path):
    own = tokenizer(
        tmp_path, [*"ab", "#", "_", "?"], pad_token="_", word_delimiter_token="#", unk_token="?",
        bos_token=None, eos_token=None,
    )  # fmt: skip
    assert Alphabet.of(own).labels == ("a", "b", " ", "", "⁇")


def test_alphabet_without_a_token_for_unknown_letters():
    embedded = Wav2Vec2CTCTokenizer.from_pretrained(EMBEDDED_MODEL)
    assert Alphabet.of(embedded).labels.count("") == 1
    assert Alphabet.of(embedded).labels[embedded.pad_token_id] == ""


def test_attach_writes_the_layout(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    assert attach(language_model(tmp_path), folder, tokenizer(tmp_path, LETTERS)) == []
    assert sorted(path.name for path in (folder / "language_model").iterdir()) == [
        "attrs.json",
        "unigrams.txt",
        "words.arpa",
    ]
    assert json.loads((folder / "language_model" / "attrs.json").read_text()) == {
        "alpha": 0.5, "beta": 1.5, "score_boundary": True, "unk_score_offset": -10.0,
    }  # fmt: skip
    assert sorted(read_unigrams(folder / "language_model" / "unigrams.txt")) == sorted(WORDS)
    assert Alphabet.load(folder / "alphabet.json") == Alphabet.of(tokenizer(tmp_path, LETTERS))
    assert NgramModel.open(find_model(folder / "language_model")).order == 2


@pytest.mark.parametrize(
    ("name", "kept"),
    [("m.arpa.gz", "m.arpa"), ("m.arpa.bz2", "m.arpa"), ("m.arpa.xz", "m.arpa"), ("m.bin", "m.bin"), ("m", "m.arpa")],
)
def test_attach_keeps_what_kenlm_reads(tmp_path, name, kept):
    from wav2vec2_core.language_model.tables import write_binary

    source, given = language_model(tmp_path), tmp_path / name
    if given.suffix in COMPRESSIONS:
        given.write_bytes(COMPRESSIONS[given.suffix](source.read_bytes()))
    elif name.endswith("bin"):
        given.touch()
        write_binary(source, given)
    else:
        shutil.copy(source, given)
    attach(given, tmp_path, tokenizer(tmp_path, LETTERS))
    found = find_model(tmp_path / "language_model")
    assert found.name == kept
    assert NgramModel.open(found).score(WORDS) == NgramModel.open(source).score(WORDS)


def test_attach_again_replaces(tmp_path):
    own = tokenizer(tmp_path, LETTERS)
    attach(language_model(tmp_path), tmp_path, own)
    Attributes(alpha=3.0).save(tmp_path / "language_model")
    attach(language_model(tmp_path, name="other.arpa"), tmp_path, own, ["zwei", "zwei", "vier"])
    assert find_model(tmp_path / "language_model").name == "other.arpa"
    assert read_unigrams(tmp_path / "language_model" / "unigrams.txt") == ["zwei", "vier"]
    assert Attributes.load(tmp_path / "language_model") == Attributes()
    attach(find_model(tmp_path / "language_model"), tmp_path, own)
    assert find_model(tmp_path / "language_model").name == "other.arpa"


def test_letters_that_do_not_fit(tmp_path):
    upper = tokenizer(tmp_path, [token.upper() if len(token) == 1 else token for token in LETTERS])
    with pytest.raises(InputError, match=r"spell no word .* such as .*: write it in upper-case letters"):
        attach(language_model(tmp_path), tmp_path, upper)
    with pytest.raises(InputError, match="use one of the model's language"):
        attach(language_model(tmp_path, ["один", "два"]), tmp_path, upper)
    assert not (tmp_path / "language_model").exists()
    (note,) = attach(language_model(tmp_path, [*WORDS, "fünf"]), tmp_path, tokenizer(tmp_path, LETTERS))
    assert "1 of 4 words" in note
    assert "fünf" in note


def test_attach_to_a_model(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(EMBEDDED_MODEL, model)
    source = language_model(tmp_path, ["one", "two", "three"])
    (tmp_path / "words.txt").write_text("one\ntwo\n\nseven\n")
    folder, notes = attach_to_model(str(model), source, unigrams=tmp_path / "words.txt")
    assert (folder, notes) == (model, [])
    assert read_unigrams(model / "language_model" / "unigrams.txt") == ["one", "two", "seven"]
    copied, _ = attach_to_model(str(EMBEDDED_MODEL), source, output=tmp_path / "copy")
    assert (copied / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert Wav2Vec2CTCTokenizer.from_pretrained(copied).get_vocab()
    assert not (Path(EMBEDDED_MODEL) / "language_model").exists()


@pytest.mark.parametrize("content", ['{"alpha": "x"}', '{"beta": NaN}', '{"score_boundary": 1}', "[]", "{"])
def test_damaged_attributes(tmp_path, content):
    (tmp_path / "attrs.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"attrs\.json"):
        Attributes.load(tmp_path)


def test_which_language_model(tmp_path):
    with pytest.raises(CheckpointError, match="no language model"):
        find_model(tmp_path)
    (tmp_path / ".hidden.arpa").touch()
    (tmp_path / "a.arpa").touch()
    assert find_model(tmp_path).name == "a.arpa"
    (tmp_path / "b.bin").touch()
    with pytest.raises(CheckpointError, match=r"several language models \(a.arpa, b.bin\)"):
        find_model(tmp_path)


@pytest.mark.parametrize("content", [{"x\n" * 999: 1}, {str(i): 1 for i in range(999)}])
def test_absurd_attributes(tmp_path, content):
    (tmp_path / "attrs.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="it needs alpha, beta, unk_score_offset, score_boundary") as caught:
        Attributes.load(tmp_path)
    assert len(str(caught.value)) < 900
    assert "\n" not in str(caught.value)
