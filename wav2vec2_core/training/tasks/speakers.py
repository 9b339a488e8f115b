"""Speaker recognition: x-vectors learned from the speakers of the training data, scored on pairs of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.classification import Classifier
from wav2vec2_core.data.checking import Labels, Row
from wav2vec2_core.data.labels import ClassLabels, class_of
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.metrics import equal_error_rate, resampled_interval
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

#: An equal error rate above which learning has not begun: 0.5 is chance.
_NOT_BEGUN = 0.45
_HEAD = ("objective.weight",)
#: Test sets of an interval: fewest and most, and how many pairs of recordings may be weighed for them.
_RESAMPLES, _RESAMPLED_PAIRS = (100, 1000), 200_000_000


class SpeakerRecognition:
    """Learn vectors that are alike for recordings of one speaker; speakers of the evaluation may be others."""

    name = "xvector"

    def __init__(self, column: str = "speaker") -> None:
        """``column``: of the manifest, where the speakers are."""
        self.column = column

    def options(self) -> dict[str, Any]:
        """The column."""
        return {"column": self.column}

    def test(
        self, model: Path, rows: Sequence[Row], *, backend: str, device: str, progress: Progress | None = None
    ) -> list[Tested]:
        """Equal error rate of all pairs. Raises as ``Task.test``."""
        classifier = Classifier(model, backend=backend, device=device)
        read, vectors = results_of(rows, lambda recording: classifier.speaker(recording, progress))
        first, second, cosines, same = pairs_of(np.stack(vectors), [row.text for row in read])
        order = np.argsort(cosines, kind="stable")
        first, second, cosines, same = first[order], second[order], cosines[order], same[order]

        def rate(drawn: np.ndarray) -> float | None:
            weights = drawn[first] * drawn[second]
            return equal_error_rate(cosines, same, weights) if weights[same].any() and weights[~same].any() else None

        resamples = int(np.clip(_RESAMPLED_PAIRS // len(cosines), *_RESAMPLES))
        interval = resampled_interval(len(read), rate, resamples=resamples)
        score = Measured(equal_error_rate(cosines, same), interval)
        return [Tested("", {"eer": score}, len(read), len(rows) - len(read))]

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
        _, _, cosines, same = pairs_of(counts, [row.text for row in rows])
        eer = equal_error_rate(cosines, same)
        return Scores({"eer": eer}, (eer,), begun=eer <= _NOT_BEGUN)

    def save(self, folder: Path) -> list[str]:
        """The feature extractor; the names of the speakers are in the configuration."""
        self.feature_extractor.save_pretrained(folder)
        return []


def pairs_of(vectors: np.ndarray, speakers: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of recordings: first and second of each, their cosine, and whether they are of one speaker.

    ``vectors``: (rows, size), of length 1.
    """
    first, second = np.triu_indices(len(vectors), 1)
    names = np.asarray(speakers)
    return first, second, (vectors @ vectors.T)[first, second], names[first] == names[second]
