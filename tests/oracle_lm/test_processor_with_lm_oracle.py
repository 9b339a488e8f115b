"""Wav2Vec2ProcessorWithLM beside transformers 4.57.6: outputs, and folders written by either."""

import json
import logging
import warnings

import numpy as np
import pytest
from beam_cases import BeamCase

from wav2vec2_core import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ProcessorWithLM
from wav2vec2_core.decoding import build_ctcdecoder

transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
pyctcdecode = pytest.importorskip("pyctcdecode", reason="the oracle is not installed")
transformers.logging.set_verbosity(transformers.logging.CRITICAL)
logging.getLogger("pyctcdecode").setLevel(logging.CRITICAL)

SCORE = 1e-4


def pair_of_processors(case, folder):
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(case.labels)}))
    vocab = str(folder / "vocab.json")
    # Of an ARPA file pyctcdecode reads the words that have a back-off, and no others: give it all of them.
    arguments = (case.labels, str(case.arpa), case.unigrams or case.words)
    fusion = case.fusion()
    theirs = transformers.Wav2Vec2ProcessorWithLM(
        feature_extractor=transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True),
        tokenizer=transformers.Wav2Vec2CTCTokenizer(vocab),
        decoder=pyctcdecode.build_ctcdecoder(*arguments, **fusion),
    )
    ours = Wav2Vec2ProcessorWithLM(
        feature_extractor=Wav2Vec2FeatureExtractor(return_attention_mask=True),
        tokenizer=Wav2Vec2CTCTokenizer(vocab),
        decoder=build_ctcdecoder(*arguments, **fusion),
    )
    return theirs, ours


def options(case):
    found = case.options()
    del found["prune_history"]
    found = {name: value for name, value in found.items() if case.chance(0.5) or name.startswith("hotword")}
    if case.chance(0.5):
        found["output_word_offsets"] = case.chance(0.8)
    if case.chance(0.5):
        found["n_best"] = case.pick([1, 2, 3, 50])
    if case.chance(0.3):
        # transformers keeps these for later calls, which makes all four part of every case or none.
        found |= {**case.fusion()}
    return found


def assert_same(theirs, ours):
    assert list(theirs) == list(ours)
    assert ours.text == theirs.text
    for name in ("logit_score", "lm_score"):
        left, right = (flat(output[name]) for output in (theirs, ours))
        np.testing.assert_allclose(right, left, rtol=0, atol=SCORE)
    if "word_offsets" in theirs:
        assert ours.word_offsets == theirs.word_offsets


def flat(scores):
    if not isinstance(scores, list):
        return [scores]
    return [score for entry in scores for score in (entry if isinstance(entry, list) else [entry])]


def call_both(theirs, ours, method, logits, given):
    extra = {"num_processes": 1} if method == "batch_decode" else {}
    kept = theirs.decoder.model_container[theirs.decoder._model_key].serializable_attrs
    expected = getattr(theirs, method)(logits, **extra, **given)
    kept["lm_score_boundary"] = kept.pop("score_boundary")
    theirs.decoder.reset_params(**kept)
    assert_same(expected, getattr(ours, method)(logits, **given))


@pytest.mark.parametrize("seed", range(25))
def test_decode(seed, tmp_path):
    case = BeamCase(3000 + seed, tmp_path)
    theirs, ours = pair_of_processors(case, tmp_path)
    for _ in range(8):
        call_both(theirs, ours, "decode", case.logits(), options(case))
    empty = np.zeros((0, len(case.labels)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no rows
        assert_same(theirs.decode(empty, output_word_offsets=True), ours.decode(empty, output_word_offsets=True))


@pytest.mark.parametrize("seed", range(4))
def test_batch_decode(seed, tmp_path):
    """Padding, lists and arrays; transformers starts processes for each call."""
    case = BeamCase(4000 + seed, tmp_path)
    theirs, ours = pair_of_processors(case, tmp_path)
    logits = [case.logits() for _ in range(4)]
    call_both(theirs, ours, "batch_decode", logits, options(case))
    padded = np.full((4, max(map(len, logits)), len(case.labels)), -100.0)
    for row, one in zip(padded, logits, strict=True):
        row[: len(one)] = one
    call_both(theirs, ours, "batch_decode", padded, options(case))
    assert dict(theirs.batch_decode(padded[:0], num_processes=1)) == dict(ours.batch_decode(padded[:0]))


@pytest.mark.parametrize("seed", range(10))
def test_folders_go_both_ways(seed, tmp_path):
    case = BeamCase(5000 + seed, tmp_path)
    theirs, ours = pair_of_processors(case, tmp_path)
    theirs.save_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    for folder in ("theirs", "ours"):
        (tmp_path / folder / "language_model" / ".hidden").write_text("not a model")
        given = case.pick([{}, {"alpha": 0.7, "beta": 0.1}, {"score_boundary": False, "unk_score_offset": -3.0}])
        read = transformers.Wav2Vec2ProcessorWithLM.from_pretrained(tmp_path / folder, **given)
        found = Wav2Vec2ProcessorWithLM.from_pretrained(tmp_path / folder, **given)
        for _ in range(4):
            call_both(read, found, "decode", case.logits(), options(case))
    for name in ("attrs.json", case.arpa.name):
        left, right = (tmp_path / folder / "language_model" / name for folder in ("theirs", "ours"))
        assert json.loads(left.read_text()) == json.loads(right.read_text()) if name == "attrs.json" else (
            left.read_bytes() == right.read_bytes()
        )
    left, right = (json.loads((tmp_path / folder / "alphabet.json").read_text()) for folder in ("theirs", "ours"))
    assert left == right
    assert transformers.AutoProcessor.from_pretrained(tmp_path / "ours").decoder is not None
