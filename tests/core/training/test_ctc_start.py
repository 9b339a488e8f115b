"""What training starts from: vocabularies of models, texts and files, kept rows of the head, adapters of languages."""

import json

import numpy as np
import pytest
from random_models import FAMILIES, LETTERS, make_folder

from wav2vec2_core import Wav2Vec2Config, Wav2Vec2CTCTokenizer
from wav2vec2_core.checkpoint import (
    HEAD,
    adapter_table,
    open_checkpoint,
    open_model,
    plan_loading,
    resize_head,
    write_adapter,
)
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.parameters import parameter_table
from wav2vec2_core.training.tasks import OpenedModel
from wav2vec2_core.training.tasks.ctc_start import choose_start

TEXTS = ["Abba é", "dada B"]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "|"]
FRENCH = ["<pad>", "<s>", "</s>", "<unk>", "|", "é", "a"]


def opened(folder, seed=0):
    source = open_model(folder)
    return OpenedModel(source, Wav2Vec2Config.from_source(source), open_checkpoint(source), seed)


def tokens_of(start):
    vocabulary = start.processor.tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def head_of(start):
    return {name: start.checkpoint.read(name) for name in HEAD if name in start.checkpoint.shapes}


def check_fits(start, *, new=()):
    """The weights are those of a model of this configuration, but for what is to start anew."""
    plan = plan_loading(parameter_table(start.config, "ForCTC"), start.checkpoint)
    assert set(plan.new) == set(new)
    assert start.config.pad_token_id == start.processor.tokenizer.pad_token_id


def never():
    raise AssertionError("the texts are read")
    yield


def test_the_models_own_vocabulary_is_the_first_choice(tmp_path):
    config, tensors = make_folder(tmp_path)
    for vocabulary in (None, "model"):
        start = choose_start(opened(tmp_path), never(), vocabulary=vocabulary)
        assert tokens_of(start) == list(LETTERS)
        check_fits(start)
        assert all(np.array_equal(array, tensors[name]) for name, array in head_of(start).items())
        assert (start.notes, start.frozen, start.config) == ((), "feature_encoder", config)


@pytest.mark.parametrize("head", ["ForPreTraining", "Model"])
def test_a_model_without_a_vocabulary_gets_that_of_the_texts(tmp_path, head):
    make_folder(tmp_path, head, vocabulary=None)
    start = choose_start(opened(tmp_path), TEXTS, case="lower")
    assert tokens_of(start) == [*SPECIAL, "a", "b", "d", "é"]
    assert start.config.vocab_size == 9
    check_fits(start, new=HEAD)
    assert start.notes[0] == "vocabulary: 4 letters in 2 texts"
    assert start.notes[-1] == "lm_head: new"
    with pytest.raises(InputError, match="has no vocabulary: use --vocabulary text for the letters of the training"):
        choose_start(opened(tmp_path), TEXTS, vocabulary="model")


def test_a_head_whose_letters_nobody_knows_starts_anew(tmp_path):
    make_folder(tmp_path, vocabulary=None)
    start = choose_start(opened(tmp_path), TEXTS)
    check_fits(start, new=HEAD)
    assert start.config.vocab_size == len(SPECIAL) + 6


def test_letters_that_the_model_knows_keep_their_rows(tmp_path):
    config, tensors = make_folder(tmp_path)
    start = choose_start(opened(tmp_path, 4), TEXTS, vocabulary="text", case="upper")
    assert tokens_of(start) == [*SPECIAL, "A", "B", "D", "É"]
    check_fits(start)
    old = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    expected = resize_head(config, {name: tensors[name] for name in HEAD}, old, start.processor.tokenizer, seed=4)
    assert len(expected.kept) == 9
    assert head_of(start).keys() == {*HEAD}
    assert all(np.array_equal(array, expected.arrays[name]) for name, array in head_of(start).items())
    assert start.notes[-1] == "lm_head: 9 of 9 tokens keep their rows"
    body = "wav2vec2.encoder.layers.0.attention.q_proj.weight"
    assert np.array_equal(start.checkpoint.read(body), tensors[body])


