"""Mono, and other rates: soxr's high quality filter over chunks of fixed places, so that a stretch can stand alone.

soxr filters blocks of a Fourier transform that begin where its stream began, and the last bits of a sample depend on
where. Here every chunk of a few seconds has a stream of its own, fed from a little before the chunk to a little after
it. A chunk's numbers then depend on nothing else, and a stretch is bit for bit the same samples of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil, gcd
from typing import NamedTuple

import numpy as np

from wav2vec2_core.errors import InputError

MAX_RATE = 1_048_575  # hertz, the highest that FLAC can state
_CHUNK = 80_000  # samples at the higher rate that a chunk holds at least: a new stream costs 50 microseconds
_CONTEXT = 200  # samples at the lower rate around a chunk; the filter reaches less than 100


class _Chunks(NamedTuple):
    """Samples of a chunk and of its context at either rate."""

    into: int
    out: int
    context: int
    context_out: int


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


# ---- checks ---------------------------------------------------------------------------------------------------------


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample (samples,) float32 with soxr's high quality filter; rates are in hertz.

    Raises:
        InputError: a rate is not a positive integer.
    """
    check_rate(from_rate, "from_rate")
    check_rate(to_rate, "to_rate")
    samples = np.asarray(samples, np.float32)
    if from_rate == to_rate or samples.size == 0:
        return samples
    return np.concatenate([*resample_blocks([samples], from_rate, to_rate), np.zeros(0, np.float32)])


def resample_blocks(
    blocks: Iterable[np.ndarray], from_rate: int, to_rate: int, *, first: int = 0
) -> Iterator[np.ndarray]:
    """``resample`` of (samples,) blocks that follow each other: the same numbers, whatever their lengths.

    Args:
        blocks: from sample 0, or from ``resampling_start(...).into`` on.
        from_rate, to_rate: in hertz.
        first: the chunk that ``resampling_start`` named; results begin where it begins.

    Raises:
        InputError: a rate is not a positive integer.
    """
    resampler = Resampler(from_rate, to_rate, first=first)
    for block in blocks:
        yield from resampler.feed(block)
    yield from resampler.finish()


class Resampler:
    """``resample_blocks`` for blocks that come one by one."""

    def __init__(self, from_rate: int, to_rate: int, *, first: int = 0) -> None:
        """Arguments and errors as of ``resample_blocks``."""
        check_rate(from_rate, "from_rate")
        check_rate(to_rate, "to_rate")
        rates = int(from_rate), int(to_rate)
        self._stream = None if rates[0] == rates[1] else _Stream(*rates, _chunks(*rates), first)

    def feed(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """The next (samples,); what is ready."""
        if self._stream is None:
            yield block
            return
        block = np.ascontiguousarray(block, np.float32)
        while len(block):
            taken, ready = self._stream.feed(block)
            block = block[taken:]
            if len(ready):
                yield ready
            if self._stream.is_full:
                yield from self._next(self._stream)

    def finish(self) -> Iterator[np.ndarray]:
        """No more samples follow: the rest."""
        if self._stream is None:
            return
        if self._stream.has_more:
            yield from self._next(self._stream)
        yield from self._stream.finish()

    def _next(self, stream: _Stream) -> Iterator[np.ndarray]:
        yield from stream.finish()
        self._stream, ready = stream.following()
        if len(ready):
            yield ready


class Start(NamedTuple):
    """``into``: the sample to read first; ``chunk``: its number; ``out``: the first sample that comes out."""

    into: int
    chunk: int
    out: int


def resampling_start(sample: int, from_rate: int, to_rate: int) -> Start:
    """Where to begin reading so that ``sample`` of the result is exact."""
    if from_rate == to_rate:
        return Start(sample, 0, sample)
    chunks = _chunks(from_rate, to_rate)
    chunk = sample // chunks.out
    return Start(max(0, chunk * chunks.into - chunks.context), chunk, chunk * chunks.out)


def check_rate(rate: int, name: str) -> None:
    """Raises ``InputError`` unless ``rate`` is a positive integer of a possible size."""
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or rate <= 0:
        raise InputError(f"{name}={str(rate)[:100]!r:.100} must be a positive integer number of hertz")
    if rate > MAX_RATE:
        raise InputError(f"{name}={str(rate)[:100]} must be at most {MAX_RATE} hertz")


class _Stream:
    """The chunk of one number through soxr."""

    def __init__(self, from_rate: int, to_rate: int, chunks: _Chunks, number: int) -> None:
        import soxr

        self._rates, self._chunks, self._number = (from_rate, to_rate), chunks, number
        self._soxr = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
        self._skip, self._left = (chunks.context_out if number else 0), chunks.out
        self._fed, self._room = 0, (chunks.context if number else 0) + chunks.into + chunks.context
        self._tail: list[np.ndarray] = []  # what the next chunk begins with

    @property
    def is_full(self) -> bool:
        return self._fed == self._room

    @property
    def has_more(self) -> bool:
        """Whether samples of the next chunk have arrived."""
        return self._fed > self._room - self._chunks.context

    def feed(self, block: np.ndarray) -> tuple[int, np.ndarray]:
        """How many samples of the block were taken, and what came out."""
        block = block[: min(self._room - self._fed, self._chunks.into)]
        shared = self._room - 2 * self._chunks.context
        if self._fed + len(block) > shared:
            self._tail.append(block[max(0, shared - self._fed) :])
        self._fed += len(block)
        return len(block), self._kept(self._soxr.resample_chunk(block))

    def finish(self) -> Iterator[np.ndarray]:
        """The rest of the chunk."""
        if len(rest := self._kept(self._soxr.resample_chunk(np.zeros(0, np.float32), last=True))):
            yield rest

    def following(self) -> tuple[_Stream, np.ndarray]:
        """The stream of the next chunk, and what came out of it for the samples that both share."""
        stream = _Stream(*self._rates, self._chunks, self._number + 1)
        return stream, stream.feed(np.concatenate(self._tail))[1]

    def _kept(self, ready: np.ndarray) -> np.ndarray:
        skipped = min(self._skip, len(ready))
        ready = ready[skipped:][: self._left]
        self._skip, self._left = self._skip - skipped, self._left - len(ready)
        return ready


def _chunks(from_rate: int, to_rate: int) -> _Chunks:
    divisor = gcd(from_rate, to_rate)
    period, period_out = from_rate // divisor, to_rate // divisor
    periods = ceil(_CONTEXT * max(1, from_rate / to_rate) / period)
    context, context_out = periods * period, periods * period_out
    seconds = max(ceil(_CHUNK / max(from_rate, to_rate)), ceil(2 * context / from_rate))
    return _Chunks(seconds * from_rate, seconds * to_rate, context, context_out)
