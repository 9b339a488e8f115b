"""The tokenizer by examples; tests/oracle compares it with transformers on thousands of random ones."""

import copy
import json
import pickle

import numpy as np
import pytest

from wav2vec2_core.batching import to_tensor
from wav2vec2_core.errors import BackendError, CheckpointError, InputError, OutputError
from wav2vec2_core.tokenization import AddedToken, Wav2Vec2CTCTokenizer
from wav2vec2_core.tokenization.vocabulary import Vocabulary

LETTERS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "a": 5, "b": 6, "c": 7, "ü": 8}
NESTED = {
    "eng": {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "sh": 4, "b": 5},
    "fra": {"<pad>": 0, "<unk>": 1, "|": 2, "b": 3, "a": 4},
}


@pytest.fixture
def make(tmp_path):
    def build(vocabulary=LETTERS, **arguments):
        path = tmp_path / "vocab.json"
        path.write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(path, **arguments)

    return build


# ---- text to ids ------------------------------------------------------------------------------------------------


def test_one_text_and_a_batch(make):
    tokenizer = make()
    assert dict(tokenizer("ab cü")) == {"input_ids": [5, 6, 4, 7, 8], "attention_mask": [1] * 5}
    batch = tokenizer(["ab", "c"], padding=True, return_tensors="np")
    assert batch.input_ids.tolist() == [[5, 6], [7, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch.input_ids.dtype == np.int64
    assert tokenizer("ab", return_tensors="np").input_ids.shape == (1, 2)


def test_unknown_characters_and_normal_forms(make):
    tokenizer = make()
    assert tokenizer.tokenize("az") == ["a", "z"]
    assert tokenizer("az").input_ids == [5, 3]
    assert tokenizer("u\u0308").input_ids == [3, 3], "a decomposed letter is not its composed form"


def test_long_tokens_stay_whole_and_the_longest_wins(make):
    tokenizer = make({**LETTERS, "ab": 9, "abc": 10, "bc": 11})
    assert tokenizer.tokenize("abcab bc") == ["abc", "ab", "bc"], "long tokens swallow the space beside them"
    assert tokenizer.tokenize("aabbc") == ["a", "ab", "bc"]
    assert tokenizer.tokenize("ab", split_special_tokens=True) == ["a", "b"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, ["a", "|", "xx", "|", "b"]),
        ({"lstrip": True}, ["a", "xx", "|", "b"]),
        ({"rstrip": True}, ["a", "|", "xx", "b"]),
        ({"single_word": True}, ["a", "|", "xx", "|", "b"]),
    ],
)
def test_flags_of_added_tokens(make, flags, expected):
    tokenizer = make()
    assert tokenizer.add_tokens([AddedToken("xx", **flags)]) == 1
    assert tokenizer.tokenize("a xx b") == expected
    assert (tokenizer.tokenize("axxb") == ["a", "xx", "b"]) is not flags.get("single_word", False)


def test_added_tokens_get_the_next_ids(make):
    tokenizer = make()
    assert tokenizer.add_tokens(["xx", "a"]) == 1
    assert tokenizer.add_special_tokens({"mask_token": "<m>", "additional_special_tokens": ["<x>"]}) == 2
    assert (len(tokenizer), tokenizer.vocab_size) == (12, 9)
    assert tokenizer.convert_tokens_to_ids(["xx", "<m>", "<x>", "a"]) == [9, 10, 11, 5]
    assert tokenizer.all_special_tokens == ["<s>", "</s>", "<unk>", "<pad>", "<m>", "<x>"]
    assert tokenizer.decode([5, 10, 11, 6], skip_special_tokens=True) == "ab"


def test_lower_case_text_for_an_upper_case_vocabulary(make):
    tokenizer = make({"<pad>": 0, "<unk>": 1, "|": 2, "A": 3, "Σ": 4}, do_lower_case=True)
    assert tokenizer("aA<pad>σς").input_ids == [3, 3, 0, 4, 4]
    assert tokenizer.decode([3, 3, 0, 3, 4]) == "aaς"


def test_added_tokens_of_lower_case_text(make):
    """A normalized token is looked for in lower case, a special one as it is written."""
    tokenizer = make({"<pad>": 0, "<unk>": 1, "|": 2, "A": 3}, do_lower_case=True)
    tokenizer.add_tokens([AddedToken("Xx", special=True, normalized=True), AddedToken("Yy", normalized=True)])
    assert tokenizer.tokenize("Xxyya") == ["Xx", "yy", "A"]
    assert tokenizer.tokenize("xxYy") == ["X", "X", "yy"]


