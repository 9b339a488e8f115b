"""Speaker recognition: x-vectors learned from the speakers of the training data, scored on pairs of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.data.checking import Labels, Row
from wav2vec2_core.data.labels import ClassLabels, class_of
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.metrics import equal_error_rate
from wav2vec2_core.training.tasks.task import OpenedModel, Scores, classes_among, new_head

#: An equal error rate above which learning has not begun: 0.5 is chance.
_NOT_BEGUN = 0.45
_HEAD = ("objective.weight",)


class SpeakerRecognition:
    """Learn vectors that are alike for recordings of one speaker; speakers of the evaluation may be others."""

    name = "xvector"

    def __init__(self, column: str = "speaker") -> None:
        """``column``: of the manifest, where the speakers are."""
        self.column = column

    def options(self) -> dict[str, Any]:
        """The column."""
        return {"column": self.column}

    def prepare(self, model: OpenedModel, train: Sequence[Utterance]) -> SpeakersJob:
        """The speakers of the training data are the classes of its loss. Raises ``InputError``."""
        names = {class_of(utterance, self.column) for utterance in train} - {""}
        return SpeakersJob(model, classes_among(train, names, self.column), self.column)


class SpeakersJob:
    """See ``Job``."""

    head, output, frozen = "ForXVector", "embeddings", "feature_encoder"
    notes: tuple[str, ...] = ()
    labels: Labels

    def __init__(self, model: OpenedModel, names: Sequence[str], column: str) -> None:
        self.config = model.config.replace(id2label=dict(enumerate(names)))
        self.checkpoint = new_head(model.checkpoint, _HEAD)
        self.feature_extractor = Wav2Vec2FeatureExtractor.from_source(model.source)
        kernels = zip(self.config.tdnn_kernel, self.config.tdnn_dilation, strict=True)
        fewest = 2 + sum(dilation * (kernel - 1) for kernel, dilation in kernels)  # a deviation needs 2 frames
        self.labels = ClassLabels(names, column, self.config, fewest_frames=fewest)

    def counts(self, rows: int) -> np.ndarray:
        """(rows, xvector_output_dim): the vector of each."""
        return np.zeros((rows, self.config.xvector_output_dim), np.float32)

    def count(self, number: int, row: Row, output: np.ndarray, counts: np.ndarray) -> None:
        """Keep the vector."""
        counts[number] += output / max(float(np.linalg.norm(output)), 1e-12)

    def scores(self, rows: Sequence[Row], counts: np.ndarray) -> Scores:
        """Equal error rate of all pairs of recordings: one speaker or two, by the cosine of their vectors."""
        speakers = np.asarray([row.text for row in rows])
        first, second = np.triu_indices(len(rows), 1)
        cosines = (counts @ counts.T)[first, second]
        eer = equal_error_rate(cosines, speakers[first] == speakers[second])
        return Scores({"eer": eer}, (eer,), begun=eer <= _NOT_BEGUN)

    def save(self, folder: Path) -> None:
        """The feature extractor; the names of the speakers are in the configuration."""
        self.feature_extractor.save_pretrained(folder)
