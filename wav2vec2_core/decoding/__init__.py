"""From logits to text on one timeline."""

from wav2vec2_core.decoding.decoder import Decoder, DecodingStream
from wav2vec2_core.decoding.greedy import GreedyDecoder, greedy_decode
from wav2vec2_core.decoding.timeline import Character, Timeline, Word

__all__ = ["Character", "Decoder", "DecodingStream", "GreedyDecoder", "Timeline", "Word", "greedy_decode"]