def test_words_pairs_and_targets(make):
    tokenizer = make()
    assert tokenizer(["a", "b"], is_split_into_words=True).input_ids == [4, 5, 4, 6]
    assert tokenizer([["a"], ["b", "c"]], is_split_into_words=True).input_ids == [[4, 5], [4, 6, 4, 7]]
    assert tokenizer("a", "b", return_token_type_ids=True).token_type_ids == [0, 1]
    assert tokenizer("a", text_target="b").labels == [6]


def test_lengths(make):
    tokenizer = make()
    cut = tokenizer("abca", truncation=True, max_length=2, stride=1, return_overflowing_tokens=True)
    assert (cut.input_ids, cut.overflowing_tokens, cut.num_truncated_tokens) == ([5, 6], [6, 7, 5], 2)
    assert tokenizer("a", padding="max_length", max_length=3, padding_side="left").input_ids == [0, 0, 5]
    assert tokenizer(["abc"], padding=True, pad_to_multiple_of=4).input_ids == [[5, 6, 7, 0]]
    with pytest.warns(UserWarning, match="max_length=2 without truncation"):
        assert tokenizer("abca", max_length=2).input_ids == [5, 6]


def test_pad_collates_examples(make):
    batch = make().pad([{"input_ids": [5, 6]}, {"input_ids": [7]}], return_tensors="np")
    assert batch.input_ids.tolist() == [[5, 6], [7, 0]]
    assert batch.attention_mask.tolist() == [[1, 1], [1, 0]]


# ---- ids to text ------------------------------------------------------------------------------------------------


def test_decode_merges_repeats_and_drops_blanks(make):
    tokenizer = make()
    frames = [5, 5, 0, 5, 4, 4, 6, 0]
    assert tokenizer.decode(frames) == "aa b"
    assert tokenizer.decode(np.array(frames)) == "aa b"
    assert tokenizer.decode([5, 5, 6], group_tokens=False) == "aab"
    assert tokenizer.batch_decode(np.array([frames, [0] * 8])) == ["aa b", ""]
    assert tokenizer.decode(5) == "a"


def test_decode_offsets_are_frames(make):
    output = make().decode([0, 5, 5, 0, 6, 4, 0, 7], output_char_offsets=True, output_word_offsets=True)
    assert output.text == "ab c"
    assert output.char_offsets == [
        {"char": "a", "start_offset": 1, "end_offset": 3},
        {"char": "b", "start_offset": 4, "end_offset": 5},
        {"char": " ", "start_offset": 5, "end_offset": 6},
        {"char": "c", "start_offset": 7, "end_offset": 8},
    ]
    assert output.word_offsets == [
        {"word": "ab", "start_offset": 1, "end_offset": 5},
        {"word": "c", "start_offset": 7, "end_offset": 8},
    ]
    json.dumps(output)  # plain integers


def test_decode_a_batch_with_offsets(make):
    output = make().batch_decode([[5, 6], [], [7]], output_word_offsets=True)
    assert output.text == ["ab", "", "c"]
    assert [len(words) for words in output.word_offsets] == [1, 0, 1]
    assert output.char_offsets is None


def test_ids_outside_of_the_vocabulary_read_as_unknown(make):
    assert make().decode([5, 99, -1, 6]) == "a<unk>b"


# ---- languages --------------------------------------------------------------------------------------------------


def test_languages(make):
    tokenizer = make(NESTED, target_lang="eng", bos_token=None, eos_token=None)
    assert tokenizer.languages == ("eng", "fra")
    assert tokenizer("ash").input_ids == [3, 4]
    tokenizer.set_target_lang("fra")
    assert tokenizer.target_lang == "fra"
    assert tokenizer("ab").input_ids == [4, 3]
    assert tokenizer.decode([4, 3]) == "ab"


