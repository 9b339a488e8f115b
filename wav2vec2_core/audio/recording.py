"""Recordings: a file, a stretch of one, an array or bytes, as blocks of mono float32 at one rate."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import closing
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np

from wav2vec2_core.audio.reading import Damage, Reading, Run, any_error_as_audio_error
from wav2vec2_core.audio.resampling import check_rate, resample_blocks, resampling_start
from wav2vec2_core.audio.sources import ArraySource, BytesSource, FileSource
from wav2vec2_core.errors import AudioError, InputError


class Recording:
    """Sound as a stream of (samples,) float32 blocks, mono, at one rate; iterating again starts again.

    A recording is a file, a stretch of one, an array or the bytes of a file. Blocks are decoded as they are asked for,
    so memory does not grow with the length. Joined they are bit for bit what ``read_audio`` returns, and those of a
    stretch are bit for bit the same samples of the whole. wav, flac, ogg, opus, mp3 and whatever else libsndfile knows
    are read with soundfile; other containers (mp4, m4a, mkv, webm ...) with PyAV, which the ``media`` extra installs.

    Iterating raises ``AudioError``, at once or where the damage is, for all that ``read_audio`` names except a
    recording without samples.

    Attributes:
        name: for messages.
        path: of the file, or ``None``.
        sampling_rate: of the blocks, in hertz.
        start, end: of the stretch, in seconds on the recording's clock; ``end`` is ``None`` for all the rest.
    """

    def __init__(self, path: str | os.PathLike[str], *, sampling_rate: int = 16000) -> None:
        """Check that there is such a file.

        Raises:
            AudioError: the file is missing, empty or unreadable.
            InputError: ``sampling_rate`` is not a positive integer.
        """
        self._take(FileSource(_check_file(path), printable(path)), printable(path), sampling_rate=sampling_rate)
        self.path = Path(path)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        start: float = 0.0,
        end: float | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Self:
        """A file, or the stretch of it from ``start`` to ``end`` seconds.

        Args:
            path: of the file.
            start, end: seconds; ``None`` is the end of the recording, which also ends a stretch that goes beyond it.
            name: for messages; by default the path.
            options: ``sampling_rate`` of the blocks in hertz (16000); ``channel``: "mix" (the average), "left",
                "right" or a number from 0; ``track``: of a file with several, a number from 0 or a language
                (the default track); ``on_damage``: "error", or "keep" what can be read of a damaged file.

        Raises:
            AudioError: the file is missing, empty or unreadable.
            InputError: an option is invalid.
        """
        recording = cls.__new__(cls)
        name = printable(path) if name is None else name
        recording._take(FileSource(_check_file(path), name), name, start=start, end=end, **options)
        recording.path = Path(path)
        return recording

    @classmethod
    def of(
        cls,
        samples: np.ndarray,
        rate: int,
        start: float = 0.0,
        end: float | None = None,
        *,
        name: str = "samples",
        **options: Any,
    ) -> Self:
        """Samples in memory: (samples,) or (samples, channels) at ``rate`` hertz; options as ``open``.

        Raises:
            AudioError: samples are not finite.
            InputError: the shape, the rate or an option is invalid.
        """
        recording = cls.__new__(cls)
        recording._take(ArraySource(samples, rate, name), name, start=start, end=end, **options)
        return recording

    @classmethod
    def from_bytes(
        cls, data: bytes, start: float = 0.0, end: float | None = None, *, name: str = "recording", **options: Any
    ) -> Self:
        """The content of a file of any format; options as ``open``.

        Raises:
            AudioError: there are no bytes.
            InputError: an option is invalid.
        """
        if not data:
            raise AudioError(f"{name} is empty: record or download it again")
        recording = cls.__new__(cls)
        recording._take(BytesSource(bytes(data), name), name, start=start, end=end, **options)
        return recording

    @classmethod
    def wrap(cls, thing: Recording | str | os.PathLike[str] | tuple[np.ndarray, int]) -> Recording:
        """A path or (samples, rate) as a recording; a recording stays what it is.

        Raises:
            AudioError, InputError: as ``open`` and ``of``.
        """
        if isinstance(thing, Recording):
            return thing
        if isinstance(thing, tuple):
            if len(thing) != 2:
                raise InputError(f"a tuple of {len(thing)} is no recording: give (samples, rate)")
            return cls.of(*thing)
        if not isinstance(thing, str | os.PathLike):
            raise InputError(f"a {type(thing).__name__} is no recording: give a path, (samples, rate) or a Recording")
        return cls.open(thing)

    def at(self, sampling_rate: int) -> Recording:
        """The same recording at another rate in hertz. Raises ``InputError``."""
        if sampling_rate == self.sampling_rate:
            return self
        check_rate(sampling_rate, "sampling_rate")
        other = copy(self)
        other.sampling_rate, other._reading = sampling_rate, Reading(self.name)
        return other

    def until(self, end: float) -> Recording:
        """The same recording up to ``end`` seconds on its clock, or to its own end where that is earlier.

        Raises:
            InputError: ``end`` is no time after the start.
        """
        other = copy(self)
        other.end, other._reading = float(end) if self.end is None else min(self.end, float(end)), Reading(self.name)
        _check_stretch(other.start, other.end)
        return other

    @property
    def notes(self) -> list[str]:
        """Notes on the last reading, one sentence each."""
        return self._reading.notes

    @property
    def damage(self) -> Damage | None:
        """What the last reading could not read, with ``on_damage="keep"``; ``None`` if it read everything."""
        return self._reading.damage

    @property
    def original_rate(self) -> int | None:
        """The rate that the recording itself has, in hertz, once it was read: the lowest where its parts differ."""
        return self._reading.rate

    @property
    def duration(self) -> float:
        """Duration of the stretch in seconds, from the header if it states a length, without decoding the rest.

        Raises:
            AudioError: as ``read_audio``, except for damage that only decoding reveals.
        """
        seconds, _ = self._facts()
        end = seconds if self.end is None else min(self.end, seconds)
        return max(0.0, end - self.start)

    @property
    def channels(self) -> int:
        """How many channels the recording has. Raises ``AudioError``."""
        return self._facts()[1]

    def read(self) -> np.ndarray:
        """All of it as (samples,) float32. Raises ``AudioError``, also where there are no samples."""
        blocks = list(self)
        if not blocks:
            raise AudioError(f"{self.name} holds no samples: record or export it again")
        return np.concatenate(blocks)

    def __iter__(self) -> Iterator[np.ndarray]:
        reading = Reading(
            self.name,
            self.channel,
            self.track,
            keep=self.on_damage == "keep",
            first_needed=lambda rate: resampling_start(self._first, rate, self.sampling_rate).into,
            until=self.end,
        )
        self._reading = reading
        done, position = 0, 0  # samples of the runs before this one, and of all so far
        with any_error_as_audio_error(self.name), closing(self._source.runs(reading)) as runs:
            for run in runs:
                reading.rate = min(reading.rate or run.rate, run.rate)
                begin, blocks = self._resampled(run)
                position = done + begin
                for block in blocks:
                    piece = block[max(0, self._first - position) : self._room(position)]
                    position += len(block)
                    if len(piece):
                        yield piece
                    if self._room(position) == 0:
                        return
                done = position
        if self._first and position <= self._first:
            raise AudioError(
                f"{self.name} lasts {position / self.sampling_rate:.2f} s, its stretch begins at {self.start:g} s: "
                "mend the start"
            )

    def _facts(self) -> tuple[float, int]:
        reading = Reading(self.name, self.channel, self.track, keep=self.on_damage == "keep")
        with any_error_as_audio_error(self.name):
            return self._source.facts(reading)

    @property
    def _first(self) -> int:
        return round(self.start * self.sampling_rate)

    def _room(self, position: int) -> int | None:
        """How many samples of a block at ``position`` are before the end."""
        return None if self.end is None else max(0, round(self.end * self.sampling_rate) - position)

    def _resampled(self, run: Run) -> tuple[int, Iterator[np.ndarray]]:
        """The blocks of a run at the recording's rate, and which sample the first one begins with."""
        if run.rate == self.sampling_rate:
            return run.begin, run.blocks
        if run.begin == 0:
            return 0, resample_blocks(run.blocks, run.rate, self.sampling_rate)
        start = resampling_start(self._first, run.rate, self.sampling_rate)
        blocks = _without_first(run.blocks, start.into - run.begin)
        return start.out, resample_blocks(blocks, run.rate, self.sampling_rate, first=start.chunk)

    def _take(
        self,
        source: Any,
        name: str,
        *,
        start: float = 0.0,
        end: float | None = None,
        sampling_rate: int = 16000,
        channel: str | int = "mix",
        track: int | str | None = None,
        on_damage: str = "error",
    ) -> None:
        check_rate(sampling_rate, "sampling_rate")
        _check_stretch(start, end)
        if channel not in ("mix", "left", "right") and (
            isinstance(channel, str) or int(channel) != channel or channel < 0
        ):
            raise InputError(f"channel={str(channel)[:100]!r:.100} is none: use mix, left, right or a number from 0")
        if on_damage not in ("error", "keep"):
            raise InputError(f"on_damage={str(on_damage)[:100]!r:.100} is neither error nor keep")
        self._source, self.name, self.sampling_rate = source, name, sampling_rate
        self.path: Path | None = None
        self.start, self.end = float(start), None if end is None else float(end)
        self.channel, self.track, self.on_damage = channel, track, on_damage
        self._reading = Reading(name)


