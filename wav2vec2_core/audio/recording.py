"""Reading recordings, whole or in blocks: what libsndfile reads, video and m4a through PyAV; mono, resampled."""

from __future__ import annotations

import math
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np

from wav2vec2_core.errors import AudioError, InputError

_BLOCK = 1 << 18  # frames decoded at a time: a header that promises the moon does not cost memory
_UNKNOWN_LENGTH = 0x7FFF0000  # writers to a pipe cannot know the length and put a number from here upwards
_SLACK = 0.5  # seconds by which a compressed stream's stated duration may exceed its samples (encoder delay, edits)


@dataclass(frozen=True)
class Damage:
    """What ``on_damage="keep"`` left out: seconds of the recording that could be read, and why not more."""

    seconds: float
    reason: str


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
        notes: what a user should know of the reading, one sentence each; filled while the blocks are read.
        damage: what could not be read, with ``on_damage="keep"``; ``None`` where all was.
    """

    def __init__(self, path: str | os.PathLike[str], *, sampling_rate: int = 16000) -> None:
        """Check that there is such a file.

        Raises:
            AudioError: the file is missing, empty or unreadable.
            InputError: ``sampling_rate`` is not a positive integer.
        """
        self._take(_File(_check_file(path)), printable(path), sampling_rate=sampling_rate)
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str], start: float = 0.0, end: float | None = None, **options: Any) -> Self:
        """A file, or the stretch of it from ``start`` to ``end`` seconds.

        Args:
            path: of the file.
            start, end: seconds; ``None`` is the end of the recording, which also ends a stretch that goes beyond it.
            options: ``sampling_rate`` of the blocks in hertz (16000); ``channel``: "mix" (the average), "left",
                "right" or a number from 0; ``track``: of a file with several, a number from 0 or a language
                (the default track); ``on_damage``: "error", or "keep" what can be read of a damaged file.

        Raises:
            AudioError: the file is missing, empty or unreadable.
            InputError: an option breaks its rule.
        """
        recording = cls.__new__(cls)
        recording._take(_File(_check_file(path)), printable(path), start=start, end=end, **options)
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
            InputError: the shape, the rate or an option breaks its rule.
        """
        recording = cls.__new__(cls)
        recording._take(_Array(samples, rate, name), name, start=start, end=end, **options)
        return recording

    @classmethod
    def from_bytes(
        cls, data: bytes, start: float = 0.0, end: float | None = None, *, name: str = "recording", **options: Any
    ) -> Self:
        """The content of a file of any format; options as ``open``.

        Raises:
            AudioError: there are no bytes.
            InputError: an option breaks its rule.
        """
        if not data:
            raise AudioError(f"{name} is empty: record or download it again")
        recording = cls.__new__(cls)
        recording._take(_Bytes(bytes(data), name), name, start=start, end=end, **options)
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
        return cls.open(thing)

    def at(self, sampling_rate: int) -> Recording:
        """The same recording at another rate in hertz. Raises ``InputError``."""
        if sampling_rate == self.sampling_rate:
            return self
        _check_rate(sampling_rate, "sampling_rate")
        other = copy(self)
        other.sampling_rate, other.notes, other.damage = sampling_rate, [], None
        return other

    @property
    def duration(self) -> float:
        """Seconds of the stretch, from the header where that states a length, without decoding the rest.

        Raises:
            AudioError: as ``read_audio``; damage that only decoding shows goes unnoticed here.
        """
        seconds = self._source.duration()
        end = seconds if self.end is None else min(self.end, seconds)
        return max(0.0, end - self.start)

    @property
    def channels(self) -> int:
        """How many channels the recording has. Raises ``AudioError``."""
        return self._source.channels()

    def read(self) -> np.ndarray:
        """All of it as (samples,) float32. Raises ``AudioError``, also where there are no samples."""
        blocks = list(self)
        if not blocks:
            raise AudioError(f"{self.name} holds no samples: record or export it again")
        return np.concatenate(blocks)

    def __iter__(self) -> Iterator[np.ndarray]:
        self.notes, self.damage = [], None
        first = round(self.start * self.sampling_rate)
        last = None if self.end is None else round(self.end * self.sampling_rate)
        seen = 0
        with self._source.blocks(self) as blocks:
            rate = next(blocks)
            for block in resample_blocks(blocks, rate, self.sampling_rate):
                piece = block[max(0, first - seen) : None if last is None else max(0, last - seen)]
                seen += len(block)
                if len(piece):
                    yield piece
                if last is not None and seen >= last:
                    return
        if first and seen <= first:
            raise AudioError(
                f"{self.name} lasts {seen / self.sampling_rate:.2f} s, its stretch begins at {self.start:g} s: "
                "mend the start"
            )

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
        _check_rate(sampling_rate, "sampling_rate")
        _check_stretch(start, end)
        if channel not in ("mix", "left", "right") and (
            isinstance(channel, str) or int(channel) != channel or channel < 0
        ):
            raise InputError(f"channel={str(channel)[:100]!r} is none: use mix, left, right or a number from 0")
        if on_damage not in ("error", "keep"):
            raise InputError(f"on_damage={str(on_damage)[:100]!r} is neither error nor keep")
        self._source, self.name, self.sampling_rate = source, name, sampling_rate
        self.path: Path | None = None
        self.start, self.end = float(start), None if end is None else float(end)
        self.channel, self.track, self.on_damage = channel, track, on_damage
        self.notes: list[str] = []
        self.damage: Damage | None = None


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
        AudioError: as ``read_audio``; damage that only decoding shows goes unnoticed here.
    """
    seconds = Recording(path).duration
    if seconds <= 0:
        raise AudioError(f"{path} holds no samples: record or export it again")
    return seconds


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text that any stream can take: bytes of its name that are not UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# ---- where the samples come from: each knows its duration() and channels() and opens its blocks() -------------------


@dataclass(frozen=True)
class _File:
    path: Path

    def duration(self) -> float:
        with _open_sound(self.path) as sound:
            return sound.frames / sound.samplerate if sound is not None else _media_duration(self.path)

    def channels(self) -> int:
        with _open_sound(self.path) as sound:
            if sound is not None:
                return sound.channels
        with _open_media(self.path) as (_, stream):
            return stream.channels

    @contextmanager
    def blocks(self, recording: Recording) -> Iterator[Iterator[Any]]:
        with _open_sound(self.path) as sound:
            yield _sound_blocks(self.path, sound) if sound is not None else _media_blocks(self.path)


class _Bytes:
    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name

    @contextmanager
    def _file(self) -> Iterator[_File]:
        with tempfile.NamedTemporaryFile(prefix="wav2vec2-") as file:
            file.write(self.data)
            file.flush()
            yield _File(Path(file.name))

    def duration(self) -> float:
        with self._file() as file:
            return file.duration()

    def channels(self) -> int:
        with self._file() as file:
            return file.channels()

    @contextmanager
    def blocks(self, recording: Recording) -> Iterator[Iterator[Any]]:
        with self._file() as file, file.blocks(recording) as blocks:
            yield blocks


class _Array:
    def __init__(self, samples: np.ndarray, rate: int, name: str) -> None:
        _check_rate(rate, "rate")
        self.rate, self.mono = int(rate), to_mono(samples)
        self.count = 1 if np.ndim(samples) == 1 else np.shape(samples)[1]
        if not np.isfinite(self.mono).all():
            raise AudioError(f"{name} holds samples that are NaN or infinite: mend them")

    def duration(self) -> float:
        return len(self.mono) / self.rate

    def channels(self) -> int:
        return self.count

    @contextmanager
    def blocks(self, recording: Recording) -> Iterator[Iterator[Any]]:
        yield iter([self.rate, *(self.mono[first : first + _BLOCK] for first in range(0, len(self.mono), _BLOCK))])


def to_mono(samples: np.ndarray) -> np.ndarray:
    """Average the channels of (samples, channels) into (samples,) float32; (samples,) stays as it is.

    Raises:
        InputError: the array has another number of dimensions or no channel.
    """
    samples = np.asarray(samples)
    if samples.ndim == 1:
        return samples.astype(np.float32, copy=False)
    if samples.ndim != 2 or samples.shape[1] == 0:
        raise InputError(f"samples have shape {samples.shape}: give (samples,) or (samples, channels)")
    return samples.mean(axis=1, dtype=np.float64).astype(np.float32)


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample (samples,) float32 with soxr's high quality filter; rates are in hertz.

    Raises:
        InputError: a rate is not a positive integer.
    """
    _check_rate(from_rate, "from_rate")
    _check_rate(to_rate, "to_rate")
    samples = np.asarray(samples, np.float32)
    if from_rate == to_rate or samples.size == 0:
        return samples
    import soxr

    return soxr.resample(samples, from_rate, to_rate, quality="HQ")


