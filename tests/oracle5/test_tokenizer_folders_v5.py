"""Tokenizer and processor folders exchanged with transformers 5, on random vocabularies and added tokens."""

import json

import numpy as np
import pytest
import transformers

from wav2vec2_core.processing import Wav2Vec2Processor

pytestmark = pytest.mark.oracle
transformers.logging.set_verbosity(transformers.logging.CRITICAL)

LETTERS = list("abcdeßüжक\u0301日😀'")


def pick(random, choices):
    return choices[int(random.integers(len(choices)))]


def make_theirs(random, folder):
    """A processor of transformers 5 with a shuffled vocabulary, long tokens, added and special tokens."""
    letters = list(random.permutation(LETTERS)[:8])
    tokens = [*letters, "<pad>", "<s>", "</s>", "<unk>", "|"]
    tokens += ["".join(pick(random, letters) for _ in range(2)) for _ in range(int(random.integers(0, 3)))]
    tokens = list(dict.fromkeys(map(str, tokens)))
    ids = random.permutation(len(tokens))
    vocabulary = {token: int(index) for token, index in zip(tokens, ids, strict=True)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    options = {"additional_special_tokens": ["<x>"]} if random.random() < 0.5 else {}
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), **options)
    if random.random() < 0.5:
        flags = {name: bool(random.random() < 0.5) for name in ("lstrip", "rstrip", "single_word")}
        tokenizer.add_tokens([transformers.AddedToken("<y>", **flags), "<z>"])
    settings = {"return_attention_mask": bool(random.random() < 0.5), "do_normalize": bool(random.random() < 0.5)}
    extractor = transformers.Wav2Vec2FeatureExtractor(**settings)
    return transformers.Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer), tokens


def assert_same(theirs, ours, tokens, random):
    assert ours.tokenizer.get_vocab() == theirs.tokenizer.get_vocab()
    assert ours.tokenizer.pad_token_id == theirs.tokenizer.pad_token_id
    names = ("sampling_rate", "do_normalize", "return_attention_mask", "padding_value", "padding_side")
    for name in names:
        assert getattr(ours.feature_extractor, name) == getattr(theirs.feature_extractor, name), name
    pieces = [*tokens, " ", " ", "<x>", "<y>", "<z>", "@"]
    for _ in range(20):
        text = "".join(pick(random, pieces) for _ in range(int(random.integers(1, 12))))
        assert ours.tokenizer(text).input_ids == theirs.tokenizer(text)["input_ids"], text
        ids = random.integers(0, len(tokens) + 2, size=15).tolist()
        assert ours.decode(ids) == theirs.decode(ids)
        words = theirs.tokenizer.decode(ids, output_word_offsets=True)["word_offsets"]
        assert ours.decode(ids, output_word_offsets=True).word_offsets == words
    audio = [random.standard_normal(30).astype(np.float32), random.standard_normal(20).astype(np.float32)]
    left = theirs(audio, sampling_rate=16000, padding=True, return_tensors="np")
    right = ours(audio, sampling_rate=16000, padding=True, return_tensors="np")
    assert set(left) == set(right)
    for name in left:
        np.testing.assert_allclose(right[name], left[name], atol=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_folders_go_both_ways(seed, tmp_path):
    random = np.random.default_rng(seed)
    theirs, tokens = make_theirs(random, tmp_path)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = Wav2Vec2Processor.from_pretrained(tmp_path / "theirs")
    assert_same(theirs, ours, tokens, random)
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.Wav2Vec2Processor.from_pretrained(tmp_path / "ours")
    assert_same(again, ours, tokens, random)
    assert again.tokenizer.get_vocab() == theirs.tokenizer.get_vocab()
