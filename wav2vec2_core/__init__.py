"""The framework-free core: configuration, audio, feature extraction, tokenization, decoding and checkpoint files."""

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.processing_with_lm import Wav2Vec2ProcessorWithLM
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

__all__ = [
    "Wav2Vec2CTCTokenizer",
    "Wav2Vec2Config",
    "Wav2Vec2FeatureExtractor",
    "Wav2Vec2Processor",
    "Wav2Vec2ProcessorWithLM",
]