def read_audio(path: str | os.PathLike[str], *, sampling_rate: int = 16000) -> np.ndarray:
    """Read a recording as (samples,) float32, nominally in [-1, 1], at ``sampling_rate`` in hertz.

    Channels are averaged. For formats see ``Recording``.

    Raises:
        AudioError: the file is missing, unreadable, truncated, not audio, without samples, or holds samples that are
            not finite.
        InputError: ``sampling_rate`` is not a positive integer.
    """
    return Recording(path, sampling_rate=sampling_rate).read()


def audio_duration(path: str | os.PathLike[str]) -> float:
    """Length of a recording in seconds, from its header where that states one, without decoding the rest.

    Raises:
        AudioError: as ``read_audio``, except for damage that only decoding reveals.
    """
    seconds = Recording(path).duration
    if seconds <= 0:
        raise AudioError(f"{path} holds no samples: record or export it again")
    return seconds


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text that any stream can take: bytes of its name that are not UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_address(name: str | os.PathLike[str]) -> bool:
    """Whether this looks like ``https://...``, also after a ``Path`` has removed one slash."""
    return re.match(r"[a-z][a-z0-9+.-]+:/", str(name), re.IGNORECASE) is not None


def _check_file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            path.open("rb").close()
    except FileNotFoundError as error:
        if is_address(path):
            raise AudioError(f"{path} is an address, only files are read: download it and name the file") from error
        raise AudioError(f"{path} does not exist: check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{str(path)!r} cannot be read ({reason}): check the path and its permissions") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path} is a folder: name a recording")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{path} is not a regular file: save the recording to a file first")
    if status.st_size == 0:
        raise AudioError(f"{path} is empty: record or download it again")
    return path


def _check_stretch(start: float, end: float | None) -> None:
    for name, value in (("start", start), ("end", end)):
        if value is not None and not 0 <= value < math.inf:
            raise InputError(f"{name}={value!r:.100} must be a number of seconds, 0 or more")
    if end is not None and end <= start:
        raise InputError(f"end={end:g} must be later than start={start:g}")


def _without_first(blocks: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    for block in blocks:
        if len(block) > count:
            yield block[count:]
        count = max(0, count - len(block))