def resample_blocks(blocks: Iterable[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """``resample`` of (samples,) blocks that follow each other: the same numbers, whatever their lengths.

    Raises:
        InputError: a rate is not a positive integer.
    """
    _check_rate(from_rate, "from_rate")
    _check_rate(to_rate, "to_rate")
    if from_rate == to_rate:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        if len(ready := stream.resample_chunk(block)):
            yield ready
    if len(rest := stream.resample_chunk(np.zeros(0, np.float32), last=True)):
        yield rest


# ---- files that libsndfile reads ------------------------------------------------------------------------------------


@contextmanager
def _open_sound(path: Path) -> Iterator[Any]:
    """A ``soundfile.SoundFile``, or ``None`` where libsndfile does not know the format."""
    import soundfile

    try:
        sound = soundfile.SoundFile(os.fsencode(path))  # pyright: ignore[reportArgumentType]
    except soundfile.LibsndfileError as error:
        if "malformed" in error.error_string:
            raise AudioError(f"{path} is a damaged or truncated recording: download or export it again") from error
        sound = None
    except TypeError:  # .raw: samples without a header
        sound = None
    if sound is None:
        yield None
        return
    with sound:
        _check_promise(path)
        yield sound


def _sound_blocks(path: Path, sound: Any) -> Iterator[Any]:
    """The rate in hertz, then (samples,) blocks."""
    import soundfile

    yield sound.samplerate
    found = 0
    try:
        while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):
            found += len(block)
            yield to_mono(_check_finite(path, block))
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{path} is damaged or truncated: it promises {sound.frames} samples and {found} can be decoded; "
            "download or export it again"
        ) from error
    if found < sound.frames:
        raise AudioError(
            f"{path} is truncated: it promises {sound.frames} samples and holds {found}; download or export it again"
        )


