"""Transcription of a stream as it arrives, in bounded memory.

Frames of the feature encoder are those of one pass over all samples so far: nothing is computed twice or at a border.
What depends on the whole recording uses what has been heard so far: normalisation, and statistics of group norm.
Where a model needs neither (layer norm in its feature encoder and ``do_normalize`` off), or where the signal
statistics of the stream are known beforehand, the frames are exactly those of one pass over the whole.

The transformer sees ``past`` seconds before and ``ahead`` seconds after the frames that become final, instead of
everything: text is stable once ``ahead`` more seconds have arrived and the decoder has made it final.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wav2vec2_core.decoding import Timeline, Word
from wav2vec2_core.decoding.greedy import text_of
from wav2vec2_core.errors import InputError
from wav2vec2_core.long_form.signal_statistics import SignalStatistics
from wav2vec2_core.long_form.windows import FeatureStream, logit_stride
from wav2vec2_core.pipeline import Audio
from wav2vec2_core.transcription import Transcriber


@dataclass(frozen=True)
class StreamUpdate:
    """The result of one call of ``feed``.

    stable: text that is final since the last call; partial: text after all stable text, which may still change;
    words: of ``stable``, with frames from the start of the stream.
    """

    stable: str = ""
    partial: str = ""
    words: tuple[Word, ...] = ()


#: The former name, kept for code that imports it.
Heard = StreamUpdate


class StreamingTranscriber:
    """Transcribes one stream; create a new one, with the same ``Transcriber``, for the next."""

    def __init__(
        self,
        transcriber: Transcriber,
        *,
        past: float = 12.0,
        ahead: float = 1.5,
        step: float = 0.5,
        level: SignalStatistics | None = None,
    ) -> None:
        """Start a stream.

        Args:
            transcriber: model, processor and decoder.
            past, ahead: seconds of context before and after the frames that become final.
            step: seconds of new audio after which the transformer runs again.
            level: statistics of the whole stream, if known; otherwise updated as samples arrive.

        Raises:
            InputError: a number of seconds is negative, or ``step`` is 0.
        """
        for name, value in (("past", past), ("ahead", ahead), ("step", step)):
            if not (value > 0 or (value == 0 and name != "step")) or value == float("inf"):
                raise InputError(f"{name}={value} is not possible: give a number of seconds")
        self._transcriber = transcriber
        self._model, self._tokenizer = transcriber.model, transcriber.processor.tokenizer
        config, rate = self._model.config, transcriber.timeline.sampling_rate
        self.timeline: Timeline = transcriber.timeline
        self._unit = logit_stride(config)
        frames = rate / config.inputs_to_logits_ratio
        self._past, self._ahead = (round(seconds * frames / self._unit) * self._unit for seconds in (past, ahead))
        self._step = max(1, round(step * frames / self._unit)) * self._unit
        self._known = level is not None
        self._level = level or SignalStatistics(config, transcriber.processor.feature_extractor)
        self._encoder = FeatureStream(self._model, self._level, self._step)
        self._decoder, self._words = transcriber.decoder, transcriber.decoder.stream()
        self._features = np.zeros((0, config.conv_dim[-1]), np.float32)
        self._start = 0  # number of the first frame held
        self._final = 0  # frames whose logits the decoder has
        self._open: list[np.ndarray] = []  # logits behind the last stable word
        self._partial = ""
        self._finished = False

    @property
    def seconds(self) -> float:
        """End of the final text, in seconds from the start of the recording."""
        return self.timeline.seconds(self._final // self._unit)

    def feed(self, samples: np.ndarray) -> StreamUpdate:
        """The next (samples,) at the model's rate, float, any number of them.

        Raises:
            InputError: the samples have another shape or are not finite, or the stream is finished.
        """
        samples = np.asarray(samples, np.float32)
        if self._finished:
            raise InputError("the stream is finished: make a new StreamingTranscriber for another one")
        if samples.ndim != 1:
            raise InputError(f"samples have shape {samples.shape}, (samples,) is needed: mix the channels first")
        if not np.isfinite(samples).all():
            raise InputError("samples hold NaN or infinite values: remove them")
        if not self._known:
            self._level.add(samples)
        stable: list[Word] = []
        fresh = 0
        for features in self._encoder.feed(samples):
            self._features = np.concatenate([self._features, features])
            fresh += len(features)
            if fresh >= self._past:  # a long call runs in windows
                stable += self._advance(last=False)
                fresh = 0
        if fresh:
            stable += self._advance(last=False)
        return StreamUpdate(text_of(stable, self._tokenizer), self._partial, tuple(stable))

    def updates(self, recording: Audio) -> Iterator[StreamUpdate]:
        """A whole recording as if it came in a stream, ``step`` seconds at a time, in place of ``feed`` and ``finish``.

        Args:
            recording: its path, a ``Recording``, or (samples, rate). Where it is a stretch, ``timeline`` counts from
                the start of the recording.

        Raises:
            AudioError: it cannot be read.
            InputError: the stream is finished.
        """
        opened = self._transcriber.open(recording)
        self.timeline = self.timeline.starting_at(opened.start)
        size = round(self._step * self.timeline.hop / self._unit)
        held = np.zeros(0, np.float32)
        for block in opened:
            held = np.concatenate([held, block])
            whole = len(held) // size * size
            for start in range(0, whole, size):
                yield self.feed(held[start : start + size])
            held = held[whole:]
        yield self.feed(held)
        yield self.finish()

    def finish(self) -> StreamUpdate:
        """End the stream; returns the text that was not stable yet. No more samples are accepted."""
        stable: list[Word] = []
        if not self._finished:
            self._finished = True
            for features in self._encoder.flush():
                self._features = np.concatenate([self._features, features])
            if self._start + len(self._features) > self._final:
                stable += self._advance(last=True)
            stable += self._words.finish()
        return StreamUpdate(text_of(stable, self._tokenizer), "", tuple(stable))

    def _advance(self, *, last: bool) -> list[Word]:
        """Run the transformer over what is held: words that are stable now. Looks at the others, too."""
        unit = self._unit
        total = self._start + len(self._features)
        final = total if last else max(self._final, (total - self._ahead) // unit * unit)
        logits = self._model.contextualize([self._features])[0]
        border = len(logits) if last else (final - self._start) // unit
        fresh = logits[(self._final - self._start) // unit : border]
        words = self._words.feed(fresh) if len(fresh) else []
        self._final = final
        dropped = max(0, final - self._past - self._start) // unit * unit
        self._features, self._start = self._features[dropped:], self._start + dropped
        self._look(fresh, logits[border:], words)
        return words

    def _look(self, fresh: np.ndarray, tail: np.ndarray, words: list[Word]) -> None:
        """Partial text: of the logits behind the last stable word (at most ``past`` of them) and of those not final."""
        held = np.concatenate([*self._open, fresh])
        start = self._final // self._unit - len(held)  # number of the first of them
        after = max(words[-1].end - start if words else 0, len(held) - self._past // self._unit, 0)
        self._open = [held[after:]]
        behind = np.concatenate([held[after:], tail])
        self._partial = text_of(self._decoder.decode(behind)[1], self._tokenizer) if len(behind) else ""
