"""Recordings: opened, decoded in blocks of mono float32, resampled; found by name, read ahead, or raw from a stream."""

from wav2vec2_core.audio.reading import Damage
from wav2vec2_core.audio.recording import Recording, audio_duration, read_audio
from wav2vec2_core.audio.resampling import resample, resample_blocks, to_mono

__all__ = ["Damage", "Recording", "audio_duration", "read_audio", "resample", "resample_blocks", "to_mono"]
