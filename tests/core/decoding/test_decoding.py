"""The timeline and greedy decoding."""

import itertools
import json

import numpy as np
import pytest

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.decoding import Timeline, greedy_decode
from wav2vec2_core.errors import InputError
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

VOCABULARY = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6, "ü": 7}


@pytest.fixture
def tokenizer(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps(VOCABULARY), encoding="utf-8")
    return Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))


def logits_of(text, tokenizer, confidence=0.9):
    """One frame per symbol: '.' is the blank, 'S' the special token <s>."""
    symbols = {".": 0, "S": 1, "U": 3}
    ids = [symbols[letter] if letter in symbols else VOCABULARY[letter] for letter in text]
    probabilities = np.full((len(ids), len(VOCABULARY)), (1 - confidence) / (len(VOCABULARY) - 1))
    probabilities[np.arange(len(ids)), ids] = confidence
    return np.log(probabilities).astype(np.float32)


def test_timeline_of_the_released_models():
    timeline = Timeline.of(Wav2Vec2Config())
    assert (timeline.hop, timeline.receptive_field) == (320, 400)
    assert timeline.seconds(50) == 1.0
    assert timeline.frame_at(1.0) == 50
    assert timeline.frame_at(0.999) == 49


def test_timeline_with_conv_adapter():
    timeline = Timeline.of(Wav2Vec2Config(add_adapter=True, num_adapter_layers=2))
    assert timeline.hop == 320 * 4
    assert timeline.receptive_field == 400 + 2 * 320 + 2 * 640


def test_words_and_characters(tokenizer):
    text, words = greedy_decode(logits_of("..AA.AB||.üü.", tokenizer), tokenizer)
    assert text == "AAB ü"
    assert [(word.text, word.start, word.end) for word in words] == [("AAB", 2, 7), ("ü", 10, 12)]
    assert [(c.text, c.start, c.end) for c in words[0].characters] == [("A", 2, 4), ("A", 5, 6), ("B", 6, 7)]
    assert words[0].confidence == pytest.approx(0.9, rel=1e-5)


def test_confidence_is_the_mean_of_frames_then_of_characters(tokenizer):
    pieces = [("A", 0.9), ("A", 0.5), ("B", 0.4)]
    logits = np.concatenate([logits_of(symbol, tokenizer, confidence) for symbol, confidence in pieces])
    _, [word] = greedy_decode(logits, tokenizer)
    assert [c.confidence for c in word.characters] == [pytest.approx(0.7, rel=1e-5), pytest.approx(0.4, rel=1e-5)]
    assert word.confidence == pytest.approx(0.55, rel=1e-5)


def test_special_tokens_vanish_and_frames_keep_their_numbers(tokenizer):
    text, words = greedy_decode(logits_of("SASA.B|SB", tokenizer), tokenizer)
    assert text == "AB B"  # the As meet when the special token between them goes
    assert [(word.text, word.start, word.end) for word in words] == [("AB", 1, 6), ("B", 8, 9)]


@pytest.mark.parametrize("pattern", ["", ".", "....", "|", "||.|", "SS"])
def test_nothing_said(pattern, tokenizer):
    text, words = greedy_decode(logits_of(pattern, tokenizer).reshape(len(pattern), 8), tokenizer)
    assert (text, words) == ("", [])


def test_random_logits_give_the_tokenizers_text(tokenizer):
    generator = np.random.default_rng(0)
    for _ in range(300):
        logits = generator.standard_normal((generator.integers(1, 30), len(VOCABULARY))).astype(np.float32)
        text, words = greedy_decode(logits, tokenizer)
        special = set(tokenizer.all_special_ids) - {tokenizer.pad_token_id}
        assert text == tokenizer.decode([index for index in logits.argmax(-1) if index not in special])
        assert " ".join(word.text for word in words).split() == text.split()
        spans = [(c.start, c.end) for word in words for c in word.characters]
        assert all(start < end for start, end in spans)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_a_batch_is_refused(tokenizer):
    with pytest.raises(InputError, match=r"shape \(1, 4, 8\), \(frames, vocab\) is needed"):
        greedy_decode(np.zeros((1, 4, 8)), tokenizer)
