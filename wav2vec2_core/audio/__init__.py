"""Recordings: opening, decoding to blocks of mono float32, resampling, finding by name, prefetching, raw streams."""

from wav2vec2_core.audio.reading import Damage
from wav2vec2_core.audio.recording import Recording, audio_duration, read_audio
from wav2vec2_core.audio.resampling import resample, resample_blocks, to_mono

__all__ = ["Damage", "Recording", "audio_duration", "read_audio", "resample", "resample_blocks", "to_mono"]
