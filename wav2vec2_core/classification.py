"""Labels and speaker vectors of recordings of any length, with any back end.

Long recordings go through the transformer in windows. How their parts become one answer:

- utterance labels (``ForSequenceClassification``): the head pools frames by their mean before its last layers; the mean
  of the windows' means, weighted by their frames, is that of all frames, and goes through these layers once;
- frame labels (``ForAudioFrameClassification``): windows overlap, and each frame's logits come from the middle of one;
- speaker vectors (``ForXVector``): the mean of the windows' vectors, each scaled to length 1, weighted by their frames.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from wav2vec2_core.audio import Recording
from wav2vec2_core.backend import InferenceModel
from wav2vec2_core.checkpoint import open_checkpoint, open_model
from wav2vec2_core.checkpoint.emotion_heads import refused_head
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.decoding import Timeline
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.long_form.signal_statistics import SignalStatistics
from wav2vec2_core.long_form.windows import FeatureWindow, Window
from wav2vec2_core.parameters import head_of
from wav2vec2_core.pipeline import Audio, LoadedModel, Progress, exact_window
from wav2vec2_core.source import ModelSource

UTTERANCES, FRAMES, SPEAKERS = "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector"


@dataclass(frozen=True)
class Label:
    """A class of a recording and its probability; of a regression one of its outputs and the value."""

    name: str
    probability: float


@dataclass(frozen=True)
class LabelledSpan:
    """Frames that follow each other with the same label. start, end: seconds; probability: mean over the frames."""

    name: str
    start: float
    end: float
    probability: float


class Classifier:
    """A model with labels for recordings or frames, or with vectors for speakers."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        backend: str = "torch",
        device: str = "auto",
        dtype: str = "float32",
        local_files_only: bool = False,
        window: Window | None = None,
    ) -> None:
        """Load a model with the head that its checkpoint has; arguments as of ``Transcriber``.

        Raises:
            CheckpointError: no such model, or it classifies nothing.
            BackendError: the back end or the device is not available.
            InputError: the window is of the legacy kind.
        """
        window = exact_window(window)
        source = open_model(model, local_files_only=local_files_only)
        head = head_of_source(source)
        if head not in (UTTERANCES, FRAMES, SPEAKERS):
            raise CheckpointError(
                f"model {source.name!r} is a Wav2Vec2{head}, which has no labels: name one with a classification "
                f"head ({UTTERANCES}, {FRAMES}) or for speaker vectors ({SPEAKERS})"
            )
        self._take(LoadedModel.load(source, head=head, backend=backend, device=device, dtype=dtype), head, window)

    @classmethod
    def of(cls, loaded: LoadedModel, head: str) -> Self:
        """A classifier over a model that is loaded already with one of the three heads, with the default window."""
        made = cls.__new__(cls)
        made._take(loaded, head, Window())
        return made

    def _take(self, loaded: LoadedModel, head: str, window: Window) -> None:
        #: Name of the head.
        self.head = head
        self.window, self._loaded = window, loaded
        self.extractor: Wav2Vec2FeatureExtractor = loaded.extractor
        self.model: InferenceModel = loaded.model
        self.timeline = loaded.timeline

    @property
    def labels(self) -> list[str]:
        """Names in the order of the logits."""
        named = self.model.config.id2label or {}
        return [named[index] for index in sorted(named)]

    @property
    def is_regression(self) -> bool:
        """Whether the outputs are values, such as arousal, and not scores of classes."""
        return self.model.config.problem_type == "regression"

    def open(self, audio: Audio) -> Recording:
        """Open a recording at the model's rate. Raises ``AudioError``, and ``InputError`` for anything else."""
        return self._loaded.open(audio)

    def probabilities(self, recording: Audio, progress: Progress | None = None) -> np.ndarray:
        """(labels,) float64 of a recording: softmax, or a sigmoid each where the model's problem has several labels.

        A regression's values are returned as they are.

        Raises as ``scores``.
        """
        return self._as_probabilities(self.scores(recording, progress))

    def scores(
        self, recording: Audio, progress: Progress | None = None, *, statistics: SignalStatistics | None = None
    ) -> np.ndarray:
        """(labels,) float64 of a recording, before softmax or sigmoid.

        ``statistics``: of the recording, where its first reading is done.

        Raises:
            AudioError: the recording cannot be used.
            InputError: the model has no labels for whole recordings.
        """
        self._check(UTTERANCES, "labels of whole recordings")
        total, frames = np.zeros(1), 0
        for part, means in self._windows(recording, self._apart, self.model.pool, progress, statistics):
            total = total + means.astype(np.float64) * len(part.features)
            frames += len(part.features)
        return self.model.classify([(total / frames).astype(np.float32)])[0].astype(np.float64)

    def classify(self, recording: Audio, top: int | None = None, progress: Progress | None = None) -> list[Label]:
        """The most probable labels of a recording, best first, all or the ``top`` ones.

        Of a regression all outputs, in their own order. Raises as ``probabilities``.
        """
        if top is not None and top < 1:
            raise InputError(f"top={top} must be 1 or more")
        probabilities = self.probabilities(recording, progress)
        order = range(len(self.labels)) if self.is_regression else np.argsort(-probabilities, kind="stable")[:top]
        return [Label(self.labels[index], float(probabilities[index])) for index in order]

    def frame_probabilities(self, recording: Audio, progress: Progress | None = None) -> Iterator[np.ndarray]:
        """(frames, labels) float64 in consecutive pieces; softmax or sigmoid as ``probabilities``.

        Raises:
            AudioError: the recording cannot be used.
            InputError: the model has no labels for frames.
        """
        self._check(FRAMES, "labels of frames")
        for part, logits in self._windows(recording, self.window, self.model.contextualize, progress):
            yield self._as_probabilities(part.kept(self.model.config, logits).astype(np.float64))

    def spans(self, recording: Audio, progress: Progress | None = None) -> list[LabelledSpan]:
        """Stretches of the most probable label; of every label above one half where several may hold at a time.

        Times count from the start of the recording, also where only a stretch of it is read. Raises as
        ``frame_probabilities``.
        """
        opened = self.open(recording)
        timeline = self.timeline.starting_at(opened.start)
        tracks: dict[int, _Track] = {}
        done: list[LabelledSpan] = []
        frame = 0
        for block in self.frame_probabilities(opened, progress):
            for row in block:
                active = set(np.flatnonzero(row > 0.5).tolist()) if self._several else {int(row.argmax())}
                done += [
                    self._span(label, tracks.pop(label), frame, timeline) for label in sorted(tracks.keys() - active)
                ]
                for label in active:
                    track = tracks.setdefault(label, _Track(frame))
                    track.total += float(row[label])
                frame += 1
        done += [self._span(label, track, frame, timeline) for label, track in sorted(tracks.items())]
        return sorted(done, key=lambda span: (span.start, span.name))

    def speaker(self, recording: Audio, progress: Progress | None = None) -> np.ndarray:
        """(xvector_output_dim,) float32 of length 1: the speaker of a recording, to be compared by cosine.

        Raises:
            AudioError: the recording cannot be used.
            InputError: the model has no speaker vectors, or the recording is too short for its head.
        """
        self._check(SPEAKERS, "speaker vectors")
        parts = [
            _unit(vector.astype(np.float64)) * len(part.features)
            for part, vector in self._windows(recording, self._apart, self.model.embed, progress)
        ]
        return _unit(np.sum(parts, axis=0)).astype(np.float32)

    # ---- inside -------------------------------------------------------------------------------------------------

    @property
    def _apart(self) -> Window:
        """Windows of the same length side by side: a head that pools counts every frame once."""
        return Window(self.window.longest, 0.0)

    @property
    def _several(self) -> bool:
        return self.model.config.problem_type == "multi_label_classification"

    def _windows(
        self,
        recording: Audio,
        window: Window,
        apply: Callable[[Sequence[np.ndarray]], list[np.ndarray]],
        progress: Progress | None,
        statistics: SignalStatistics | None = None,
    ) -> Iterator[tuple[FeatureWindow, np.ndarray]]:
        """Yield every window of a recording with what a method of the model makes of it."""
        opened = self.open(recording)
        statistics = statistics or self._loaded.statistics(opened)
        for part in self._loaded.windows(opened, window, statistics, progress):
            yield part, apply([part.features])[0]

    def _as_probabilities(self, logits: np.ndarray) -> np.ndarray:
        if self.is_regression:
            return logits
        return sigmoid(logits) if self._several else softmax(logits)

    def _span(self, label: int, track: _Track, end: int, timeline: Timeline) -> LabelledSpan:
        seconds = timeline.seconds
        return LabelledSpan(self.labels[label], seconds(track.start), seconds(end), track.total / (end - track.start))

    def _check(self, head: str, wanted: str) -> None:
        if self.head != head:
            raise InputError(f"the model is a Wav2Vec2{self.head}, {wanted} come from a Wav2Vec2{head}: name one")


def softmax(scores: np.ndarray) -> np.ndarray:
    """(..., labels) of which one is right -> their probabilities."""
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """(..., labels) of which any may be right -> the probability of each."""
    return 1 / (1 + np.exp(-scores))


def head_of_source(source: ModelSource) -> str:
    """The head of an open model, a key of ``parameters.HEADS``. Raises ``CheckpointError``."""
    names = open_checkpoint(source).shapes
    refused = refused_head(names)
    if refused is not None:
        raise CheckpointError(f"model {source.name!r} {refused}")
    return head_of(Wav2Vec2Config.from_source(source).architectures, names)


@dataclass
class _Track:
    """A label in progress. start: its first frame; total: the sum of its probabilities."""

    start: int
    total: float = 0.0


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of two vectors, between -1 and 1."""
    return float(_unit(one.astype(np.float64)) @ _unit(other.astype(np.float64)))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
