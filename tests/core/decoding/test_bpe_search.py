"""Beam search over pieces of words finds the text that trying every path finds."""

import pytest
from bpe_cases import CLOSING, OPEN, exact_best, noise

from wav2vec2_core.decoding import build_ctcdecoder


@pytest.mark.parametrize("name", [*CLOSING, *OPEN])
def test_the_best_text_of_all_paths(name):
    decoder = build_ctcdecoder({**CLOSING, **OPEN}[name])
    labels = decoder.alphabet.labels
    for seed in range(4):
        logits = noise(seed, 3, len(labels))
        found = decoder.decode_beams(logits, beam_width=2000, beam_prune_logp=-1e9, token_min_logp=-1e9)[0]
        text, score = exact_best(logits, labels)
        assert (found.text, found.logit_score) == (text, pytest.approx(score, abs=1e-5))
