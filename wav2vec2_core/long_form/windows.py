"""Recordings of any length through a model, with memory that does not grow.

The feature encoder sees 25 ms at a time, so it is computed in tiles and equals one pass exactly: a first reading
gathers what depends on the whole recording (its level, and the statistics of its windows for models with group norm), a
second one encodes. The transformer sees everything at once; it runs in windows that overlap, and of each only the
middle, which has context on both sides, is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Self

import numpy as np

from wav2vec2_core.backend import InferenceModel
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import AudioError, InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.long_form.signal_statistics import SignalStatistics

#: Samples encoded at a time, in seconds.
_TILE = 30.0


@dataclass(frozen=True)
class Window:
    """How the transformer sees a long recording; all in seconds.

    A window of the default lasts 36 seconds: it costs a fifth more than one pass over half a minute, and no kept frame
    has less than ``context`` on either side.

    keep: of each window, the middle; context: on either side of it, computed and dropped; legacy: transformers' way,
    chunks of ``keep + 2 * context`` that are normalised by themselves (``chunk_length_s``; ``context`` is
    ``stride_length_s``), numbers that depend on the cuts; after: context after the middle of a legacy window, where it
    is another than before.
    """

    keep: float = 30.0
    context: float = 3.0
    legacy: bool = False
    after: float | None = None

    def __post_init__(self) -> None:
        if self.after is not None and not (self.legacy and 0 <= self.after < float("inf")):
            raise InputError(f"after={self.after!r:.100} must be 0 or more, and is for legacy windows alone")
        if not (0 < self.keep < float("inf") and 0 <= self.context < float("inf")):
            raise InputError(
                f"a window that keeps {self.keep} s with {self.context} s of context is not possible: "
                "keep more than 0, with 0 or more on either side"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """``auto``, ``SECONDS`` or ``SECONDS:CONTEXT`` in all and on either side, ``legacy`` before them or alone.

        The context is a sixth of the window where it is not given, as in transformers. Raises ``InputError``.
        """
        if text == "auto":
            return cls()
        kind, _, numbers = text.partition(":") if text.startswith("legacy") else ("", "", text)
        length, _, context = (numbers or ("30" if kind else "")).partition(":")
        try:
            seconds = float(length)
            either = float(context) if context else seconds / 6
        except ValueError as error:
            raise InputError(
                f"window {text!r:.100} is unknown: use auto, SECONDS[:CONTEXT] or legacy[:SECONDS[:CONTEXT]]"
            ) from error
        if not either * 2 < seconds:
            raise InputError(f"window {text!r} has more context than length: give less than half of it on either side")
        return cls(seconds - 2 * either, either, legacy=kind == "legacy")

    @property
    def longest(self) -> float:
        """Recordings up to this many seconds go in one pass."""
        return self.keep + (2 * self.context if self.after is None else self.context + self.after)

    def frames(self, config: Wav2Vec2Config, sampling_rate: int) -> tuple[int, int]:
        """``keep`` and ``context`` in encoder frames, multiples of what one frame of the logits covers."""
        unit = logit_stride(config)
        second = sampling_rate / (config.inputs_to_logits_ratio * unit)
        return max(1, round(self.keep * second)) * unit, round(self.context * second) * unit


@dataclass(frozen=True)
class FeatureWindow:
    """A stretch of encoder frames for the transformer, and which of them count.

    features: (frames, conv_dim[-1]); start: number of its first frame in the recording; first, last: the frames kept,
    from ``first`` up to ``last``, counted from ``start``.
    """

    features: np.ndarray
    start: int
    first: int
    last: int

    def kept(self, config: Wav2Vec2Config, scores: np.ndarray, *, axis: int = 0) -> np.ndarray:
        """What was computed for the window, cut along ``axis`` to the frames that are kept; after an adapter too."""
        unit = logit_stride(config)
        last = None if self.last == len(self.features) else self.last // unit
        index = [slice(None)] * scores.ndim
        index[axis] = slice(self.first // unit, last)
        return scores[tuple(index)]


class FeatureStream:
    """Frames of the feature encoder as samples come, exactly those of one pass over all of them."""

    def __init__(self, model: InferenceModel, level: SignalStatistics, tile: int) -> None:
        """``level``: normalises the samples, and may still change; ``tile``: frames encoded at a time."""
        self.level = level
        self._model, self._tile = model, tile
        self._hop, self._field = model.config.inputs_to_logits_ratio, model.config.receptive_field
        self._rest: list[np.ndarray] = []
        self._held = 0

    def feed(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """The next (samples,) -> (frames, conv_dim[-1]) of every tile that is whole."""
        self._rest.append(samples)
        self._held += len(samples)
        while self._frames >= self._tile:
            yield self._encode(self._tile)

    def flush(self) -> Iterator[np.ndarray]:
        """(frames, conv_dim[-1]) of the frames that are whole, if there are any."""
        if self._frames > 0:
            yield self._encode(self._frames)

    @property
    def _frames(self) -> int:
        return (self._held - self._field) // self._hop + 1

    def _encode(self, frames: int) -> np.ndarray:
        samples = np.concatenate(self._rest)
        used, rest = samples[: (frames - 1) * self._hop + self._field], samples[frames * self._hop :].copy()
        self._rest, self._held = [rest], len(rest)
        statistics = self.level.statistics()
        return self._model.encode([self.level.normalise(used)], None if statistics is None else [statistics])[0]


class WindowCutter:
    """Cuts frames of the feature encoder, as they come, into windows that overlap."""

    def __init__(self, keep: int, context: int) -> None:
        """Both in frames."""
        self.keep, self.context = keep, context
        self._features: np.ndarray | None = None
        self._start = 0  # number of the first frame held
        self._done = 0  # frames that windows have kept

    def feed(self, features: np.ndarray) -> Iterator[FeatureWindow]:
        """The next (frames, conv_dim[-1]) -> windows that are whole; what fits into one more is held back."""
        self._features = features if self._features is None else np.concatenate([self._features, features])
        while self._start + len(self._features) - self._done > self.keep + 2 * self.context:
            first = self._done - self._start
            last = first + self.keep
            yield FeatureWindow(self._features[: last + self.context], self._start, first, last)
            self._done += self.keep
            dropped = max(0, self._done - self.context - self._start)
            self._features, self._start = self._features[dropped:], self._start + dropped

    def finish(self) -> Iterator[FeatureWindow]:
        """No frames follow: the last window, if frames are left."""
        if self._features is not None and self._start + len(self._features) > self._done:
            yield FeatureWindow(self._features, self._start, self._done - self._start, len(self._features))


def logit_stride(config: Wav2Vec2Config) -> int:
    """Encoder frames for each frame of the logits: 1, more with a convolutional adapter."""
    return config.adapter_stride**config.num_adapter_layers if config.add_adapter else 1


def feature_windows(
    model: InferenceModel, blocks: Iterable[np.ndarray], level: SignalStatistics, window: Window, sampling_rate: int
) -> Iterator[FeatureWindow]:
    """Windows for the transformer over a recording of any length.

    Args:
        model: encodes, exactly.
        blocks: (samples,) each, of the whole recording.
        level: of the whole recording.
        window: how to cut.
        sampling_rate: hertz.

    Raises:
        AudioError: from ``blocks``; where the recording is shorter than one frame there is no window and no error.
    """
    stream = FeatureStream(model, level, max(1, round(_TILE * sampling_rate / model.config.inputs_to_logits_ratio)))
    cutter = WindowCutter(*window.frames(model.config, sampling_rate))
    for block in blocks:
        for features in stream.feed(block):
            yield from cutter.feed(features)
    for features in stream.flush():
        yield from cutter.feed(features)
    yield from cutter.finish()


def logit_blocks(
    model: InferenceModel,
    extractor: Wav2Vec2FeatureExtractor,
    blocks: Iterable[np.ndarray],
    *,
    window: Window | None = None,
    level: SignalStatistics | None = None,
    batch_seconds: float = 0.0,
) -> Iterator[np.ndarray]:
    """The logits of a recording of any length, in consecutive pieces, in bounded memory.

    Args:
        model: a CTC model or another one with a vector for each frame.
        extractor: of the model.
        blocks: (samples,) float32 each at the model's rate; read twice unless ``level`` is given, so a ``Recording`` or
            a list of arrays, not a generator.
        window: how the transformer sees it; the default where ``None``.
        level: statistics of the whole recording, if already computed.
        batch_seconds: windows up to as many seconds go through the transformer together, at least one.

    Returns:
        (frames, vocab) float32 each; joined, they have as many frames as one pass.

    Raises:
        AudioError: from ``blocks``, or the recording is shorter than the model's receptive field.
    """
    window = window or Window()
    rate = extractor.sampling_rate
    if window.legacy:
        yield from _legacy_blocks(model, extractor, blocks, window, batch_seconds)
        return
    if level is None:
        if iter(blocks) is blocks:
            raise InputError("blocks are a generator, which can be read but once: pass a Recording or a list")
        level = SignalStatistics.of(model.config, extractor, blocks)
    if level.count < model.config.receptive_field:
        raise too_short("the recording", level.count, model.config, rate)
    most = int(batch_seconds * rate / model.config.inputs_to_logits_ratio)
    for parts in grouped(feature_windows(model, blocks, level, window, rate), most):
        scores = model.contextualize([part.features for part in parts])
        for part, score in zip(parts, scores, strict=True):
            yield part.kept(model.config, score)


def grouped(windows: Iterable[FeatureWindow], most: int) -> Iterator[list[FeatureWindow]]:
    """Windows that follow each other, as many together as have ``most`` frames, at least one."""
    group: list[FeatureWindow] = []
    frames = 0
    for window in windows:
        if group and frames + len(window.features) > most:
            yield group
            group, frames = [], 0
        group.append(window)
        frames += len(window.features)
    if group:
        yield group


def recording_logits(
    model: InferenceModel,
    extractor: Wav2Vec2FeatureExtractor,
    blocks: Iterable[np.ndarray],
    *,
    window: Window | None = None,
) -> np.ndarray:
    """``logit_blocks`` joined: (frames, vocab) float32 of a recording of any length. Raises the same."""
    return np.concatenate(list(logit_blocks(model, extractor, blocks, window=window)))


def too_short(name: object, samples: int, config: Wav2Vec2Config, sampling_rate: int) -> AudioError:
    """The error about a recording that is shorter than one frame."""
    return AudioError(
        f"{name} has {samples} samples at {sampling_rate} Hz, the model needs at least {config.receptive_field}: "
        "use a longer recording"
    )


def _legacy_blocks(
    model: InferenceModel,
    extractor: Wav2Vec2FeatureExtractor,
    blocks: Iterable[np.ndarray],
    window: Window,
    batch_seconds: float,
) -> Iterator[np.ndarray]:
    """The numbers of transformers' pipeline with ``chunk_length_s`` and ``stride_length_s``."""
    hop, rate = model.config.inputs_to_logits_ratio, extractor.sampling_rate
    length, left, right = (
        round(seconds * rate / hop) * hop
        for seconds in (window.longest, window.context, window.context if window.after is None else window.after)
    )
    if length <= left + right:
        raise InputError(
            f"chunks of {window.longest:g} s keep nothing beside their strides: use longer chunks or shorter strides"
        )
    cuts = _usable(_chunks(blocks, length, left, right), model.config, rate)
    for group in _batches(cuts, max(1, int(batch_seconds * rate / length))):
        values = [
            extractor([chunk], sampling_rate=rate, return_tensors="np")["input_values"][0] for chunk, _, _ in group
        ]
        for (chunk, before, after), logits in zip(group, model.logits(values), strict=True):
            # As many frames as the chunk has hops, one more than the model gives, are what transformers counts from.
            whole = round(len(chunk) / hop)
            yield logits[round(before / len(chunk) * whole) : whole - round(after / len(chunk) * whole)]


#: Samples, and how many of them count for nothing at their beginning and at their end.
_Chunk = tuple[np.ndarray, int, int]


def _usable(chunks: Iterable[_Chunk], config: Wav2Vec2Config, rate: int) -> Iterator[_Chunk]:
    """Chunks up to a last one that is shorter than one frame. Raises ``AudioError`` where that is the only one."""
    for chunk, before, after in chunks:
        if len(chunk) < config.receptive_field:
            if before == 0:
                raise too_short("the recording", len(chunk), config, rate)
            return
        yield chunk, before, after


def _batches(chunks: Iterator[_Chunk], most: int) -> Iterator[list[_Chunk]]:
    while group := list(islice(chunks, most)):
        yield group


def _chunks(blocks: Iterable[np.ndarray], length: int, left: int, right: int) -> Iterator[_Chunk]:
    """Chunks of (length,) that overlap by ``left + right``, with the samples that count for nothing on either side."""
    held, before = np.zeros(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > length:
            yield held[:length], before, right
            held, before = held[length - left - right :], left
    if len(held) > before or before == 0:
        yield held, before, 0
