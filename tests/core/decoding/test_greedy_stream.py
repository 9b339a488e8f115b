"""Greedy decoding piece by piece is greedy decoding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_transcriber import TOKENS, save_processor

from wav2vec2_core import Wav2Vec2Processor
from wav2vec2_core.decoding import GreedyDecoder, greedy_decode


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Wav2Vec2Processor.from_pretrained(save_processor(tmp_path_factory.mktemp("greedy") / "m")).tokenizer


@settings(max_examples=80, deadline=None)
@given(
    tokens=st.lists(st.tuples(st.integers(0, len(TOKENS) - 1), st.integers(1, 4)), max_size=30),
    cuts=st.lists(st.integers(0, 80), max_size=8),
)
def test_any_pieces_give_the_words_of_the_whole(tokenizer, tokens, cuts):
    best = np.repeat([token for token, _ in tokens], [count for _, count in tokens]).astype(int)
    logits = np.random.default_rng(len(best)).normal(size=(len(best), len(TOKENS)))
    logits[np.arange(len(best)), best] += 10
    decoder = GreedyDecoder(tokenizer)
    text, words = decoder.decode(logits)
    assert words == greedy_decode(logits, tokenizer)[1]
    stream, streamed, seen = decoder.stream(), [], 0
    for piece in np.split(logits, sorted(min(cut, len(logits)) for cut in cuts)):
        streamed += stream.feed(piece)
        seen += len(piece)
        shown = [*streamed, *stream.partial()]
        assert shown == decoder.decode(logits[:seen])[1]
        assert streamed == words[: len(streamed)]
    streamed += stream.finish()
    assert streamed == words
    assert text == " ".join(word.text for word in words)
    assert stream.finish() == []


def test_silence_is_not_kept(tokenizer):
    stream = GreedyDecoder(tokenizer).stream()
    for _ in range(100):
        assert stream.feed(np.eye(len(TOKENS))[[0] * 50]) == []
    assert len(stream._tokens) == 0
