"""Decoding: text and timed words from the logits of a CTC model."""

from wav2vec2_core.decoding.alphabet import Alphabet
from wav2vec2_core.decoding.beam_decoder import BeamSearchDecoder, build_ctcdecoder
from wav2vec2_core.decoding.decoder import Decoder, DecodingStream
from wav2vec2_core.decoding.greedy import GreedyDecoder, greedy_decode
from wav2vec2_core.decoding.search.beam_search import LanguageModelState
from wav2vec2_core.decoding.search.search_options import SearchOptions
from wav2vec2_core.decoding.search.spoken import Hypothesis
from wav2vec2_core.decoding.timeline import Character, Timeline, Word

__all__ = [
    "Alphabet",
    "BeamSearchDecoder",
    "Character",
    "Decoder",
    "DecodingStream",
    "GreedyDecoder",
    "Hypothesis",
    "LanguageModelState",
    "SearchOptions",
    "Timeline",
    "Word",
    "build_ctcdecoder",
    "greedy_decode",
]
