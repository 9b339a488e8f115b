"""Pieces of words beside pyctcdecode: their normalisation, and the search.

Two differences are on purpose. Labels that become one by normalisation (``<unk>`` and ``[UNK]``) are refused. And a
break that ``▁⁇▁`` forces (``▁`` too, in pyctcdecode) belongs to its beam: there it comes to whichever beam is extended
next, so that its texts are not the likeliest ones. Where nothing forces a break, or there is one beam only, texts are
equal.
"""

import itertools

import numpy as np
import pytest
from bpe_cases import CLOSING, OPEN, exact_best, noise, peaks
from pyctcdecode import build_ctcdecoder as their_decoder
from pyctcdecode.alphabet import Alphabet as TheirAlphabet

from wav2vec2_core.decoding import Alphabet, build_ctcdecoder
from wav2vec2_core.errors import InputError

PIECES = (
    "<unk>",
    "[UNK]",
    "<pad>",
    "[PAD]",
    "",
    "▁",
    "▁a",
    "a",
    "##a",
    "##",
    "<s>",
    "[CLS]",
    "▁⁇▁",
    "⁇",
    "|",
    "_",
    " ",
)


def their_labels(labels):
    try:
        found = TheirAlphabet.build_alphabet(list(labels))
    except ValueError:
        return None
    return (found.labels, found.is_bpe) if len({*found.labels}) == len(found.labels) else None


def our_labels(labels):
    try:
        found = Alphabet.build(labels)
    except InputError:
        return None
    return list(found.labels), found.is_bpe


@pytest.mark.parametrize("count", [1, 2, 3])
def test_labels_are_normalised_alike(count):
    for labels in itertools.permutations(PIECES, count):
        assert our_labels(labels) == their_labels(labels), labels


@pytest.mark.parametrize("name", OPEN)
def test_equal_texts_where_nothing_forces_a_break(name):
    theirs, ours = their_decoder(OPEN[name]), build_ctcdecoder(OPEN[name])
    for seed in range(30):
        logits = noise(seed, 12, len(ours.alphabet.labels))
        assert ours.decode(logits)[0] == theirs.decode(logits), seed


@pytest.mark.parametrize("name", CLOSING)
def test_equal_texts_of_one_beam(name):
    theirs, ours = their_decoder(CLOSING[name]), build_ctcdecoder(CLOSING[name])
    for seed in range(30):
        logits = peaks(seed, len(ours.alphabet.labels))
        assert ours.decode(logits)[0] == theirs.decode(logits), seed


@pytest.mark.parametrize("name", ["both notations", "unknown"])
def test_a_forced_break_belongs_to_its_beam(name):
    theirs, ours = their_decoder(CLOSING[name]), build_ctcdecoder(CLOSING[name])
    labels = ours.alphabet.labels
    whole = {"beam_width": 4000, "beam_prune_logp": -1e9, "token_min_logp": -1e9}
    wrong = np.zeros(2, int)
    for seed in range(12):
        logits = noise(seed, 4, len(labels))
        best, _ = exact_best(logits, labels)
        wrong += ours.decode_beams(logits, **whole)[0].text != best, theirs.decode_beams(logits, **whole)[0][0] != best
    assert wrong[0] == 0
    assert wrong[1] > 0  # the day this fails, pyctcdecode keeps its breaks apart and the difference is gone