def _check_promise(path: Path) -> None:
    """Refuse a WAV or AIFF file that is shorter than its header says; libsndfile silently reads what there is."""
    with path.open("rb") as file:
        form, _, kind = file.read(4), file.read(4), file.read(4)
        if (form, kind) not in ((b"RIFF", b"WAVE"), (b"FORM", b"AIFF"), (b"FORM", b"AIFC")):
            return
        order = "little" if form == b"RIFF" else "big"
        length = path.stat().st_size
        while len(header := file.read(8)) == 8:
            size = int.from_bytes(header[4:], order)
            if header[:4] in (b"data", b"SSND"):
                found = length - file.tell()
                if found < size < _UNKNOWN_LENGTH:
                    raise AudioError(
                        f"{path} is truncated: its header promises {size} bytes of samples and it holds {found}; "
                        "download or export it again"
                    )
                return
            file.seek(size + size % 2, os.SEEK_CUR)  # chunks start at even positions


# ---- files that need PyAV -------------------------------------------------------------------------------------------


@contextmanager
def _open_media(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first audio stream."""
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise AudioError(
            f"{path} is not a recording that libsndfile reads: for video, m4a and other containers "
            'run pip install "wav2vec2-frameworks[media]", otherwise convert it to wav or flac'
        ) from error
    try:
        # A playlist could name other files and addresses; without any protocol nothing but this file is opened.
        with path.open("rb") as file, av.open(file, options={"protocol_whitelist": "none"}) as container:
            if not container.streams.audio:
                raise AudioError(f"{path} holds no audio: name a recording, or a video with sound")
            yield container, container.streams.audio[0]
    except FFmpegError as error:
        raise AudioError(
            f"{path} cannot be decoded as audio ({error.strerror}): download it again or convert it to wav or flac"
        ) from error


def _media_blocks(path: Path) -> Iterator[Any]:
    """The rate in hertz, then (samples,) blocks."""
    found, waiting = 0, []
    with _open_media(path) as (container, stream):
        import av

        rate = stream.rate
        yield rate
        planar_floats = av.AudioResampler(format="fltp", rate=rate)
        for frame in chain(container.decode(stream), [None]):  # None flushes
            arrays = [converted.to_ndarray().T for converted in planar_floats.resample(frame)]
            waiting += [to_mono(_check_finite(path, array)) for array in arrays]
            if sum(map(len, waiting)) >= _BLOCK or (frame is None and waiting):  # a frame is but 20 ms
                block, waiting = np.concatenate(waiting), []
                found += len(block)
                yield block
        promised = _stated_duration(stream)
    if promised is not None and found / rate < promised - _SLACK:
        raise AudioError(
            f"{path} is truncated: it promises {promised:.1f} seconds and holds {found / rate:.1f}; download or "
            "export it again"
        )


def _media_duration(path: Path) -> float:
    with _open_media(path) as (container, stream):
        stated = _stated_duration(stream)
        if stated is not None:
            return stated
        if container.duration is not None:
            return container.duration / 1_000_000  # microseconds
    blocks = _media_blocks(path)
    rate = next(blocks)
    return sum(map(len, blocks)) / rate


def _stated_duration(stream: Any) -> float | None:
    if stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * Fraction(stream.time_base))


# ---- checks ---------------------------------------------------------------------------------------------------------


def _check_file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            path.open("rb").close()
    except FileNotFoundError as error:
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


def _check_finite(path: Path, block: np.ndarray) -> np.ndarray:
    if not np.isfinite(block).all():
        raise AudioError(f"{path} holds samples that are NaN or infinite: export it again")
    return block


def _check_stretch(start: float, end: float | None) -> None:
    for name, value in (("start", start), ("end", end)):
        if value is not None and not 0 <= value < math.inf:
            raise InputError(f"{name}={value!r} must be a number of seconds, 0 or more")
    if end is not None and end <= start:
        raise InputError(f"end={end:g} must be later than start={start:g}")


def _check_rate(rate: int, name: str) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or rate <= 0:
        raise InputError(f"{name}={rate!r} must be a positive integer number of hertz")
