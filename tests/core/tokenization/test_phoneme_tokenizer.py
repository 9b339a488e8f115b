"""Phoneme models: phones to text, without a phonemizer."""

import json
import warnings

import numpy as np
import pytest

from wav2vec2_core import AutoTokenizer, Wav2Vec2CTCTokenizer, Wav2Vec2PhonemeCTCTokenizer
from wav2vec2_core.decoding.greedy import GreedyDecoder
from wav2vec2_core.errors import InputError

PHONES = ["<s>", "<pad>", "</s>", "<unk>", "h", "ə", "l", "oʊ", "w", "ɜː", "d", "|"]


@pytest.fixture
def folder(tmp_path):
    """As transformers 4 writes a phoneme model's tokenizer."""
    (tmp_path / "vocab.json").write_text(json.dumps({phone: row for row, phone in enumerate(PHONES)}))
    written = {
        "tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer", "phone_delimiter_token": " ", "word_delimiter_token": None,
        "do_phonemize": True, "phonemizer_lang": "en-us", "phonemizer_backend": "espeak",
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
    }  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(written))
    return tmp_path


def ids(text):
    return [PHONES.index(phone) for phone in text.split()]


def test_phones_become_text(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer) is type(Wav2Vec2CTCTokenizer.from_pretrained(folder)) is Wav2Vec2PhonemeCTCTokenizer
    frames = ids("<pad> h h ə <pad> l l <pad> l oʊ oʊ <pad>")
    assert tokenizer.decode(frames) == "h ə l l oʊ"
    assert tokenizer.batch_decode([frames, frames[:3]]) == ["h ə l l oʊ", "h"]
    decoded = tokenizer.decode(frames, output_char_offsets=True, output_word_offsets=True)
    assert decoded.char_offsets[-1] == {"char": "oʊ", "start_offset": 9, "end_offset": 11}
    assert [one["word"] for one in decoded.word_offsets] == ["h", "ə", "l", "l", "oʊ"]
    assert tokenizer.decode(ids("l l"), group_tokens=False) == "l l"
    assert tokenizer.decode([]) == ""


def test_delimiters(folder):
    dashed = Wav2Vec2PhonemeCTCTokenizer.from_pretrained(folder, phone_delimiter_token="-", word_delimiter_token="|")
    assert dashed.decode(ids("h oʊ | w ɜː d")) == "h-oʊ-w-ɜː-d"
    assert dashed("h-oʊ-|-w").input_ids == ids("h oʊ | w")
    kept = AutoTokenizer.from_pretrained(folder)
    assert kept.decode(ids("h oʊ | w")) == "h oʊ | w"
    with pytest.raises(InputError, match="phone_delimiter_token='' must be text, such as a space"):
        Wav2Vec2PhonemeCTCTokenizer.from_pretrained(folder, phone_delimiter_token="")


def test_phones_are_labels_and_words_are_not(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("h ə l oʊ").input_ids == ids("h ə l oʊ")
    with pytest.raises(InputError, match=r"'hello' is no phone of the vocabulary: give phones with ' ' between them"):
        tokenizer("hello")
    with pytest.raises(InputError, match="is a int, a string is needed"):
        tokenizer.tokenize(3)


def test_files_go_both_ways(folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(folder, phone_delimiter_token="-")
    tokenizer.save_pretrained(tmp_path / "saved")
    written = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == "Wav2Vec2PhonemeCTCTokenizer"
    assert (written["phonemizer_lang"], written["do_phonemize"]) == ("en-us", True)
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").decode(ids("h ə")) == "h-ə"


@pytest.mark.parametrize("delimiter", [None, "|"])
def test_each_phone_is_a_word_with_its_time(folder, delimiter):
    tokenizer = AutoTokenizer.from_pretrained(folder, word_delimiter_token=delimiter)
    frames = ids("h <pad> oʊ oʊ w" if delimiter is None else "h <pad> oʊ oʊ | w")
    logits = 9 * np.eye(len(PHONES), dtype=np.float32)[frames]
    text, words = GreedyDecoder(tokenizer).decode(logits)
    assert text == tokenizer.decode(frames) == "h oʊ w"
    last = len(frames)
    assert [(word.text, word.start, word.end) for word in words] == [("h", 0, 1), ("oʊ", 2, 4), ("w", last - 1, last)]
