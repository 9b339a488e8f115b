"""One reading of a recording: the options of the readers, and what they report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from wav2vec2_core.audio.mixing import Mixer, channel_number
from wav2vec2_core.audio.resampling import MAX_RATE
from wav2vec2_core.errors import AudioError, Wav2Vec2Error

_LOWEST_RATE = 1000  # hertz; speech ends at several times that
_MOST_CHANNELS = 256


@dataclass(frozen=True)
class Damage:
    """What ``on_damage="keep"`` left out: seconds of the recording that could be read, and why not more."""

    seconds: float
    reason: str


@dataclass(frozen=True)
class Run:
    """Blocks of one rate: (samples,) float32, mono, from sample ``begin`` of the run on."""

    rate: int
    begin: int
    blocks: Iterator[np.ndarray]


@dataclass
class Reading:
    """The options of a reading, and its notes and damage.

    Attributes:
        name: of the recording, for messages.
        channel: "mix", "left", "right" or a number.
        track: a number, a language, or ``None``.
        keep: whether what can be read of a damaged recording is kept.
        first_needed: rate -> the sample at that rate that a stretch begins with.
        until: seconds behind which nothing is needed, ``None`` for the end.
        notes, damage, rate: as ``notes``, ``damage`` and ``original_rate`` of ``Recording``.
    """

    name: str
    channel: str | int = "mix"
    track: int | str | None = None
    keep: bool = False
    first_needed: Callable[[int], int] = lambda rate: 0
    until: float | None = None
    notes: list[str] = field(default_factory=list)
    damage: Damage | None = None
    rate: int | None = None

    def harm(self, reason: str, seconds: float, cause: BaseException | None = None) -> None:
        """Raise ``AudioError`` with ``reason`` ("is truncated: ..."), or keep what was read and remember why."""
        if not self.keep:
            raise AudioError(
                f"{self.name} {reason}; download or export it again, or keep what can be read (--on-damage keep)"
            ) from cause
        if self.damage is None:
            self.damage = Damage(round(seconds, 3), reason)
            self.note(f"{self.name} {reason}; {seconds:.2f} s could be read")

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def mixer(self, channels: int) -> Mixer:
        """For a run of so many channels. Raises ``AudioError`` where it has not the one that is asked for."""
        if (channel_number(self.channel) or 0) >= channels:
            has = "1 channel" if channels == 1 else f"{channels} channels"
            raise AudioError(f"{self.name} has {has}: there is no channel {self.channel}; they count from 0")
        return Mixer(self.channel)

    def note_cancelled(self, seconds: float) -> None:
        if seconds > 0:
            self.note(
                f"{self.name}: its channels cancel each other when they are averaged; for {seconds:.2f} s one of them "
                "is read instead (choose it with channel left or right)"
            )


def check_form(name: str, rate: int, channels: int) -> None:
    """Refuse impossible rates and channel counts before anything is allocated. Raises ``AudioError``."""
    if not _LOWEST_RATE <= rate <= MAX_RATE:
        raise AudioError(
            f"{name} states a rate of {rate} Hz, a recording has {_LOWEST_RATE} to {MAX_RATE}: export it again"
        )
    if not 1 <= channels <= _MOST_CHANNELS:
        raise AudioError(
            f"{name} states {channels} channels, at most {_MOST_CHANNELS} are read: export those that matter"
        )


def check_finite(name: str, block: np.ndarray) -> np.ndarray:
    """Raises ``AudioError`` for samples that are NaN or infinite."""
    if not np.isfinite(block).all():
        raise AudioError(f"{name} holds samples that are NaN or infinite: export it again")
    return block


@contextmanager
def any_error_as_audio_error(name: str) -> Iterator[None]:
    """Convert any exception of a decoder to an ``AudioError`` that names the recording."""
    try:
        yield
    except Wav2Vec2Error:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise AudioError(
            f"{name} cannot be read ({reason}): download or export it again, or convert it to wav or flac"
        ) from error
