"""The tokenizer against transformers 4.57.6: random vocabularies, added tokens, options and texts."""

import numpy as np
import pytest
import transformers
from tokenizer_cases import Case, flags, outcome, plain, same_split_as_longest_match

from wav2vec2_core.errors import InputError

pytestmark = pytest.mark.oracle
transformers.logging.set_verbosity(transformers.logging.CRITICAL)

TOKENIZERS = 60  # seeds per test
TEXTS = 12  # texts per tokenizer


def assert_same(theirs, ours, what):
    if isinstance(theirs, Exception):
        assert not isinstance(ours, Exception) or isinstance(ours, InputError), f"{what}: we raise {ours!r}"
        return
    assert not isinstance(ours, Exception), f"{what}: transformers gives {theirs!r}, we raise {ours!r}"
    assert plain(ours) == plain(theirs), what


@pytest.mark.parametrize("seed", range(TOKENIZERS))
def test_vocabulary_and_special_tokens(seed, tmp_path):
    theirs, ours = Case(seed, tmp_path).make()
    assert ours.get_vocab() == theirs.get_vocab()
    assert len(ours) == len(theirs)
    assert ours.vocab_size == theirs.vocab_size
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    assert flags(ours.added_tokens_decoder) == flags(theirs.added_tokens_decoder)
    assert ours.added_tokens_encoder == theirs.added_tokens_encoder
    assert ours.encoder == theirs.encoder
    assert ours.decoder == theirs.decoder
    for name in ("special_tokens_map", "all_special_tokens", "all_special_ids", "additional_special_tokens",
                 "additional_special_tokens_ids", "word_delimiter_token", "word_delimiter_token_id",
                 "pad_token", "pad_token_id", "unk_token_id", "bos_token", "eos_token_id", "mask_token_id",
                 "model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces"):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize("seed", range(TOKENIZERS))
def test_tokenize(seed, tmp_path):
    case = Case(1000 + seed, tmp_path)
    theirs, ours = case.make()
    for _ in range(TEXTS * 3):
        text = case.text()
        if same_split_as_longest_match(theirs, text):
            assert ours.tokenize(text) == theirs.tokenize(text), (text, case.arguments)
            assert ours.tokenize(text, split_special_tokens=True) == theirs.tokenize(text, split_special_tokens=True)
            tokens = theirs.tokenize(text)
            assert ours.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)


def call_options(case, *, batched):
    choices = {
        "padding": (True, "longest", "max_length", "do_not_pad", False),
        "truncation": (True, "longest_first", "only_first", "only_second", "do_not_truncate", False, None),
        "max_length": (1, 3, 6, 8, 15, 0),
        "stride": (1, 2, 5),
        "pad_to_multiple_of": (1, 2, 4, 5),
        "padding_side": ("left", "right", None),
        "return_tensors": ("np", None),
        "return_token_type_ids": (True, False),
        "return_attention_mask": (True, False),
        "return_special_tokens_mask": (True,),
        "return_length": (True,),
        "return_overflowing_tokens": (True,),
        "add_special_tokens": (True, False),
        "is_split_into_words": (False,),
    }
    options = {name: case.pick(values) for name, values in choices.items() if case.chance(0.35)}
    if batched and case.chance(0.7):
        options["padding"] = True
    return options


@pytest.mark.parametrize("seed", range(TOKENIZERS * 3))
def test_call(seed, tmp_path):
    case = Case(2000 + seed, tmp_path)
    theirs, ours = case.make()
    compared = 0
    for _ in range(TEXTS * 2):
        kind = case.pick(("text", "batch", "pair", "pairs", "words", "lists", "target"))
        options = call_options(case, batched=kind in {"batch", "pairs", "lists"})
        if theirs.cls_token is not None:
            options.pop("return_token_type_ids", None)  # theirs are one longer than the ids then, so useless
        texts = [case.text() for _ in range(6)]
        if not all(same_split_as_longest_match(theirs, part) for text in texts for part in (text, f" {text}")):
            continue
        count = int(case.random.integers(1, 4))
        arguments = {
            "text": {"text": texts[0]},
            "batch": {"text": texts[:count]},
            "pair": {"text": texts[0], "text_pair": texts[1]},
            "pairs": {"text": texts[:count], "text_pair": texts[3 : 3 + count]},
            "words": {"text": texts[:count], "is_split_into_words": True},
            "lists": {"text": [texts[:2], texts[2 : 2 + count]], "is_split_into_words": True},
            "target": {"text": texts[0], "text_target": texts[1]},
        }[kind]
        options.update(arguments)
        expected, found = outcome(lambda: theirs(**options)), outcome(lambda: ours(**options))  # noqa: B023
        assert_same(expected, found, (options, case.arguments))
        compared += not isinstance(expected, Exception)
        if kind == "text":
            assert_same(outcome(lambda: theirs.encode(**options)), outcome(lambda: ours.encode(**options)), options)  # noqa: B023
    assert compared > 0


