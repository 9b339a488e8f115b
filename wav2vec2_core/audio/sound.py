"""Files that libsndfile reads: wav, aiff, flac, ogg, opus, mp3 and their kin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wav2vec2_core.audio.mixing import PIECE
from wav2vec2_core.audio.part import Part
from wav2vec2_core.audio.reading import Reading, Run, check_finite, check_form
from wav2vec2_core.audio.scanning import Window
from wav2vec2_core.errors import AudioError

_BLOCK = 1 << 18  # samples of all channels decoded at a time: an absurd length in a header costs no memory
_SMALL_BLOCK = 1 << 14  # behind a stretch
_BEHIND = 0.2  # seconds read with a stretch; the resampler wants them
_NO_LENGTH = 1 << 40  # samples that libsndfile states where it knows none
_SLACK = 3 * 1152  # samples that a decoder of mp3 may drop at the beginning of a stream
_EXACT = ("PCM_16", "PCM_24", "PCM_32", "PCM_S8", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "ALAW")


@contextmanager
def open_sound(path: Path | None, file: BinaryIO, part: Part, name: str) -> Iterator[Any]:
    """A ``soundfile.SoundFile`` of a part, or ``None`` where libsndfile does not know the format.

    Raises:
        AudioError: the file is damaged, or its rate or channels are none of a recording.
    """
    size = file.seek(0, os.SEEK_END)
    whole = path is not None and part.begin == 0 and part.end == size and not part.patches and not part.prefix
    source = os.fsencode(path) if whole and path else Window(file, part.begin, part.end, part.patches, part.prefix)
    try:
        sound = _sequential()(source)
    except Exception as error:
        if "malformed" in str(getattr(error, "error_string", "")):
            raise AudioError(f"{name} is a damaged or truncated recording: download or export it again") from error
        sound = None
    if sound is None:
        yield None
        return
    with sound:
        check_form(name, sound.samplerate, sound.channels)
        yield sound


@cache
def _sequential() -> Any:
    """``soundfile.SoundFile`` that does not seek to where it is after every read.

    Decoders begin anew at a seek: FLAC decodes a frame twice, and the next numbers of mp3 differ in their last bits.
    """
    import soundfile

    class Sequential(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    return Sequential


def sound_run(sound: Any, part: Part, reading: Reading, *, is_first: bool, seconds: float) -> Run:
    """The samples of a part. Its blocks raise ``AudioError`` where damage shows; ``seconds`` were read before it."""
    if part.missing is not None and not reading.keep:
        reading.harm(part.missing, seconds)
    rate, begin = sound.samplerate, 0
    needed = reading.first_needed(rate) // PIECE * PIECE if is_first else 0
    if 0 < needed < sound.frames and part.is_promise and sound.subtype in _EXACT and sound.format != "OGG":
        try:
            begin = sound.seek(needed)
        except Exception:  # then from the beginning
            begin = sound.seek(0)
    return Run(rate, begin, _blocks(sound, part, reading, begin, seconds))


def sound_length(sound: Any, part: Part) -> int | None:
    """Samples of a part by its headers, ``None`` where they do not say."""
    if part.length is not None:
        return part.length
    if sound.subtype.startswith("MPEG") and sound.format != "MP3":  # in wav: chunk "fact" counts padding too
        return None
    return sound.frames if part.is_promise and sound.frames < _NO_LENGTH else None


def _blocks(sound: Any, part: Part, reading: Reading, begin: int, before: float) -> Iterator[np.ndarray]:
    rate, channels, found = sound.samplerate, sound.channels, begin
    may_be_infinite = not sound.subtype.startswith("PCM_")
    mixer = reading.mixer(channels)
    error = None
    size = _BLOCK if reading.until is None else round((reading.until - before + _BEHIND) * rate - begin) * channels
    while error is None:
        buffer = np.empty((max(1, min(size, _BLOCK) // channels // PIECE) * PIECE, channels), np.float32)
        try:
            block = sound.read(out=buffer)
        except Exception as raised:
            error, block = raised, buffer[: max(0, sound.tell() - found)]
        if not len(block):
            break
        found += len(block)
        size = _BLOCK if reading.until is None else _SMALL_BLOCK
        if may_be_infinite:
            check_finite(reading.name, block)
        if len(mono := mixer.feed(block)):
            yield mono
    if len(rest := mixer.flush()):
        yield rest
    reading.note_cancelled(mixer.cancelled / rate)
    _check_end(sound, part, reading, found, before, error)


def _check_end(sound: Any, part: Part, reading: Reading, found: int, before: float, error: Exception | None) -> None:
    """Whether all of a part was read."""
    length, seconds = sound_length(sound, part), before + found / sound.samplerate
    if error is not None and part.length is None and length is not None and found >= length:
        if not part.left_over:  # decoders look beyond the last sample
            reading.note(
                f"{reading.name}: what lies behind second {seconds:.2f} is no part of its sound and is not read"
            )
    elif error is not None:
        of = f"it promises {length} samples and {found}" if length is not None else f"{found} samples"
        reading.harm(f"is damaged or truncated: {of} can be decoded", seconds, error)
    elif part.missing is not None:
        reading.harm(part.missing, seconds)
    elif part.length is not None and found < part.length - _SLACK:
        reading.harm(f"is damaged: its frames are of {part.length} samples and {found} can be decoded", seconds)
    elif part.length is None and length is not None and found < length:
        reading.harm(f"is truncated: it promises {length} samples and holds {found}", seconds)
    if part.note is not None:
        reading.note(f"{reading.name} {part.note}")
    if part.left_over:
        behind = f"{part.left_over} bytes behind second {seconds:.2f} are no part of its sound"
        if part.left_over > 4096:
            reading.harm(f"is damaged or joined from different files: {behind}", seconds)
        else:
            reading.note(f"{reading.name}: {behind} and are not read")
