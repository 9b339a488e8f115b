"""Vocabularies from texts: which letters, in which order, and what the report says of them."""

import random

import pytest

from wav2vec2_core import Wav2Vec2CTCTokenizer
from wav2vec2_core.errors import InputError
from wav2vec2_core.tokenization.building import build_vocabulary, spelt


@pytest.mark.parametrize(
    ("text", "case", "expected"),
    [
        ("cafe\u0301", "keep", "café"),
        (" A\u00a0b\t\nC ", "keep", "A b C"),
        ("ÉTÉ E\u0301", "lower", "été é"),
        ("straße", "upper", "STRASSE"),
        ("ΟΔΟΣ", "lower", "οδος".replace("σ", "ς")),
    ],
)
def test_texts_are_composed_in_one_case_and_single_spaced(text, case, expected):
    assert spelt(text, case) == expected
    assert spelt(expected, case) == expected


def test_special_tokens_come_first_and_letters_by_code_point():
    vocabulary = build_vocabulary(["ba e\u0301", "a c"])
    assert list(vocabulary.tokens) == ["<pad>", "<s>", "</s>", "<unk>", "|", "a", "b", "c", "é"]
    assert list(vocabulary.tokens.values()) == list(range(9))
    assert vocabulary.counts == {"a": 2, "b": 1, "c": 1, "é": 1}
    assert vocabulary.texts == 2


def test_the_order_of_the_texts_makes_no_difference():
    texts = ["zebra", "äpfel", "Öl", "abc", "нет"]
    expected = build_vocabulary(texts).tokens
    random.Random(0).shuffle(texts)
    assert build_vocabulary(texts).tokens == expected
    assert list(build_vocabulary(iter(texts)).tokens) == list(expected)


def test_another_models_special_tokens():
    vocabulary = build_vocabulary(["b a"], special=("[PAD]", "[UNK]"), delimiter=" ")
    assert list(vocabulary.tokens) == ["[PAD]", "[UNK]", " ", "a", "b"]


def report(*texts, **options):
    return list(build_vocabulary(texts, **options).lines())


def test_rare_letters_are_named_with_their_texts():
    vocabulary = build_vocabulary(["aaaa bbbb"] * 10 + ["a long way to the naïve b", "ï aa", "third ï"])
    assert list(vocabulary.rare(4))[-1] == "ï"
    assert vocabulary.rare(4)["ï"] == 3
    assert "ï" not in vocabulary.rare(3)
    assert vocabulary.examples["ï"] == ("g way to the naïve b", "ï aa")
    few = build_vocabulary(["aaaaaaaaaa naïf f", "f f f"])
    assert list(few.lines(4))[1:] == [
        "seen 1 times: n in 'aaaaaaaaaa naïf f'",
        "seen 1 times: ï in 'aaaaaaaaaa naïf f'",
    ]


def test_examples_show_what_is_on_either_side():
    text = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz".replace("z", "ï", 1)
    assert build_vocabulary([text]).examples["ï"] == ("klmnopqrstuvwxyïabcdefghijklmno",)


def test_ten_times_are_not_rare():
    assert build_vocabulary(["a" * 10 + "b" * 9]).rare() == {"b": 9}


def test_a_long_list_ends_with_a_number():
    assert any("/ (1) and 1 more; take" in line for line in report('a!"#%&()*,-./:'))


def test_many_rare_letters_are_counted():
    lines = report("abcdefghijklmnopqrstuvwxyz")
    assert sum(line.startswith("seen 1 times: ") for line in lines) == 12
    assert lines[-1] == "seen under 10 times: 14 more letters"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("well, it's well.", "punctuation among the letters: , (1), . (1); "),
        ("room 101", "digits among the letters: 1 (2), 0 (1); "),
        ("5 € + x", "symbols among the letters: + (1), € (1); "),
        ("a\u200db", "invisible characters among the letters: U+200D ZERO WIDTH JOINER (1); "),
        ("Bob", "small letters and capitals are learned apart: B (1); "),
        ("a|b", "'|' is read as a space, 1 texts hold it"),
    ],
)
def test_what_a_user_may_not_want_is_pointed_out(text, line):
    assert any(found.startswith(line) for found in report(text)), report(text)
    assert not any(found.startswith(line[:15]) for found in report("only letters"))


def test_one_case_has_no_pairs():
    assert not any("capitals" in line for line in report("Bob", case="lower"))
    assert not any("capitals" in line for line in report("Bill"))


@pytest.mark.parametrize(
    ("texts", "case", "message"),
    [
        ([], "keep", "0 texts have no letter"),
        (["", " | "], "keep", "2 texts have no letter"),
        (["a", 3], "keep", "text 3 is a int, a string is needed"),
        (["a"], "title", "case='title' is unknown: use one of keep, lower, upper"),
        (["a\ud800"], "keep", r"holds half a character, '\\ud800'"),
    ],
)
def test_texts_that_make_no_vocabulary(texts, case, message):
    with pytest.raises(InputError, match=message):
        build_vocabulary(texts, case=case)


def test_a_tokenizer_of_texts_reads_and_writes_them(tmp_path):
    tokenizer = Wav2Vec2CTCTokenizer.from_texts(["Été à la mer"], case="lower")
    ids = tokenizer("été à la mer").input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, group_tokens=False) == "été à la mer"
    tokenizer.save_pretrained(tmp_path)
    again = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.pad_token_id == 0


def test_a_vocabulary_need_not_be_a_file():
    nested = {"eng": {"<pad>": 0, "|": 1, "a": 2}, "fra": {"<pad>": 0, "|": 1, "é": 2}}
    tokenizer = Wav2Vec2CTCTokenizer(nested, bos_token=None, eos_token=None, unk_token=None, target_lang="fra")
    assert tokenizer.get_vocab() == nested["fra"]
    with pytest.warns(UserWarning, match="pad_token='<pad>', the CTC blank, is not in the vocabulary: it is added"):
        Wav2Vec2CTCTokenizer({"a": 0})