@pytest.mark.parametrize("seed", range(TOKENIZERS))
def test_pad(seed, tmp_path):
    case = Case(4000 + seed, tmp_path)
    theirs, ours = case.make()
    for _ in range(TEXTS):
        rows = [case.ids() for _ in range(int(case.random.integers(1, 4)))]
        examples = [{"input_ids": row} for row in rows]
        if case.chance(0.3):
            examples = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in examples]
        if case.chance(0.3):
            examples = [{**row, "special_tokens_mask": [0] * len(row["input_ids"])} for row in examples]
        names = (
            "padding",
            "max_length",
            "pad_to_multiple_of",
            "padding_side",
            "return_attention_mask",
            "return_tensors",
        )
        options = {name: value for name, value in call_options(case, batched=True).items() if name in names}
        batch = case.pick((examples, {name: [row[name] for row in examples] for name in examples[0]}, examples[0]))
        if len(rows[0]) and case.chance(0.2):
            batch = {"input_ids": np.array([rows[0]] * 2)}
        found = outcome(lambda: ours.pad(batch, **options))  # noqa: B023
        expected = outcome(lambda: theirs.pad(batch, **options))  # noqa: B023  (it changes the batch: last)
        assert_same(expected, found, (batch, options, case.arguments))


@pytest.mark.parametrize("seed", range(TOKENIZERS))
def test_decode(seed, tmp_path):
    case = Case(6000 + seed, tmp_path)
    theirs, ours = case.make()
    names = ("skip_special_tokens", "clean_up_tokenization_spaces", "group_tokens", "spaces_between_special_tokens",
             "output_char_offsets", "output_word_offsets")  # fmt: skip
    for _ in range(TEXTS * 4):
        rows = [case.ids() for _ in range(3)]
        options = {name: case.chance(0.5) for name in names if case.chance(0.6)}
        assert ours.convert_ids_to_tokens(rows[0]) == theirs.convert_ids_to_tokens(rows[0])
        skipped = [t.convert_ids_to_tokens(rows[0], skip_special_tokens=True) for t in (theirs, ours)]
        assert skipped[0] == skipped[1]
        what = (rows, options, case.arguments)
        for row in rows:
            expected = outcome(lambda: theirs.decode(row, **options))  # noqa: B023
            assert_same(expected, outcome(lambda: ours.decode(np.array(row, dtype=int), **options)), what)  # noqa: B023
        expected = outcome(lambda: theirs.batch_decode(rows, **options))  # noqa: B023
        assert_same(expected, outcome(lambda: ours.batch_decode(rows, **options)), what)  # noqa: B023


@pytest.mark.parametrize("seed", range(TOKENIZERS))
def test_special_tokens_mask(seed, tmp_path):
    case = Case(8000 + seed, tmp_path)
    theirs, ours = case.make()
    for _ in range(TEXTS):
        row = case.ids()
        assert ours.get_special_tokens_mask(row) == theirs.get_special_tokens_mask(row)
        masks = [t.get_special_tokens_mask(row, already_has_special_tokens=True) for t in (theirs, ours)]
        assert masks[0] == masks[1]


def test_most_texts_are_compared(tmp_path):
    texts = same = 0
    for seed in range(100):
        case = Case(seed, tmp_path)
        theirs, _ = case.make()
        for _ in range(20):
            texts += 1
            same += same_split_as_longest_match(theirs, case.text())
    assert same > 0.98 * texts


def test_a_character_without_id_is_refused(tmp_path):
    case = Case(0, tmp_path)
    _, ours = case.make()
    del ours.encoder[ours.unk_token]
    with pytest.raises(InputError, match="not in the vocabulary"):
        ours("\u2603")
