import numpy as np
import pytest
from ngram_models import arpa_text

from wav2vec2_core.decoding.alphabet import Alphabet
from wav2vec2_core.decoding.beam_decoder import BeamSearchDecoder
from wav2vec2_core.errors import InputError
from wav2vec2_core.language_model.ngram import NgramModel
from wav2vec2_core.tuning import ALPHA_RANGE, BETA_RANGE, tune

pytest.importorskip("jiwer", reason="jiwer, of the extra train, is not installed here")


def decoder_and_logits(tmp_path):
    """Frames that say "ab" or "ba" with a slight preference for the wrong one, and a model that knows what follows."""
    ngrams = {
        ("<unk>",): (-3, None), ("<s>",): (-99, -0.1), ("</s>",): (-1, None), ("ab",): (-0.5, -0.1),
        ("ba",): (-0.6, -0.1), ("<s>", "ab"): (-0.1, None), ("ab", "ba"): (-0.1, None), ("ba", "ab"): (-0.1, None),
        ("ba", "</s>"): (-0.3, None),
    }  # fmt: skip
    path = tmp_path / "m.arpa"
    path.write_text(arpa_text(ngrams, 2))
    alphabet = Alphabet(("", " ", "a", "b"))
    said, logits = "ab ba ab ba", []
    random_numbers = np.random.default_rng(0)
    for _ in range(3):
        frames = []
        for letter in said:
            place = alphabet.labels.index(letter)
            row = np.full(4, -6.0)
            row[place] = 0
            if letter in "ab":
                row[5 - place] = 0.4
            frames += [row, [0, -6, -6, -6]]
        logits.append(np.array(frames) + random_numbers.normal(0, 0.05, (len(frames), 4)))
    return BeamSearchDecoder(alphabet, NgramModel.open(path)), logits, [said] * 3


def test_finds_weights_that_help(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    decoder, logits, references = decoder_and_logits(tmp_path)
    decoder.reset_params(alpha=0.0, beta=0.0)
    seen = []
    trials = tune(decoder, logits, references, trials=24, threads=2, progress=seen.append)
    assert len(trials) == len(seen) == 24
    assert (seen[0].alpha, seen[0].beta) == (0.0, 0.0)
    assert seen[0].wer > 0.3
    assert trials[0].errors == 0 < seen[0].errors
    assert [trial.errors for trial in trials] == sorted(trial.errors for trial in seen)
    for trial in seen:
        assert ALPHA_RANGE[0] <= trial.alpha <= ALPHA_RANGE[1]
        assert BETA_RANGE[0] <= trial.beta <= BETA_RANGE[1]
        assert trial.wer == trial.errors / 12
    last = seen[-3:]
    assert max(abs(trial.alpha - trials[0].alpha) for trial in last) < 0.5
    assert trials == tune(decoder, logits, references, trials=24)
    best = decoder.decode_beams(logits[0], alpha=trials[0].alpha, beta=trials[0].beta)[0]
    assert best.text == references[0]


def test_the_weights_in_use_win_a_draw(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    decoder, logits, references = decoder_and_logits(tmp_path)
    decoder.reset_params(alpha=2.0, beta=0.5)
    trials = tune(decoder, logits, references, trials=8)
    assert trials[0].errors == 0
    assert (trials[0].alpha, trials[0].beta) == (2.0, 0.5)


def test_nothing_to_tune_on(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    decoder, logits, references = decoder_and_logits(tmp_path)
    for some, words, trials, message in [
        (logits, references[:2], 5, "3 recordings and 2 references"),
        ([], [], 5, "at least one"),
        (logits, ["", " ", ""], 5, "no words"),
        (logits, references, 0, "trials is 0"),
    ]:
        with pytest.raises(InputError, match=message):
            tune(decoder, some, words, trials=trials)
