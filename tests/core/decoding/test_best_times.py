"""The words of a beam search stand where greedy decoding has them."""

import numpy as np
import pytest
from numpy_transcriber import TOKENS, save_processor

from wav2vec2_core import Wav2Vec2Processor
from wav2vec2_core.compilation import COMPILED
from wav2vec2_core.decoding import Alphabet, greedy_decode
from wav2vec2_core.decoding.beam_decoder import BeamSearchDecoder
from wav2vec2_core.decoding.best_times import BestTimesDecoder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Wav2Vec2Processor.from_pretrained(save_processor(tmp_path_factory.mktemp("times") / "m")).tokenizer


@pytest.fixture(scope="module")
def decoder(tokenizer):
    return BestTimesDecoder(BeamSearchDecoder(Alphabet.of(tokenizer)).changed(beam_width=10), tokenizer)


def speech(seed, tokenizer, words=6):
    """Logits of letters that last several frames and compete with blanks and each other at their borders."""
    generator = np.random.default_rng(seed)
    blank, delimiter = tokenizer.pad_token_id, tokenizer.word_delimiter_token_id
    letters = [index for token, index in tokenizer.get_vocab().items() if len(token) == 1 and index != delimiter]
    spoken = []
    for _ in range(words):
        for letter in generator.choice(letters, generator.integers(1, 5)):
            spoken += [letter] * generator.integers(1, 4) + [blank] * generator.integers(1, 3)
        spoken += [delimiter] * generator.integers(1, 3) + [blank] * generator.integers(0, 20)
    logits = generator.normal(size=(len(spoken), len(TOKENS)))
    logits[np.arange(len(spoken)), spoken] += generator.uniform(3, 8, len(spoken))
    return logits


def test_words_that_greedy_decoding_heard_too_have_its_times(decoder, tokenizer):
    same = moved = 0
    for seed in range(20):
        logits = speech(seed, tokenizer)
        text, words = decoder.decode(logits)
        greedy_text, expected = greedy_decode(logits, tokenizer)
        if text != greedy_text:
            continue
        same += 1
        assert words == expected
        own = decoder.decoder.decode(logits)[1]
        moved += [(word.start, word.end) for word in own] != [(word.start, word.end) for word in expected]
    assert same > 10
    assert moved  # the search's own times differ, or there would be nothing to do


def test_pieces_give_the_words_of_the_whole(decoder, tokenizer):
    for seed in range(20 if COMPILED else 4):
        logits = speech(seed, tokenizer, words=12)
        text, words = decoder.decode(logits)
        stream, streamed = decoder.stream(), []
        for piece in np.array_split(logits, 7):
            streamed += stream.feed(piece)
        streamed += stream.finish()
        assert " ".join(word.text for word in streamed) == text
        assert [(word.start, word.end) for word in streamed] == [(word.start, word.end) for word in words]


def test_silence_is_not_kept(decoder, tokenizer):
    stream = decoder.stream()
    silence = np.full((500, len(TOKENS)), -10.0)
    silence[:, tokenizer.pad_token_id] = 0
    for _ in range(10):
        assert stream.feed(silence) == []
    assert sum(map(len, stream._held)) <= 500
    assert stream.finish() == []


def test_words_that_the_vocabulary_cannot_spell_keep_their_times(tokenizer):
    from wav2vec2_core.decoding import Character, Word

    word = Word.of([Character("東京", 3, 5, 0.5)])

    class Odd:
        def decode(self, logits):
            return word.text, [word]

    logits = np.zeros((9, len(TOKENS)))
    assert BestTimesDecoder(Odd(), tokenizer).decode(logits) == (word.text, [word])
