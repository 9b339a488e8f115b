"""Shared by all pipelines: a model that is loaded once, and the recordings read for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np

from wav2vec2_core.audio import Recording
from wav2vec2_core.audio.prefetching import prefetched
from wav2vec2_core.backend import InferenceModel, load_backend
from wav2vec2_core.decoding import Timeline
from wav2vec2_core.errors import AudioError, InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.long_form.signal_statistics import SignalStatistics
from wav2vec2_core.long_form.windows import FeatureWindow, Window, feature_windows, logit_blocks, too_short
from wav2vec2_core.source import ModelSource

#: A recording as pipelines accept it: the path of a file, samples with their rate in hertz, or a ``Recording``.
Audio = str | os.PathLike[str] | tuple[np.ndarray, int] | Recording

#: Called with the seconds of audio processed since the last call.
Progress = Callable[[float], None]

#: Recordings, or blocks of a long one, that are read while the model runs.
AHEAD = 4


@dataclass(frozen=True)
class Prepared:
    """A recording after its first reading.

    samples: in all; waveform: normalised, of a recording that goes in one pass; level: of a longer one.
    """

    recording: Recording
    samples: int
    waveform: np.ndarray | None = None
    level: SignalStatistics | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model with its feature extractor and its timeline."""

    model: InferenceModel
    extractor: Wav2Vec2FeatureExtractor
    timeline: Timeline

    @classmethod
    def load(
        cls,
        source: ModelSource,
        *,
        head: str = "ForCTC",
        backend: str = "torch",
        device: str = "auto",
        dtype: str = "float32",
        language: str | None = None,
        extractor: Wav2Vec2FeatureExtractor | None = None,
    ) -> Self:
        """Load a model for inference from a source that is already open.

        Args:
            source: of ``open_model``; a hub is asked for the list of the model's files once.
            head: which head, a key of ``parameters.HEADS``.
            backend: ``torch``, ``tf`` or ``flax``.
            device, dtype: as the back end names them.
            language: an MMS adapter.
            extractor: the model's, where it was read already.

        Raises:
            CheckpointError, InputError, BackendError: the model or the back end cannot be used.
        """
        inference = load_backend(backend).inference
        extractor = extractor or Wav2Vec2FeatureExtractor.from_source(source)
        model = inference.load_model(source, head=head, device=device, dtype=dtype, language=language)
        return cls(model, extractor, Timeline.of(model.config, extractor.sampling_rate))

    def open(self, audio: Audio) -> Recording:
        """Open a recording at the model's rate. Raises ``AudioError``, and ``InputError`` for anything else."""
        return Recording.wrap(audio).at(self.extractor.sampling_rate)

    def statistics(self, recording: Recording) -> SignalStatistics:
        """The first reading of a recording.

        Raises:
            AudioError: it cannot be read, or is shorter than one frame.
        """
        statistics = SignalStatistics.of(self.model.config, self.extractor, recording)
        if statistics.count < self.model.config.receptive_field:
            raise too_short(recording.name, statistics.count, self.model.config, self.extractor.sampling_rate)
        return statistics

    def prepare(self, recording: Recording, window: Window) -> Prepared:
        """The first reading of a recording: whole if it is short, for its statistics otherwise.

        Raises:
            AudioError: it cannot be read, or is shorter than one frame.
        """
        config, extractor = self.model.config, self.extractor
        limit = int(window.longest * extractor.sampling_rate)
        blocks, taken, samples = iter(recording), [], 0
        for block in blocks:
            taken.append(block)
            samples += len(block)
            if samples > limit:
                break
        if samples > limit:
            whole = chain(taken, blocks)
            if window.legacy:  # its chunks are normalised one by one
                return Prepared(recording, samples + sum(map(len, blocks)))
            level = SignalStatistics.of(config, extractor, whole)
            return Prepared(recording, level.count, level=level)
        if not taken:
            raise AudioError(f"{recording.name} holds no samples: record or export it again")
        if samples < config.receptive_field:
            raise too_short(recording.name, samples, config, extractor.sampling_rate)
        values = extractor(np.concatenate(taken), sampling_rate=extractor.sampling_rate, return_tensors="np")
        return Prepared(recording, samples, waveform=values["input_values"][0])

    def logits(self, prepared: Sequence[Prepared], window: Window, batch_seconds: float = 0.0) -> list[np.ndarray]:
        """Scores of the frames of recordings of any length, (frames, vocab) float32 each; short ones go together.

        ``window``: that of ``prepare``; ``batch_seconds``: windows of a long recording that go together.
        Raises ``AudioError``.
        """
        waveforms = [one.waveform for one in prepared if one.waveform is not None]
        together = iter(self.model.logits(waveforms) if waveforms else [])
        return [
            next(together)
            if one.waveform is not None
            else np.concatenate(list(self.long_logits(one, one.recording, window, batch_seconds)))
            for one in prepared
        ]

    def long_logits(
        self, prepared: Prepared, blocks: Iterable[np.ndarray], window: Window, batch_seconds: float = 0.0
    ) -> Iterator[np.ndarray]:
        """``logit_blocks`` of a recording without ``waveform``, from its second reading. Raises ``AudioError``."""
        return logit_blocks(
            self.model, self.extractor, blocks, window=window, level=prepared.level, batch_seconds=batch_seconds
        )

    def windows(
        self, recording: Recording, window: Window, statistics: SignalStatistics, progress: Progress | None = None
    ) -> Iterator[FeatureWindow]:
        """The second reading: windows of encoder frames for the transformer, read ahead of it.

        Args:
            recording: as ``open`` returns it.
            window: how to cut.
            statistics: of the recording.
            progress: called with the seconds of a window once the caller asks for the next.

        Raises:
            AudioError: the recording cannot be read.
        """
        rate, hop = self.extractor.sampling_rate, self.model.config.inputs_to_logits_ratio
        reading = prefetched(recording, AHEAD)
        try:
            for part in feature_windows(self.model, reading, statistics, window, rate):
                yield part
                if progress is not None:
                    progress((part.last - part.first) * hop / rate)
        finally:
            reading.close()


def exact_window(window: Window | None) -> Window:
    """The window, or the default one. Raises ``InputError`` for the legacy kind, which is for text alone."""
    if window is not None and window.legacy:
        raise InputError("legacy windows are for transcripts: use auto or SECONDS[:CONTEXT]")
    return window or Window()
