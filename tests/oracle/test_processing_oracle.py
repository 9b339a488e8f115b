"""The processor against transformers 4.57.6, and tokenizer and processor folders written by either."""

import json

import numpy as np
import pytest
import transformers
from tokenizer_cases import Case, flags, outcome, plain, same_split_as_longest_match
from waveform_cases import TOLERANCE, waveform

from wav2vec2_core.errors import Wav2Vec2Error
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

pytestmark = pytest.mark.oracle
transformers.logging.set_verbosity(transformers.logging.CRITICAL)

CASES = 40  # seeds per test
CALLS = 12  # calls per seed


def pair_of_processors(case):
    theirs, ours = case.make()
    settings = {"return_attention_mask": case.chance(0.5), "do_normalize": case.chance(0.7)}
    return (
        transformers.Wav2Vec2Processor(transformers.Wav2Vec2FeatureExtractor(**settings), theirs),
        Wav2Vec2Processor(Wav2Vec2FeatureExtractor(**settings), ours),
    )


def comparable_text(case, tokenizer):
    text = case.text()
    return text if same_split_as_longest_match(tokenizer, text) else ""


def assert_same_batch(theirs, ours, what):
    if isinstance(theirs, Exception):
        assert not isinstance(ours, Exception) or isinstance(ours, Wav2Vec2Error), (what, ours)
        return
    assert not isinstance(ours, Exception), f"{what}: transformers gives {theirs!r}, we raise {ours!r}"
    assert set(ours) == set(theirs), what
    for name in theirs:
        if name == "input_values":
            for left, right in zip(theirs[name], ours[name], strict=True):
                np.testing.assert_allclose(right, left, rtol=0, atol=TOLERANCE * 10)
        elif name == "attention_mask":
            assert [list(row) if np.ndim(row) else row for row in ours[name]] == [
                list(row) if np.ndim(row) else row for row in theirs[name]
            ], what
        else:
            assert plain(ours[name]) == plain(theirs[name]), (name, what)


def options(case):
    choices = {
        "padding": (True, "longest", "max_length", False),
        "max_length": (3, 20, 40),
        "truncation": (True, False),
        "pad_to_multiple_of": (2, 4),
        "return_attention_mask": (True, False),
        "return_tensors": ("np", None),
        "return_length": (True,),
        "padding_side": ("left", "right"),
        "text_kwargs": ({"return_special_tokens_mask": True},),
        "audio_kwargs": ({"padding": True}, {"return_attention_mask": True}),
        "common_kwargs": ({"return_tensors": "np"},),
    }
    found = {name: case.pick(values) for name, values in choices.items() if case.chance(0.35)}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in found.items()}


@pytest.mark.parametrize("seed", range(CASES))
def test_call(seed, tmp_path):
    case = Case(20_000 + seed, tmp_path)
    theirs, ours = pair_of_processors(case)
    assert ours.model_input_names == theirs.model_input_names
    for _ in range(CALLS):
        count = int(case.random.integers(1, 4))
        audio = [waveform(case.random).astype(np.float32) for _ in range(count)]
        texts = [comparable_text(case, theirs.tokenizer) for _ in range(count)]
        inputs = case.pick(({"audio": audio}, {"text": texts}, {"audio": audio, "text": texts}))
        if count == 1 and case.chance(0.5):
            inputs = {name: value[0] for name, value in inputs.items()}
        call = options(case)
        if "audio" in inputs:
            call["sampling_rate"] = 16000
        found = outcome(lambda: ours(**inputs, **call))  # noqa: B023
        expected = outcome(lambda: theirs(**inputs, **call))  # noqa: B023
        assert_same_batch(expected, found, (inputs, call))


@pytest.mark.parametrize("seed", range(CASES))
def test_pad_and_decode(seed, tmp_path):
    case = Case(21_000 + seed, tmp_path)
    theirs, ours = pair_of_processors(case)
    for _ in range(CALLS):
        count = int(case.random.integers(1, 4))
        features = [{"input_values": waveform(case.random).astype(np.float32)} for _ in range(count)]
        labels = [{"input_ids": case.ids() or [0]} for _ in range(count)]
        inputs = case.pick(
            ({"input_features": features}, {"labels": labels}, {"input_features": features, "labels": labels})
        )
        names = ("padding", "max_length", "pad_to_multiple_of", "return_tensors")
        call = {name: value for name, value in options(case).items() if name in names}
        found = outcome(lambda: ours.pad(**inputs, **call))  # noqa: B023
        expected = outcome(lambda: theirs.pad(**inputs, **call))  # noqa: B023
        assert_same_batch(expected, found, (inputs, call))
        rows = [case.ids() for _ in range(3)]
        assert ours.batch_decode(rows) == theirs.batch_decode(rows)
        assert ours.decode(rows[0], skip_special_tokens=True) == theirs.decode(rows[0], skip_special_tokens=True)


