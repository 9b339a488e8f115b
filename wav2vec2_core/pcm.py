"""The former place of ``wav2vec2_core.audio.raw``, kept for code that imports from here."""

from wav2vec2_core.audio.raw import PCM_TYPES, PcmReader

__all__ = ["PCM_TYPES", "PcmReader"]
