"""Reading recordings, whole or in blocks: what libsndfile reads, video and m4a through PyAV; mono, resampled."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.errors import AudioError, InputError

_BLOCK = 1 << 18  # frames decoded at a time: a header that promises the moon does not cost memory
_UNKNOWN_LENGTH = 0x7FFF0000  # writers to a pipe cannot know the length and put a number from here upwards
_SLACK = 0.5  # seconds by which a compressed stream's stated duration may exceed its samples (encoder delay, edits)


class Recording:
    """A recording as a stream of (samples,) float32 blocks, mono, at one rate; iterating again starts again.

    Blocks are decoded as they are asked for, so memory does not grow with the length. Joined they are bit for bit what
    ``read_audio`` gives. wav, flac, ogg, opus, mp3 and whatever else libsndfile knows are read with soundfile; other
    containers (mp4, m4a, mkv, webm ...) with PyAV, which the ``media`` extra installs.

    Iterating raises ``AudioError``, at once or where the damage is, for all that ``read_audio`` names except a
    recording without samples.
    """

    def __init__(self, path: str | os.PathLike[str], *, sampling_rate: int = 16000) -> None:
        """Check that there is such a file.

        Raises:
            AudioError: the file is missing, empty or unreadable.
            InputError: ``sampling_rate`` is not a positive integer.
        """
        _check_rate(sampling_rate, "sampling_rate")
        self.path, self.sampling_rate = _check_file(path), sampling_rate

    def __iter__(self) -> Iterator[np.ndarray]:
        with _open_sound(self.path) as sound:
            blocks = _sound_blocks(self.path, sound) if sound is not None else _media_blocks(self.path)
            rate = next(blocks)
            yield from resample_blocks(blocks, rate, self.sampling_rate)


def read_audio(path: str | os.PathLike[str], *, sampling_rate: int = 16000) -> np.ndarray:
    """Read a recording as (samples,) float32, nominally in [-1, 1], at ``sampling_rate`` in hertz.

    Channels are averaged. For formats see ``Recording``.

    Raises:
        AudioError: the file is missing, unreadable, truncated, not audio, without samples, or holds samples that are
            not finite.
        InputError: ``sampling_rate`` is not a positive integer.
    """
    blocks = list(Recording(path, sampling_rate=sampling_rate))
    if not blocks:
        raise AudioError(f"{path} holds no samples: record or export it again")
    return np.concatenate(blocks)


def audio_duration(path: str | os.PathLike[str]) -> float:
    """Length of a recording in seconds, from its header where that states one, without decoding the rest.

    Raises:
        AudioError: as ``read_audio``; damage that only decoding shows goes unnoticed here.
    """
    path = _check_file(path)
    with _open_sound(path) as sound:
        seconds = sound.frames / sound.samplerate if sound is not None else _media_duration(path)
    if seconds <= 0:
        raise AudioError(f"{path} holds no samples: record or export it again")
    return seconds


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
        sound = soundfile.SoundFile(path)
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


def _check_rate(rate: int, name: str) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or rate <= 0:
        raise InputError(f"{name}={rate!r} must be a positive integer number of hertz")