@pytest.mark.parametrize("language", ["eng", "fra"])
def test_switching_languages_equals_starting_with_one(make, language):
    """Ids and long tokens of the former language leave no trace."""
    other = {"eng": "fra", "fra": "eng"}[language]
    switched = make(NESTED, target_lang=other, bos_token=None, eos_token=None)
    switched.add_tokens(["own"])
    switched.set_target_lang(language)
    fresh = make(NESTED, target_lang=language, bos_token=None, eos_token=None)
    fresh.add_tokens(["own"])
    assert {**switched.get_vocab(), "own": None} == {**fresh.get_vocab(), "own": None}
    assert switched.encoder == fresh.encoder
    for text in ("ash b", "sha", "own a"):
        assert switched.tokenize(text) == fresh.tokenize(text)
    for index in fresh.decoder:
        assert switched.convert_ids_to_tokens(index) == fresh.convert_ids_to_tokens(index)


# ---- files ------------------------------------------------------------------------------------------------------


def same(left, right):
    assert left.get_vocab() == right.get_vocab()
    assert left.added_tokens_decoder == right.added_tokens_decoder
    assert left.special_tokens_map == right.special_tokens_map
    assert left.tokenize("a <x>ab xx <m> z") == right.tokenize("a <x>ab xx <m> z")


def test_save_and_load(make, tmp_path):
    tokenizer = make({**LETTERS, "ab": 9}, additional_special_tokens=["<x>"], model_max_length=50, custom=[1, 2])
    tokenizer.add_tokens([AddedToken("xx", lstrip=True, single_word=True)])
    tokenizer.add_special_tokens({"mask_token": AddedToken("<m>", rstrip=True)})
    tokenizer.save_pretrained(tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"vocab.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
    loaded = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "saved")
    same(loaded, tokenizer)
    assert repr(loaded).startswith("Wav2Vec2CTCTokenizer(13 tokens, special={'bos_token': '<s>'")
    assert (loaded.model_max_length, loaded.init_kwargs["custom"]) == (50, [1, 2])


def test_saving_again_forgets_old_added_tokens(make, tmp_path):
    tokenizer = make()
    tokenizer.add_tokens(["xx"])
    tokenizer.save_pretrained(tmp_path / "saved")
    make().save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "added_tokens.json").exists()


def test_a_nested_vocabulary_is_saved_whole(make, tmp_path):
    make(NESTED, target_lang="fra").save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "vocab.json").read_text()) == NESTED
    assert Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "saved", target_lang="eng").tokenize("sh") == ["sh"]


def write(folder, **documents):
    folder.mkdir()
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def test_folders_of_older_releases(tmp_path):
    plain = write(tmp_path / "plain", vocab=LETTERS, tokenizer_config={"do_lower_case": False, "do_normalize": True})
    assert Wav2Vec2CTCTokenizer.from_pretrained(plain)("ab").input_ids == [5, 6]
    token = {"content": "<s>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "|": 2, "a": 3}
    released = write(
        tmp_path / "released",
        vocab=vocabulary,
        tokenizer_config={"pad_token": "[PAD]", "unk_token": {"__type": "AddedToken", **token, "content": "[UNK]"}},
        special_tokens_map={
            "bos_token": "<s>",
            "additional_special_tokens": [token, {**token, "content": "</s>"}, token],
        },
        added_tokens={"<s>": 4, "</s>": 5},
    )
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(released)
    assert tokenizer("a<s>z").input_ids == [3, 4, 1]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer)) == (4, 5, 6)
    assert tokenizer.additional_special_tokens == ["<s>", "</s>"]


def test_folders_of_transformers_5(tmp_path):
    config = {
        "added_tokens_decoder": {"4": {"content": "|", "special": True}, "9": {"content": "<x>", "special": True}},
        "backend": "custom",
        "extra_special_tokens": ["<x>"],
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
    }
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(write(tmp_path / "v5", vocab=LETTERS, tokenizer_config=config))
    assert tokenizer("a <x>b").input_ids == [5, 4, 9, 6]
    assert tokenizer.additional_special_tokens == ["<x>"]
    assert tokenizer.decode([5, 4, 9, 6], skip_special_tokens=True) == "a b", "word borders stay"


def test_the_tokenizer_of_another_model_warns(tmp_path):
    folder = write(tmp_path / "other", vocab=LETTERS, tokenizer_config={"tokenizer_class": "BertTokenizer"})
    with pytest.warns(UserWarning, match="was saved with BertTokenizer"):
        Wav2Vec2CTCTokenizer.from_pretrained(folder)


def test_copies(make):
    tokenizer = make()
    tokenizer.add_tokens(["xx"])
    for twin in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert twin.tokenize("axxb") == ["a", "xx", "b"]
    batch = tokenizer("ab")
    assert dict(copy.deepcopy(batch)) == dict(pickle.loads(pickle.dumps(batch))) == dict(batch)