def assert_same_tokenizer(theirs, ours, case):
    assert ours.get_vocab() == theirs.get_vocab()
    assert flags(ours.added_tokens_decoder) == flags(theirs.added_tokens_decoder)
    special = theirs.special_tokens_map
    if "additional_special_tokens" in special:  # transformers may repeat them
        special["additional_special_tokens"] = list(dict.fromkeys(special["additional_special_tokens"]))
    assert ours.special_tokens_map == special
    for name in ("pad_token_id", "word_delimiter_token", "do_lower_case", "replace_word_delimiter_char", "target_lang",
                 "model_max_length", "clean_up_tokenization_spaces"):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name), name
    for _ in range(5):
        text, ids = comparable_text(case, theirs), case.ids()
        assert ours(text) == dict(theirs(text))
        assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("seed", range(CASES))
def test_folders_go_both_ways(seed, tmp_path):
    case = Case(22_000 + seed, tmp_path)
    theirs, ours = pair_of_processors(case)
    theirs.save_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    assert_same_tokenizer(theirs.tokenizer, ours.tokenizer, case)
    expected = transformers.Wav2Vec2Processor.from_pretrained(tmp_path / "theirs")
    for folder in ("theirs", "ours"):
        assert_same_tokenizer(expected.tokenizer, Wav2Vec2Processor.from_pretrained(tmp_path / folder).tokenizer, case)
    again = transformers.Wav2Vec2Processor.from_pretrained(tmp_path / "ours")
    assert_same_tokenizer(again.tokenizer, Wav2Vec2Processor.from_pretrained(tmp_path / "theirs").tokenizer, case)
    # The files themselves: what transformers writes, ours write too, with the same content.
    for name in ("vocab.json", "special_tokens_map.json", "added_tokens.json", "tokenizer_config.json"):
        left, right = tmp_path / "theirs" / name, tmp_path / "ours" / name
        assert left.exists() == right.exists(), name
        if left.exists() and name != "vocab.json":
            assert json.loads(left.read_text()) == json.loads(right.read_text()), name
    assert (tmp_path / "theirs" / "vocab.json").read_bytes() == (tmp_path / "ours" / "vocab.json").read_bytes()


@pytest.mark.parametrize("seed", range(CASES))
def test_older_folders(seed, tmp_path):
    """Folders from before ``added_tokens_decoder``, with special_tokens_map.json and added_tokens.json."""
    case = Case(23_000 + seed, tmp_path)
    _, ours = case.make()
    folder = tmp_path / "old"
    ours.save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("added_tokens_decoder", "extra_special_tokens"):
        del config[name]
    if case.chance(0.3):
        config["unk_token"] = {"__type": "AddedToken", "content": config["unk_token"], "lstrip": True, "rstrip": False,
                               "normalized": True, "single_word": False}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name in ("special_tokens_map.json", "added_tokens.json"):
        if case.chance(0.4):
            (folder / name).unlink(missing_ok=True)
    map_file = folder / "special_tokens_map.json"
    if map_file.exists() and "additional_special_tokens" in json.loads(map_file.read_text()):
        (folder / "added_tokens.json").unlink(missing_ok=True)  # with both, transformers mixes up bos and eos
    overrides = {"mask_token": "<other>"} if case.chance(0.3) else {}
    theirs = outcome(lambda: transformers.Wav2Vec2CTCTokenizer.from_pretrained(folder, **overrides))
    found = outcome(lambda: Wav2Vec2CTCTokenizer.from_pretrained(folder, **overrides))
    if isinstance(found, Wav2Vec2Error):  # a pad token that only the deleted file named
        assert "pad_token" in str(found)
        return
    assert_same_tokenizer(theirs, found, case)


@pytest.mark.parametrize("seed", range(CASES))
def test_languages(seed, tmp_path):
    """Vocabularies of languages that share their special and long tokens, as those of MMS do."""
    case = Case(24_000 + seed, tmp_path)
    special = {*case.arguments.get("additional_special_tokens", ()), *map(str, case.arguments.values())}
    shared = [token for token in case.tokens if len(token) > 1 or token in special]
    nested = {}
    for language in ("eng", "fra", "uig-script_arabic"):
        letters = [token for token in case.tokens if token not in shared]
        order = case.random.permutation(len(letters))
        tokens = [*shared, *(letters[i] for i in order)]
        nested[language] = {token: index for index, token in enumerate(tokens)}
    path = tmp_path / "nested.json"
    path.write_text(json.dumps(nested), encoding="utf-8")
    theirs = transformers.Wav2Vec2CTCTokenizer(str(path), target_lang="eng", **case.arguments)
    ours = Wav2Vec2CTCTokenizer(str(path), target_lang="eng", **case.arguments)
    assert_same_tokenizer(theirs, ours, case)
    for language in ("fra", "uig-script_arabic", "eng"):
        theirs.set_target_lang(language)
        ours.set_target_lang(language)
        assert_same_tokenizer(theirs, ours, case)
    ours.save_pretrained(tmp_path / "ours")
    assert_same_tokenizer(transformers.Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "ours"), ours, case)
