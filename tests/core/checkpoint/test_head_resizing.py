"""The head of another vocabulary: which rows are kept, and what the others start with."""

import ml_dtypes
import numpy as np
import pytest
from model_cases import TINY

from wav2vec2_core import Wav2Vec2Config, Wav2Vec2CTCTokenizer
from wav2vec2_core.checkpoint import HEAD, resize_head, shared_rows
from wav2vec2_core.errors import InputError
from wav2vec2_core.parameters import initial_values, parameter_table

NONE = {"bos_token": None, "eos_token": None}


def tokenizer(letters, *, pad="<pad>", unknown="<unk>", delimiter="|", special=NONE):
    tokens = [pad, unknown, delimiter, *letters]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return Wav2Vec2CTCTokenizer(vocabulary, pad_token=pad, unk_token=unknown, word_delimiter_token=delimiter, **special)


def letters_shared(old, new):
    """Letter of the new vocabulary -> letter of the old one whose row it takes."""
    old, new = tokenizer(old), tokenizer(new)
    rows = {new.decoder[after]: old.decoder[before] for after, before in shared_rows(old, new).items()}
    assert {rows.pop(token) for token in ("<pad>", "<unk>", "|")} == {"<pad>", "<unk>", "|"}
    return rows


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("abc", "cxa", {"c": "c", "a": "a"}),
        ("ABC", "cab", {"c": "C", "a": "A", "b": "B"}),
        ("abc", "ABx", {"A": "a", "B": "b"}),
        ("A", "aA", {"A": "A"}),
        ("aA", "a", {"a": "a"}),
        ("aA", "Aa", {"a": "a", "A": "A"}),
        ("S", "sſ", {"s": "S"}),
        ("ßÉ", "ßé", {"ß": "ß", "é": "É"}),
        ("abc", "xyz", {}),
    ],
)
def test_letters_keep_their_rows(old, new, expected):
    assert letters_shared(old, new) == expected


def test_special_tokens_are_shared_by_what_they_are_for():
    old = tokenizer("a")
    new = tokenizer("ba", pad="[PAD]", unknown="[UNK]", delimiter="_", special=NONE)
    assert shared_rows(old, new) == {0: 0, 1: 1, 2: 2, 4: 3}
    spaces = Wav2Vec2CTCTokenizer({"a": 0, " ": 1, "<pad>": 2}, word_delimiter_token=None, unk_token=None, **NONE)
    assert shared_rows(old, spaces) == {0: 3, 1: 2, 2: 0}


def config_of(tokenizer):
    return Wav2Vec2Config(**{**TINY, "vocab_size": len(tokenizer)})


def head_of(tokenizer, dtype=np.float32):
    generator = np.random.default_rng(3)
    size = len(tokenizer)
    return {
        "lm_head.weight": generator.standard_normal((size, 32)).astype(dtype),
        "lm_head.bias": generator.standard_normal(size).astype(dtype),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_the_other_rows_are_those_of_a_new_model(dtype):
    old, new = tokenizer("abc"), tokenizer("xBay")
    arrays = head_of(old, dtype)
    before = {name: array.copy() for name, array in arrays.items()}
    config, resized, kept = resize_head(config_of(old), arrays, old, new, seed=7)
    assert (config.vocab_size, config.pad_token_id) == (7, 0)
    assert kept == ("<pad>", "<unk>", "|", "B", "a")
    table = parameter_table(config, "ForCTC")
    fresh = dict(initial_values({name: table[name] for name in HEAD}, 7))
    for name in HEAD:
        assert resized[name].dtype == dtype
        assert np.array_equal(resized[name][[0, 1, 2, 4, 5]], arrays[name][[0, 1, 2, 4, 3]])
        assert np.array_equal(resized[name][[3, 6]], fresh[name].astype(dtype)[[3, 6]])
        assert np.array_equal(arrays[name], before[name])
    other = resize_head(config_of(old), arrays, old, new, seed=8).arrays
    assert not np.array_equal(other["lm_head.weight"], resized["lm_head.weight"])


def test_tokens_beyond_the_head_have_no_rows():
    old, new = tokenizer("abc"), tokenizer("abc")
    arrays = {name: array[:5] for name, array in head_of(old).items()}
    assert resize_head(config_of(old), arrays, old, new, seed=0).kept == ("<pad>", "<unk>", "|", "a", "b")


def test_a_vocabulary_without_a_blank_is_refused():
    old = tokenizer("abc")
    new = Wav2Vec2CTCTokenizer({"a": 0, "|": 1}, pad_token=None, unk_token=None, **NONE)
    with pytest.raises(InputError, match="the vocabulary has no blank: name it with pad_token="):
        resize_head(config_of(old), head_of(old), old, new, seed=0)
