"""Classification of utterances and of frames, scored by accuracy and by the mean recall of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.data.checking import Labels, Row
from wav2vec2_core.data.labels import ClassLabels, FrameLabels, class_of, segments_of
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.errors import InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.training.tasks.task import OpenedModel, Scores, classes_among, new_head


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


class ClassesJob:
    """See ``Job``; of utterances or of frames, by ``labels``."""

    output, frozen = "logits", "feature_encoder"
    notes: tuple[str, ...] = ()
    labels: Labels

    def __init__(self, head: str, model: OpenedModel, names: Sequence[str]) -> None:
        self.head = head
        own = tuple((model.config.id2label or {}).values())
        keeps = set(names) <= set(own) and any(name.endswith("classifier.weight") for name in model.checkpoint.shapes)
        self.names = own if keeps else tuple(names)
        self.config, self.checkpoint = model.config, model.checkpoint
        if not keeps:
            self.config = model.config.replace(id2label=dict(enumerate(self.names)))
            self.checkpoint = new_head(model.checkpoint, ("classifier.weight", "classifier.bias"))
        self.feature_extractor = Wav2Vec2FeatureExtractor.from_source(model.source)

    def counts(self, rows: int) -> np.ndarray:
        """(classes + 1, classes): how often each true class was taken for each; the last row is of unknown ones."""
        return np.zeros((len(self.names) + 1, len(self.names)))

    def count(self, number: int, row: Row, output: np.ndarray, counts: np.ndarray) -> None:
        """Take the most probable class, of the utterance or of every frame that has one."""
        found = np.atleast_1d(output.argmax(-1))
        true = np.asarray(row.labels if row.labels else [len(self.names)])
        counts_of = true >= 0
        np.add.at(counts, (true[counts_of], found[: len(true)][counts_of]), 1)

    def scores(self, rows: Sequence[Row], counts: np.ndarray) -> Scores:
        """Accuracy, and the recall of each class that occurs, averaged, which rare classes weigh as much in."""
        correct, of_class = counts.diagonal(), counts.sum(1)
        accuracy = float(correct.sum() / max(counts.sum(), 1))
        occur = of_class[:-1] > 0
        recall = float((correct[occur] / of_class[:-1][occur]).mean()) if occur.any() else 0.0
        same = (counts.sum(0) > 0).sum() == 1 and occur.sum() > 1
        stuck = f"answers {self.names[int(counts.sum(0).argmax())]!r:.60} to everything" if same else ""
        begun = recall > 1.05 / max(occur.sum(), 1)
        return Scores({"accuracy": accuracy, "mean recall": recall}, (1 - accuracy, 1 - recall), begun, stuck)

    def save(self, folder: Path) -> None:
        """The feature extractor; the names of the classes are in the configuration."""
        self.feature_extractor.save_pretrained(folder)