@pytest.mark.parametrize(
    ("tokens", "special"),
    [
        (["[UNK]", "a", "[PAD]", "|"], {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": None}),
        (["<pad>", "a", " "], {"pad_token": "<pad>", "unk_token": None, "word_delimiter_token": None}),
        (["b", "<s>", "<pad>"], {"bos_token": "<s>", "eos_token": None, "word_delimiter_token": "|"}),
    ],
)
def test_a_vocabulary_file_is_taken_as_it_is(tmp_path, tokens, special):
    make_folder(tmp_path)
    path = tmp_path / "own.json"
    path.write_text(json.dumps({token: row for row, token in enumerate(tokens)}))
    start = choose_start(opened(tmp_path), never(), vocabulary=str(path))
    assert tokens_of(start) == tokens
    assert {name: getattr(start.processor.tokenizer, name) for name in special} == special
    check_fits(start)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ('{"a": 0, "b": 1}', InputError, "has no '<pad>', the blank: add it"),
        ('{"<pad>": 0, "a": 0}', InputError, "gives id 0 to '<pad>' and 'a'"),
        ('{"eng": {"<pad>": 0}, "fra": {"<pad>": 0}}', InputError, "has vocabularies of eng, fra: name one"),
        ("[]", CheckpointError, "own.json"),
        (None, CheckpointError, "own.json"),
    ],
)
def test_vocabulary_files_that_cannot_be_used(tmp_path, content, error, message):
    make_folder(tmp_path)
    if content is not None:
        (tmp_path / "own.json").write_text(content)
    with pytest.raises(error, match=message):
        choose_start(opened(tmp_path), never(), vocabulary=str(tmp_path / "own.json"))


def test_the_result_is_saved_with_its_vocabulary(tmp_path):
    make_folder(tmp_path)
    start = choose_start(opened(tmp_path), TEXTS, vocabulary="text")
    start.save(tmp_path / "result")
    again = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "result")
    assert again.get_vocab() == start.processor.tokenizer.get_vocab()


# ---- adapters of languages ------------------------------------------------------------------------------------------


def numbered(tokens):
    return {token: row for row, token in enumerate(tokens)}


@pytest.fixture
def mms(tmp_path):
    """A folder with vocabularies for eng and fra, the head of eng, and the adapter of fra."""
    config, _ = make_folder(tmp_path, vocabulary=None, **FAMILIES["mms"])
    (tmp_path / "vocab.json").write_text(json.dumps({"eng": numbered(LETTERS), "fra": numbered(FRENCH)}))
    generator = np.random.default_rng(3)
    table = adapter_table(config.replace(vocab_size=len(FRENCH)), "ForCTC")
    french = {name: generator.standard_normal(row.shape).astype(np.float32) for name, row in table.items()}
    write_adapter(tmp_path, "fra", french)
    return tmp_path, french


def test_a_new_language_starts_with_new_adapters_and_its_own_vocabulary(mms):
    folder, french = mms
    start = choose_start(opened(folder), ["héé b"], adapter="xyz")
    tokenizer = start.processor.tokenizer
    assert tokenizer.languages == ("eng", "fra", "xyz")
    assert tokenizer.target_lang == "xyz"
    assert tokens_of(start) == [*SPECIAL, "b", "h", "é"]
    check_fits(start, new=french)
    assert start.frozen == "all_but_adapters"
    assert start.notes[-2:] == ("adapter xyz: new", "lm_head: new")
    assert start.config.vocab_size == 8