# ---- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vocabulary", "arguments", "message"),
    [
        ({"<pad>": 0, "a": 0}, {}, "gives id 0 to '<pad>' and 'a'"),
        ({"<pad>": 0, "a": "1"}, {}, "maps 'a' to '1': every token needs an integer id"),
        ({"<pad>": 0, "a": True}, {}, "maps 'a' to True"),
        ({"<pad>": -1}, {}, "0 or more"),
        ({}, {}, "is empty"),
        (LETTERS, {"target_lang": "eng"}, "this one is flat"),
        (NESTED, {}, r"nested by language: name one with target_lang= \(--language\), of eng, fra"),
        (NESTED, {"target_lang": "deu"}, "target_lang='deu' is not in the vocabulary: use one of eng, fra"),
        (NESTED, {"target_lang": "../fra"}, "'../fra' is not the name of a language: use one of eng, fra"),
        ({**NESTED, "../fra": {"<pad>": 0}}, {"target_lang": "../fra"}, "is not the name of a language"),
        ({"eng": {"a": 1}, "<pad>": 0}, {}, "maps 'eng' to {'a': 1}"),
        (LETTERS, {"model_max_length": "long"}, "model_max_length='long' must be a positive number"),
        (LETTERS, {"replace_word_delimiter_char": None}, "replace_word_delimiter_char=None must be text"),
        (LETTERS, {"bos_token": 3}, "bos_token=3 must be text"),
        (LETTERS, {"padding_side": "up"}, "padding_side='up' is unknown: use one of 'right', 'left'"),
        (LETTERS, {"additional_special_tokens": "<x>"}, "must be a list"),
    ],
)
def test_bad_vocabularies_and_arguments(make, vocabulary, arguments, message):
    with pytest.raises(InputError, match=message) as error:
        make(vocabulary, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t(), "neither text nor text_target"),
        (lambda t: t(5), "text 5 must be a string"),
        (lambda t: t(np.array([["a"] * 9] * 9)), "text array.* must be a string"),
        (lambda t: t(["a", np.zeros((20, 20))]), "a ndarray, text must be a string"),
        (lambda t: t(np.zeros(3), is_split_into_words=True), "must be a string"),
        (lambda t: t([]), "must be a string or a list of at least one"),
        (lambda t: t(["a", 5]), "text 5 is a int"),
        (lambda t: t(["a", None]), "text None is a NoneType"),
        (lambda t: t([["a", "b", "c"]]), "is_split_into_words=True"),
        (lambda t: t(["a", "b"], ["c"]), "text_pair must be one too"),
        (lambda t: t("a", padding="both"), "padding='both' is unknown: use one of 'longest'"),
        (lambda t: t("a", truncation="end"), "truncation='end' is unknown"),
        (lambda t: t("a", padding_side="up"), "padding_side='up' is unknown"),
        (lambda t: t("a", truncation=True, max_length=-1), "max_length=-1 must be an integer, 0 or more"),
        (lambda t: t("a", padding=True, pad_to_multiple_of=0), "pad_to_multiple_of=0 must be an integer, 1 or more"),
        (lambda t: t("a", padding=True, truncation=True, max_length=5, pad_to_multiple_of=2), "use max_length=6"),
        (lambda t: t("a", return_overflowing_tokens=True), "needs max_length"),
        (lambda t: t("a", return_tensors="mx"), "return_tensors='mx' is unknown"),
        (lambda t: t("a", return_token_type_ids=True, add_special_tokens=False), "contradicts"),
        (lambda t: t.pad({"labels": [[1]]}), "have no 'input_ids', only"),
        (lambda t: t.pad([]), "must be a mapping or a list of mappings"),
        (lambda t: t.pad([{"input_ids": [1], "x": 1}, {"input_ids": [1]}]), "example 1 of the batch has no 'x'"),
        (lambda t: t.pad({"input_ids": [[1], [2]], "labels": [[1]]}), "'labels' does not have one row"),
        (lambda t: t.decode([[5, 6]]), "use batch_decode"),
        (lambda t: t.decode([5, 6.5]), "token id 6.5 is not an integer"),
        (lambda t: t.decode("ab"), "'ab' is not an integer"),
        (lambda t: t.set_target_lang("eng"), "this one is flat"),
        (lambda t: t.add_tokens([3]), "3 is a int"),
        (lambda t: t.add_special_tokens({"blank": "x"}), "'blank' is no special token: use one of bos_token"),
        (lambda t: t.tokenize(3), "a string is needed"),
        (lambda t: t.get_special_tokens_mask([1], [2], already_has_special_tokens=True), "takes one list"),
    ],
)
def test_bad_calls(make, call, message):
    with pytest.raises(InputError, match=message) as error:
        call(make())
    assert "\n" not in str(error.value)


