"""Beam search beside pyctcdecode 0.5.0 and kenlm: text, word frames, order and scores of every reading."""

import logging

import numpy as np
import pytest
from beam_cases import BeamCase

from wav2vec2_core.decoding import Alphabet, BeamSearchDecoder, SearchOptions
from wav2vec2_core.language_model.ngram import NgramModel

pyctcdecode = pytest.importorskip("pyctcdecode", reason="the oracle is not installed")
kenlm = pytest.importorskip("kenlm", reason="the oracle is not installed")

logging.getLogger("pyctcdecode").setLevel(logging.CRITICAL)

SCORE = 1e-4
SEEDS, UTTERANCES = 100, 20


def pair_of_decoders(case):
    """Theirs and ours over the same alphabet and language model."""
    fusion = case.fusion()
    alphabet = Alphabet.build(case.labels)
    if case.chance(0.25):
        theirs = pyctcdecode.build_ctcdecoder(case.labels)
        ours = BeamSearchDecoder(alphabet)
    else:
        boundary = fusion.pop("lm_score_boundary")
        model = pyctcdecode.LanguageModel(kenlm.Model(str(case.arpa)), case.unigrams, score_boundary=boundary, **fusion)
        theirs = pyctcdecode.BeamSearchDecoderCTC(pyctcdecode.Alphabet.build_alphabet(case.labels), model)
        fusion["lm_score_boundary"] = boundary
        model = NgramModel.open(case.arpa)
        ours = BeamSearchDecoder(alphabet, model, case.unigrams, SearchOptions(**fusion))
    assert list(theirs._alphabet.labels) == list(alphabet.labels)
    return theirs, ours


def readings(theirs, ours, logits, options, state=(None, None)):
    """Lists of (text, word frames, logit score, score)."""
    expected = theirs.decode_beams(logits, lm_start_state=state[0], **options)
    found = ours.decode_beams(logits, None, lm_start_state=state[1], **options)
    return (
        [(beam[0], [tuple(frames) for _, frames in beam[2]], beam[3], beam[4]) for beam in expected],
        [(beam.text, [frames for _, frames in beam.word_frames], beam.logit_score, beam.lm_score) for beam in found],
        (expected[0][1], found[0].last_lm_state),
    )


def same(expected, found):
    return (
        len(expected) == len(found)
        and all(left[:2] == right[:2] for left, right in zip(expected, found, strict=True))
        and np.allclose([b[2:] for b in expected], [b[2:] for b in found], rtol=0, atol=SCORE)
    )


@pytest.mark.parametrize(
    ("seed", "bpe"), [*((seed, False) for seed in range(SEEDS)), *((seed, True) for seed in range(1000, 1020))]
)
def test_readings(seed, bpe, tmp_path):
    """Letters, and pieces of words."""
    case = BeamCase(seed, tmp_path, bpe=bpe)
    theirs, ours = pair_of_decoders(case)
    for _ in range(UTTERANCES):
        logits, options = case.logits(), case.options()
        expected, found, _ = readings(theirs, ours, logits, options)
        assert same(expected, found), (expected[:3], found[:3], options)


@pytest.mark.parametrize("seed", range(20))
def test_recordings_that_go_on(seed, tmp_path):
    """The state after one recording is where the next starts."""
    case = BeamCase(2000 + seed, tmp_path)
    theirs, ours = pair_of_decoders(case)
    state = (None, None)
    for _ in range(UTTERANCES):
        logits, options = case.logits(), case.options()
        expected, found, state = readings(theirs, ours, logits, options, state)
        assert same(expected, found), (expected[:3], found[:3], options)
        if ours.model is None:
            assert state == (None, None)
