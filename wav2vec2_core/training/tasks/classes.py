"""Classification of utterances and of frames, scored by accuracy and by the mean recall of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.audio import Recording
from wav2vec2_core.checkpoint import with_head_of
from wav2vec2_core.classification import Classifier
from wav2vec2_core.data.checking import Labels, Row
from wav2vec2_core.data.labels import ClassLabels, FrameLabels, class_of, segments_of
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.errors import InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.metrics import resampled_interval
from wav2vec2_core.parameters import parameter_table
from wav2vec2_core.pipeline import Progress
from wav2vec2_core.training.tasks.task import (
    Measured,
    OpenedModel,
    Scores,
    Tested,
    classes_among,
    new_head,
    results_of,
)


class Classification:
    """Learn the class of whole utterances: keyword, emotion, language ..."""

    name = "classify"

    def __init__(self, column: str = "label") -> None:
        """``column``: of the manifest, where the classes are."""
        self.column = column

    def options(self) -> dict[str, Any]:
        """The column."""
        return {"column": self.column}

    def prepare(self, model: OpenedModel, train: Sequence[Utterance]) -> ClassesJob:
        """Classes as the training data have them, or as the model has them where those are among its own.

        Raises:
            InputError: the data have fewer than two classes.
        """
        names = {class_of(utterance, self.column) for utterance in train} - {""}
        job = ClassesJob("ForSequenceClassification", model, classes_among(train, names, self.column))
        job.labels = ClassLabels(job.names, self.column, job.config)
        return job

    def test(
        self, model: Path, rows: Sequence[Row], *, backend: str, device: str, progress: Progress | None = None
    ) -> list[Tested]:
        """Accuracy and mean recall. Raises as ``Task.test``."""
        classifier = Classifier(model, backend=backend, device=device)

        def answers(recording: Recording) -> np.ndarray:
            return classifier.probabilities(recording, progress).argmax(-1)

        return [_tested(len(classifier.labels), rows, *results_of(rows, answers))]


class FrameClassification:
    """Learn the class of every frame, from stretches of time with labels: speech or not, who speaks when ..."""

    name = "frames"

    def __init__(self, column: str = "segments", rest: str | None = None) -> None:
        """``column``: of the manifest, where the stretches are; ``rest``: class of frames in none of them."""
        self.column, self.rest = column, rest

    def options(self) -> dict[str, Any]:
        """The column and the class of the rest."""
        return {"column": self.column, "rest": self.rest}

    def prepare(self, model: OpenedModel, train: Sequence[Utterance]) -> ClassesJob:
        """Classes of the training data, as ``Classification.prepare``. Raises ``InputError``."""
        names = set() if self.rest is None else {self.rest}
        for utterance in train:
            try:
                names |= {label for _, _, label in segments_of(utterance, self.column)}
            except InputError:
                continue  # such rows are found, and named, when the data are checked
        job = ClassesJob("ForAudioFrameClassification", model, classes_among(train, names, self.column))
        rate = job.feature_extractor.sampling_rate
        job.labels = FrameLabels(job.names, self.column, self.rest, job.config, rate)
        return job

    def test(
        self, model: Path, rows: Sequence[Row], *, backend: str, device: str, progress: Progress | None = None
    ) -> list[Tested]:
        """Accuracy and mean recall of frames. Raises as ``Task.test``."""
        classifier = Classifier(model, backend=backend, device=device)

        def answers(recording: Recording) -> np.ndarray:
            return np.concatenate([block.argmax(-1) for block in classifier.frame_probabilities(recording, progress)])

        return [_tested(len(classifier.labels), rows, *results_of(rows, answers))]


class ClassesJob:
    """See ``Job``; of utterances or of frames, by ``labels``."""

    output, frozen = "logits", "feature_encoder"
    notes: tuple[str, ...] = ()
    labels: Labels

    def __init__(self, head: str, model: OpenedModel, names: Sequence[str]) -> None:
        self.head = head
        self.config, self.checkpoint = with_head_of(model.config, head, model.checkpoint.shapes), model.checkpoint
        own = tuple((self.config.id2label or {}).values())
        last = list(parameter_table(self.config, head))[-2:]  # weight and bias of the layer that gives the labels
        keeps = set(names) <= set(own) and all(name in self.checkpoint.shapes for name in last)
        self.names = own if keeps else tuple(names)
        if not keeps:
            self.config = self.config.replace(id2label=dict(enumerate(self.names)), problem_type=None)
            self.checkpoint = new_head(self.checkpoint, last)
        self.feature_extractor = Wav2Vec2FeatureExtractor.from_source(model.source)

    def counts(self, rows: int) -> np.ndarray:
        """(classes + 1, classes): how often each true class was taken for each; the last row is of unknown ones."""
        return np.zeros((len(self.names) + 1, len(self.names)))

    def count(self, number: int, row: Row, output: np.ndarray, counts: np.ndarray) -> None:
        """Take the most probable class, of the utterance or of every frame that has one."""
        np.add.at(counts, _compared(row, output.argmax(-1), len(self.names)), 1)

    def scores(self, rows: Sequence[Row], counts: np.ndarray) -> Scores:
        """Accuracy, and the recall of each class that occurs, averaged, which rare classes weigh as much in."""
        of_class = counts.sum(1)
        accuracy, recall = _accuracy_and_recall(counts.diagonal(), of_class)
        occur = of_class[:-1] > 0
        same = (counts.sum(0) > 0).sum() == 1 and occur.sum() > 1
        stuck = f"answers {self.names[int(counts.sum(0).argmax())]!r:.60} to everything" if same else ""
        begun = recall > 1.05 / max(occur.sum(), 1)
        return Scores({"accuracy": accuracy, "mean recall": recall}, (1 - accuracy, 1 - recall), begun, stuck)

    def save(self, folder: Path) -> list[str]:
        """The feature extractor; the names of the classes are in the configuration."""
        self.feature_extractor.save_pretrained(folder)
        return []


def _tested(classes: int, rows: Sequence[Row], read: Sequence[Row], answers: Sequence[np.ndarray]) -> Tested:
    """Scores of the answers, (frames,) or (), to the rows that could be read."""
    parts = []  # row, class, how many of it, how many of them are right
    for number, (row, found) in enumerate(zip(read, answers, strict=True)):
        true, found = _compared(row, found, classes)
        of_class = np.bincount(true, minlength=classes + 1)
        right = np.bincount(true[true == found], minlength=classes + 1)
        parts += [(number, name, of_class[name], right[name]) for name in np.flatnonzero(of_class)]
    number, name, count, right = np.array(parts, np.int64).reshape(-1, 4).T

    def scores(drawn: np.ndarray) -> tuple[float, float] | None:
        """Accuracy and mean recall where row i counts ``drawn[i]`` times."""
        of_class = np.bincount(name, drawn[number] * count, classes + 1)
        correct = np.bincount(name, drawn[number] * right, classes + 1)
        return _accuracy_and_recall(correct, of_class) if of_class.any() else None

    def score(which: int) -> Measured:
        def one(drawn: np.ndarray) -> float | None:
            both = scores(drawn)
            return None if both is None else both[which]

        return Measured(one(np.ones(len(read), np.int64)) or 0.0, resampled_interval(len(read), one))

    return Tested("", {"accuracy": score(0), "mean recall": score(1)}, len(read), len(rows) - len(read))


def _compared(row: Row, found: np.ndarray, unknown: int) -> tuple[np.ndarray, np.ndarray]:
    """The true classes that count, and what was found in their places; ``unknown``: the class of rows without one."""
    found = np.atleast_1d(found)
    true = np.asarray(row.labels if row.labels else [unknown])
    return true[true >= 0], found[: len(true)][true >= 0]


def _accuracy_and_recall(correct: np.ndarray, of_class: np.ndarray) -> tuple[float, float]:
    """From the numbers of each class, the last one of unknown ones: the share of all that is right, and the recall of
    each known class that occurs, averaged.
    """
    correct, occur = correct[: len(of_class) - 1], of_class[:-1] > 0
    recall = float((correct[occur] / of_class[:-1][occur]).mean()) if occur.any() else 0.0
    return float(correct.sum() / max(of_class.sum(), 1)), recall
