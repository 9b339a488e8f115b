"""Raw samples from a pipe: no header, any number of bytes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from wav2vec2_core.audio.resampling import to_mono
from wav2vec2_core.errors import AudioError, InputError

#: Name as ffmpeg and arecord use it -> numpy's type and the value of full scale.
PCM_TYPES = {"s16le": ("<i2", 32768.0), "f32le": ("<f4", 1.0)}


class PcmDecoder:
    """Samples of raw bytes that come in pieces of any size.

    Attributes:
        held: bytes at the end of what came that are no whole sample of all channels yet.
    """

    def __init__(self, kind: str = "s16le", channels: int = 1) -> None:
        """``kind``: one of ``PCM_TYPES``. Raises ``InputError``."""
        if kind not in PCM_TYPES:
            raise InputError(f"sample format {kind!r:.100} is unknown: use one of {', '.join(PCM_TYPES)}")
        if channels < 1:
            raise InputError(f"channels={channels} must be 1 or more")
        self._type, self._full = PCM_TYPES[kind]
        self._channels = channels
        self.held = b""

    def feed(self, data: bytes) -> np.ndarray:
        """The next bytes: (samples,) float32 mono of what is whole. Raises ``AudioError`` for what is not finite."""
        data = self.held + data
        size = np.dtype(self._type).itemsize * self._channels
        whole = len(data) // size * size
        self.held = data[whole:]
        samples = np.frombuffer(data[:whole], self._type).astype(np.float32) / np.float32(self._full)
        if not np.isfinite(samples).all():
            raise AudioError("the stream holds samples that are NaN or infinite: check its sample format")
        return to_mono(samples.reshape(-1, self._channels))


class PcmReader:
    """(samples,) float32 mono blocks of a stream of raw samples, as they come.

    Attributes:
        leftover: bytes at the end that are no whole sample of all channels, once the stream has ended.
    """

    def __init__(self, stream: BinaryIO, kind: str = "s16le", channels: int = 1, *, at_most: int = 1 << 16) -> None:
        """``kind``: one of ``PCM_TYPES``; ``at_most``: bytes read at a time. Raises ``InputError``."""
        self._decoder = PcmDecoder(kind, channels)
        self._stream, self._at_most = stream, at_most
        self.leftover = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Raises ``AudioError`` for samples that are not finite."""
        # read1 gives what has come so far; a file without it (raw) does so with read.
        read = getattr(self._stream, "read1", self._stream.read)
        while data := read(self._at_most):
            samples = self._decoder.feed(data)
            if len(samples):
                yield samples
        self.leftover = len(self._decoder.held)