def test_a_language_that_the_model_has_goes_on_from_its_adapter(mms):
    folder, french = mms
    start = choose_start(opened(folder), never(), adapter="fra")
    assert tokens_of(start) == FRENCH
    check_fits(start)
    assert start.config.vocab_size == 7
    assert all(np.array_equal(start.checkpoint.read(name), array) for name, array in french.items())
    wider = choose_start(opened(folder), ["a é ç"], adapter="fra", vocabulary="text")
    assert tokens_of(wider) == [*SPECIAL, "a", "ç", "é"]
    check_fits(wider)
    rows = wider.checkpoint.read("lm_head.weight")
    assert np.array_equal(rows[[5, 7]], french["lm_head.weight"][[6, 5]])
    assert "lm_head: 7 of 8 tokens keep their rows" in wider.notes


def test_a_body_without_prefix_takes_an_adapter(mms, tmp_path):
    folder, french = mms
    body = tmp_path / "body"
    make_folder(body, "Model", vocabulary=None, **FAMILIES["mms"])
    for name in ("vocab.json", "adapter.fra.safetensors"):
        (body / name).write_bytes((folder / name).read_bytes())
    check_fits(choose_start(opened(body), never(), adapter="fra"))
    check_fits(choose_start(opened(body), ["b"], adapter="xyz"), new=french)


def test_special_tokens_of_a_language_are_those_of_the_model(mms):
    folder, _ = mms
    eng = numbered(["[PAD]", " ", "a"])
    (folder / "vocab.json").write_text(json.dumps({"eng": eng}))
    settings = {"pad_token": "[PAD]", "unk_token": None, "bos_token": None, "eos_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "word_delimiter_token": None}))
    start = choose_start(opened(folder), ["z y"], adapter="xyz")
    assert start.processor.tokenizer.vocab == {"eng": eng, "xyz": numbered(["[PAD]", " ", "y", "z"])}
    assert start.processor.tokenizer.pad_token == "[PAD]"


def test_a_flat_vocabulary_becomes_that_of_the_language(mms):
    folder, french = mms
    (folder / "vocab.json").write_text(json.dumps(numbered(LETTERS)))
    start = choose_start(opened(folder), never(), adapter="xyz")
    assert start.processor.tokenizer.vocab == {"xyz": numbered(LETTERS)}
    check_fits(start, new=french)


def test_a_languages_vocabulary_may_be_a_file(mms, tmp_path):
    path = tmp_path / "own.json"
    for content in (numbered(FRENCH), {"abc": numbered(LETTERS), "xyz": numbered(FRENCH)}):
        path.write_text(json.dumps(content))
        start = choose_start(opened(mms[0]), never(), adapter="xyz", vocabulary=str(path))
        assert tokens_of(start) == FRENCH
        assert start.processor.tokenizer.languages == ("eng", "fra", "xyz")
    with pytest.raises(InputError, match="has vocabularies of abc, xyz: name one of these languages with --adapter"):
        choose_start(opened(mms[0]), never(), adapter="other", vocabulary=str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "has a vocabulary for each of 2 languages: train the adapter of one with --adapter LANGUAGE"),
        ({"adapter": "../x"}, "must be letters, digits, '_' and '-'"),
        ({"adapter": "xyz", "vocabulary": "model"}, "has no vocabulary of 'xyz': use --vocabulary text"),
    ],
)
def test_languages_that_cannot_be_trained(mms, options, message):
    with pytest.raises(InputError, match=message):
        choose_start(opened(mms[0]), TEXTS, **options)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("large", r"set adapter_attn_dim \(16 in MMS\) in the config.json"),
        ("base", "they need do_stable_layer_norm=True"),
    ],
)
def test_a_model_without_adapters_says_what_to_do(tmp_path, family, message):
    make_folder(tmp_path, **FAMILIES[family])
    with pytest.raises(InputError, match=f"--adapter trains attention adapters and model .* has none: .*{message}"):
        choose_start(opened(tmp_path), TEXTS, adapter="xyz")


def test_a_vocabulary_without_a_blank_is_refused(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": None}))
    with pytest.raises(InputError, match="the vocabulary has no blank"):
        choose_start(opened(tmp_path), TEXTS)