def test_without_unknown_token(make):
    tokenizer = make(LETTERS, unk_token=None)
    assert tokenizer.convert_tokens_to_ids("z") is None
    with pytest.raises(InputError, match="'z' is not in the vocabulary"):
        tokenizer("az")
    with pytest.raises(InputError, match="id 99 is outside of the vocabulary"):
        tokenizer.decode([5, 99])


def test_without_pad_token(make):
    tokenizer = make(LETTERS, pad_token=None)
    assert tokenizer("ab").input_ids == [5, 6]
    with pytest.raises(InputError, match="padding needs a pad token"):
        tokenizer(["ab", "a"], padding=True)


def test_rows_of_different_lengths_are_no_torch_tensor(make):
    ragged = make()(["ab", "a"], return_tensors="np").input_ids
    assert (ragged.dtype, [row.tolist() for row in ragged]) == (object, [[5, 6], [5]])
    with pytest.raises(InputError, match=r"'input_ids' have different lengths.*padding=True"):
        make()(["ab", "a"], return_tensors="pt")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no vocab.json"),
        ({"vocab": []}, "a JSON object is needed"),
        ({"vocab": LETTERS, "tokenizer_config": []}, "a JSON object is needed"),
        ({"vocab": LETTERS, "tokenizer_config": {"added_tokens_decoder": {"x": {"content": "a"}}}}, "are damaged"),
        ({"vocab": LETTERS, "tokenizer_config": {"added_tokens_decoder": {"9": 5}}}, "are damaged"),
        ({"vocab": LETTERS, "added_tokens": {"x": "y"}}, "are damaged"),
    ],
)
def test_damaged_folders(tmp_path, files, message):
    with pytest.raises(CheckpointError, match=message):
        Wav2Vec2CTCTokenizer.from_pretrained(write(tmp_path / "model", **files))


def test_unwritable_folder(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot create folder"):
        make().save_pretrained(tmp_path / "file" / "folder")
    with pytest.raises(CheckpointError, match="must not leave"):
        make().save_vocabulary(tmp_path, filename_prefix="../up")


# ---- tensors ----------------------------------------------------------------------------------------------------


class FakeTensors:
    """Stands for a framework that is not installed here: remembers what it was asked to convert."""

    def constant(self, array):
        return ("tensor", array.dtype, array.tolist())

    asarray = constant


@pytest.mark.parametrize(("name", "module"), [("tf", "tensorflow"), ("jax", "jax.numpy")])
def test_other_frameworks_get_32_bit_ids(monkeypatch, name, module):
    import sys

    monkeypatch.setitem(sys.modules, module.partition(".")[0], FakeTensors())
    monkeypatch.setitem(sys.modules, module, FakeTensors())
    assert to_tensor([[1, 2]], name) == ("tensor", np.int32, [[1, 2]])
    assert to_tensor(np.ones(2, np.float32), name)[1] == np.float32


def test_a_missing_framework_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(BackendError, match=r"tensorflow is not installed.*wav2vec2-frameworks\[tf\]"):
        to_tensor([1], "tf")


def test_work_grows_with_the_vocabulary_and_not_with_its_square(tmp_path, monkeypatch):
    """Pieces of words are added together: tables of all tokens are made a few times, however many there are."""
    calls = []
    get_vocab = Vocabulary.get_vocab
    monkeypatch.setattr(Vocabulary, "get_vocab", lambda tokenizer: calls.append(1) or get_vocab(tokenizer))
    vocabulary = {"<pad>": 0, "<unk>": 1, "|": 2, **{f"piece{index}": 3 + index for index in range(500)}}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = Wav2Vec2CTCTokenizer(tmp_path / "vocab.json")
    assert tokenizer.tokenize("piece7piece12") == ["piece7", "piece12"]
    assert len(calls) < 10


def test_a_vocabulary_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(LETTERS), encoding="utf-8-sig")
    assert Wav2Vec2CTCTokenizer(path).get_vocab() == LETTERS
