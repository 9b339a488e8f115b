"""The interface of a task: what a head learns from which column of the data, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wav2vec2_core.audio import Recording
from wav2vec2_core.checkpoint import Checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.checking import Labels, Row
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.errors import AudioError, InputError, listed
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.pipeline import Progress
from wav2vec2_core.source import ModelSource


@dataclass(frozen=True)
class Scores:
    """An evaluation.

    values: name -> a share, in the order in which people read them; ranking: numbers of which the lower ones are
    better, the first counting most; begun: False where the model is no better than before it learned anything; stuck:
    what the model does instead, as a clause, where it answers everything alike.
    """

    values: Mapping[str, float]
    ranking: tuple[float, ...]
    begun: bool = True
    stuck: str = ""

    def __str__(self) -> str:
        """``WER 12.30%, CER 4.50%``."""
        return ", ".join(f"{score_name(name)} {value:.2%}" for name, value in self.values.items())


def score_name(name: str) -> str:
    """The name of a score as people write it: ``WER``, ``accuracy``."""
    return name.upper() if len(name) <= 3 else name


@dataclass(frozen=True)
class Measured:
    """A score of a finished model, a share, and the middle 95 % of those of resampled test sets."""

    value: float
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        """``12.30% (95 % of resamples: 10.10% to 14.70%)``."""
        return f"{self.value:.2%}" + (
            "" if self.interval is None else " (95 % of resamples: {:.2%} to {:.2%})".format(*self.interval)
        )


@dataclass(frozen=True)
class Tested:
    """How well a saved model does. how: it was decoded, where that can be done in several ways; scores: by name;
    utterances: that were scored; failed: those that could not be read."""

    how: str
    scores: Mapping[str, Measured]
    utterances: int
    failed: int = 0

    def __str__(self) -> str:
        """``WER 12.30% (95 % of resamples: ...), CER ...``, and how."""
        scores = ", ".join(f"{score_name(name)} {score}" for name, score in self.scores.items())
        return scores + (f", {self.how}" if self.how else "")


@dataclass(frozen=True)
class OpenedModel:
    """The files of the model that a run starts from, and the seed of what they lack."""

    source: ModelSource
    config: Wav2Vec2Config
    checkpoint: Checkpoint
    seed: int = 0


class Job(Protocol):
    """A task with a model and data.

    head: the class without ``Wav2Vec2``; output: the field of its output that is scored; frozen: what is never trained,
    see ``parameters.trainable_names``; notes: what to tell the user before training; config: of the model to be
    trained; checkpoint: what it starts from, without what does not fit; feature_extractor, labels: of the data.
    """

    head: str
    output: str
    frozen: str
    notes: tuple[str, ...]
    config: Wav2Vec2Config
    checkpoint: Checkpoint
    feature_extractor: Wav2Vec2FeatureExtractor
    labels: Labels

    def counts(self, rows: int) -> np.ndarray:
        """Zeros in which an evaluation of so many rows counts; those of several processes are added."""
        ...

    def count(self, number: int, row: Row, output: np.ndarray, counts: np.ndarray) -> None:
        """Add what was found for a row, the ``number``-th of the evaluation."""
        ...

    def scores(self, rows: Sequence[Row], counts: np.ndarray) -> Scores:
        """The scores from the counts of all rows."""
        ...

    def save(self, folder: Path) -> Sequence[str]:
        """Write what a model needs beside its weights and configuration; returns notes for the user.

        Raises:
            OutputError: a file cannot be written.
        """
        ...


class Task(Protocol):
    """What is to be learned. ``name``: as the command calls it."""

    name: str

    def options(self) -> dict[str, Any]:
        """What distinguishes two runs of this task, JSON-ready."""
        ...

    def prepare(self, model: OpenedModel, train: Sequence[Utterance]) -> Job:
        """Fit the task to a model and the rows to be trained on.

        Raises:
            InputError: the model or the rows cannot serve it.
        """
        ...

    def test(
        self, model: Path, rows: Sequence[Row], *, backend: str, device: str, progress: Progress | None = None
    ) -> list[Tested]:
        """Score a saved model of this task as the commands use it: on its own, in float32.

        Args:
            model: its folder.
            rows: those that can be scored.
            backend, device: where to compute.
            progress: called with the seconds of audio that were processed since the last call.

        Raises:
            CheckpointError, BackendError: the model cannot be used.
            InputError: no recording can be read any more, or they cannot be scored.
        """
        ...


def results_of(rows: Sequence[Row], apply: Callable[[Recording], Any]) -> tuple[list[Row], list[Any]]:
    """What ``apply`` makes of every recording that can still be read: the rows, and the result for each.

    Raises:
        InputError: none can be read.
    """
    read: list[Row] = []
    results: list[Any] = []
    failure: AudioError | None = None
    for row in rows:
        try:
            results.append(apply(row.utterance.recording()))
            read.append(row)
        except AudioError as error:
            failure = error
    if not read:
        raise InputError(f"none of {len(rows)} recordings can be read: {failure}")
    return read, results


def new_head(checkpoint: Checkpoint, names: Collection[str]) -> Checkpoint:
    """The checkpoint without these parameters of a head, so that they start anew."""
    return checkpoint.changed({}, without=[name for name in names if name in checkpoint.shapes])


def classes_among(train: Sequence[Utterance], names: Collection[str], column: str) -> tuple[str, ...]:
    """The classes of the data in order, numbers by size.

    Raises:
        InputError: there are none, or only one.
    """
    if len(names) < 2:
        known = sorted({name for utterance in train[:1000] for name in utterance.columns} - {column})
        there = f"only {next(iter(names))!r:.100}" if names else "nothing"
        raise InputError(
            f"column {column!r:.100} of the training data holds {there}: at least 2 classes are needed; "
            + (f"choose another --column, of {listed(known)}" if known else "there is no other column of labels")
        )
    return tuple(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))
