"""The framework-free core: configuration, audio, feature extraction, tokenization, decoding and checkpoint files."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wav2vec2_core.auto import AutoConfig, AutoFeatureExtractor, AutoProcessor, AutoTokenizer
    from wav2vec2_core.config import Wav2Vec2Config
    from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
    from wav2vec2_core.processing import Wav2Vec2Processor
    from wav2vec2_core.processing_with_lm import Wav2Vec2ProcessorWithLM
    from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer, Wav2Vec2PhonemeCTCTokenizer

__all__ = [
    "AutoConfig",
    "AutoFeatureExtractor",
    "AutoProcessor",
    "AutoTokenizer",
    "Wav2Vec2CTCTokenizer",
    "Wav2Vec2Config",
    "Wav2Vec2FeatureExtractor",
    "Wav2Vec2PhonemeCTCTokenizer",
    "Wav2Vec2Processor",
    "Wav2Vec2ProcessorWithLM",
]
_MODULES = {
    "AutoConfig": "auto",
    "AutoFeatureExtractor": "auto",
    "AutoProcessor": "auto",
    "AutoTokenizer": "auto",
    "Wav2Vec2CTCTokenizer": "tokenization",
    "Wav2Vec2Config": "config",
    "Wav2Vec2FeatureExtractor": "feature_extraction",
    "Wav2Vec2PhonemeCTCTokenizer": "tokenization",
    "Wav2Vec2Processor": "processing",
    "Wav2Vec2ProcessorWithLM": "processing_with_lm",
}


def __getattr__(name: str) -> Any:
    """Import a class when it is asked for, so that a part of the core costs what that part needs."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r:.100}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
