"""Sources of samples: a file, its bytes, or an array. Each provides its runs, length and channels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wav2vec2_core.audio.layout import parts
from wav2vec2_core.audio.media import media_facts, media_runs
from wav2vec2_core.audio.mixing import PIECE
from wav2vec2_core.audio.part import Part
from wav2vec2_core.audio.reading import Reading, Run, check_finite
from wav2vec2_core.audio.resampling import check_rate
from wav2vec2_core.audio.scanning import Scan
from wav2vec2_core.audio.sound import open_sound, sound_length, sound_run
from wav2vec2_core.errors import AudioError, InputError

_BLOCK = 1 << 18  # samples


class FileSource:
    """A file of any format: what libsndfile reads with soundfile, the rest with PyAV."""

    def __init__(self, path: Path, name: str) -> None:
        self._path: Path | None = path
        self._name = name

    def runs(self, reading: Reading) -> Iterator[Run]:
        """Its samples. Raises ``AudioError``."""
        with self._open() as file:
            seconds = 0.0
            for index, part in enumerate(parts(Scan(file))):
                for run in self._runs_of(part, file, reading, seconds, is_first=index == 0):
                    counted = _Counted(run.blocks, run.begin)
                    yield Run(run.rate, run.begin, iter(counted))
                    for _ in counted.blocks:  # up to where damage shows
                        pass
                    seconds += counted.samples / run.rate

    def facts(self, reading: Reading) -> tuple[float, int]:
        """Seconds, from headers where they state them, and channels of the first part. Raises ``AudioError``."""
        with self._open() as file:
            seconds, channels = 0.0, 0
            for part in parts(Scan(file)):
                lasts, count = self._facts_of(part, file, reading, seconds)
                seconds, channels = seconds + lasts, channels or count
        return seconds, channels

    def _runs_of(
        self, part: Part, file: BinaryIO, reading: Reading, seconds: float, *, is_first: bool
    ) -> Iterator[Run]:
        if not part.is_media:
            with open_sound(self._path, file, part, self._name) as sound:
                if sound is not None:
                    if reading.track not in (None, 0):
                        raise AudioError(f"{self._name} has no audio track {str(reading.track)[:20]!r}: it has one, 0")
                    yield sound_run(sound, part, reading, is_first=is_first, seconds=seconds)
                    return
        yield from media_runs(self._media_source(), part, reading, seconds)

    def _facts_of(self, part: Part, file: BinaryIO, reading: Reading, seconds: float) -> tuple[float, int]:
        if not part.is_media:
            with open_sound(self._path, file, part, self._name) as sound:
                if sound is not None:
                    if part.missing is not None and not reading.keep:
                        reading.harm(part.missing, 0.0)
                    length = sound_length(sound, part)
                    if length is None:
                        run = sound_run(sound, part, reading, is_first=False, seconds=seconds)
                        length = sum(map(len, run.blocks))
                    return length / sound.samplerate, sound.channels
        return media_facts(self._media_source(), part, reading, seconds)

    def _media_source(self) -> Path | bytes:
        assert self._path is not None
        return self._path

    def _open(self) -> BinaryIO:
        assert self._path is not None
        return self._path.open("rb")


class BytesSource(FileSource):
    """The bytes of a file."""

    def __init__(self, data: bytes, name: str) -> None:
        self._path, self._name, self._data = None, name, data

    def _media_source(self) -> Path | bytes:
        return self._data

    def _open(self) -> BinaryIO:
        return io.BytesIO(self._data)


class ArraySource:
    """(samples,) or (samples, channels) in memory."""

    def __init__(self, samples: np.ndarray, rate: int, name: str) -> None:
        check_rate(rate, "rate")
        samples = np.asarray(samples)
        if samples.ndim not in (1, 2) or 0 in samples.shape[1:]:
            raise InputError(f"{name} have shape {samples.shape}: give (samples,) or (samples, channels)")
        if not np.issubdtype(samples.dtype, np.floating):
            raise InputError(f"{name} are of type {samples.dtype}: give floats from -1 to 1")
        self._rate, self._samples = int(rate), samples if samples.ndim == 2 else samples[:, None]
        check_finite(name, self._samples)

    def runs(self, reading: Reading) -> Iterator[Run]:
        """Its samples. Raises ``AudioError`` for a channel that it has not."""
        begin = min(reading.first_needed(self._rate), len(self._samples)) // PIECE * PIECE
        yield Run(self._rate, begin, self._blocks(reading, begin))

    def facts(self, reading: Reading) -> tuple[float, int]:
        """Seconds and channels."""
        return len(self._samples) / self._rate, self._samples.shape[1]

    def _blocks(self, reading: Reading, begin: int) -> Iterator[np.ndarray]:
        mixer = reading.mixer(self._samples.shape[1])
        for first in range(begin, len(self._samples), _BLOCK):
            if len(mono := mixer.feed(self._samples[first : first + _BLOCK].astype(np.float32))):
                yield mono
        if len(rest := mixer.flush()):
            yield rest
        reading.note_cancelled(mixer.cancelled / self._rate)


class _Counted:
    """Counts the samples of blocks as they are consumed, from ``begin`` on."""

    def __init__(self, blocks: Iterator[np.ndarray], begin: int) -> None:
        self.blocks, self.samples = blocks, begin

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks:
            self.samples += len(block)
            yield block
