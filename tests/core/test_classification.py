"""Labels and speakers of recordings of any length."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from numpy_model import NumpyModel
from numpy_transcriber import RATE, recording, save_processor, write

from wav2vec2_core.checkpoint import write_checkpoint
from wav2vec2_core.classification import FRAMES, SPEAKERS, UTTERANCES, Classifier, similarity
from wav2vec2_core.errors import AudioError, CheckpointError, InputError
from wav2vec2_core.long_form.windows import Window


class LabelModel(NumpyModel):
    """Pools frames by their mean before its last layers, between which is a tanh, or not at all."""

    def __init__(self, head, problem=None):
        super().__init__()
        self.kind = head
        self.config = self.config.replace(id2label={i: f"label {i}" for i in range(8)}, problem_type=problem)

    def contextualize(self, features):
        return [3 * one for one in super().contextualize(features)]

    def pool(self, features):
        return [one.mean(0) for one in super().contextualize(features)]

    def classify(self, pooled):
        return [3 * np.tanh(5 * one) for one in pooled]

    def embed(self, features):
        return [one.mean(0) for one in super().contextualize(features)]


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    def make(head, problem=None, **options):
        model = LabelModel(head, problem)
        folder = save_processor(tmp_path / "model")
        (folder / "config.json").write_text(
            json.dumps({"model_type": "wav2vec2", "architectures": [f"Wav2Vec2{head}"]})
        )
        write_checkpoint(folder, {"classifier.weight": np.zeros((2, 2), np.float32)})
        backend = SimpleNamespace(inference=SimpleNamespace(load_model=lambda source, **given: model))
        monkeypatch.setattr("wav2vec2_core.pipeline.load_backend", lambda name: backend)
        return Classifier(folder, **options)

    return make


@pytest.mark.parametrize("problem", [None, "multi_label_classification"])
def test_labels_of_a_long_recording_pool_all_frames(classifier, tmp_path, problem):
    path = write(tmp_path / "a.wav", recording(50))
    whole = classifier(UTTERANCES, problem, window=Window(100, 0)).probabilities(path)
    parts = classifier(UTTERANCES, problem, window=Window(8, 1)).probabilities(path)
    np.testing.assert_allclose(parts, whole, atol=0.01)  # neighbours across the cuts are not averaged
    assert whole.sum() == pytest.approx(1) if problem is None else (whole > 0.5).sum() != 1
    labels = classifier(UTTERANCES, problem).classify(path, 3)
    assert [one.probability for one in labels] == sorted(whole, reverse=True)[:3] or len(labels) == 3
    assert labels[0].name == f"label {whole.argmax()}"
    assert labels[0].probability >= labels[1].probability >= labels[2].probability
    assert len(classifier(UTTERANCES, problem).classify(path)) == 8


def test_values_of_a_regression_are_returned_as_they_are(classifier, tmp_path):
    path = write(tmp_path / "a.wav", recording(50))
    made = classifier(UTTERANCES, "regression", window=Window(8, 1))
    scores = made.scores(path)
    assert scores.min() < 0, "no probabilities"
    np.testing.assert_array_equal(made.probabilities(path), scores)
    values = made.classify(path, 2)
    assert [one.name for one in values] == [f"label {index}" for index in range(8)], "in their own order, all of them"
    assert [one.probability for one in values] == scores.tolist()


@pytest.mark.parametrize("problem", [None, "multi_label_classification"])
def test_spans_of_frames(classifier, tmp_path, problem):
    path = write(tmp_path / "a.wav", recording(50))
    whole = classifier(FRAMES, problem, window=Window(100, 0))
    parts = classifier(FRAMES, problem, window=Window(8, 1))
    probabilities = np.concatenate(list(whole.frame_probabilities(path)))
    np.testing.assert_allclose(np.concatenate(list(parts.frame_probabilities(path))), probabilities, atol=1e-4)
    spans = parts.spans(path)
    active = probabilities > 0.5 if problem else np.eye(8, dtype=bool)[probabilities.argmax(-1)]
    covered = np.zeros_like(active)
    for span in spans:
        start, end = (round(time * RATE / 20) for time in (span.start, span.end))
        label = int(span.name.split()[1])
        assert not covered[start:end, label].any()
        covered[start:end, label] = True
        assert span.probability == pytest.approx(probabilities[start:end, label].mean(), abs=1e-4)
    np.testing.assert_array_equal(covered, active)


def test_speakers(classifier, tmp_path):
    made = classifier(SPEAKERS, window=Window(8, 1))
    loud = recording(40)
    vectors = [made.speaker(write(tmp_path / "a.wav", samples)) for samples in (loud, loud / 4, recording(40, 5))]
    assert all(np.linalg.norm(vector) == pytest.approx(1) for vector in vectors)
    assert similarity(vectors[0], vectors[1]) == pytest.approx(1, abs=1e-5)  # the level is normalised
    assert similarity(vectors[0], vectors[2]) < 1 - 1e-4
    assert similarity(vectors[0], -vectors[0]) == pytest.approx(-1)


def test_what_a_head_does_not_give(classifier, tmp_path):
    path = write(tmp_path / "a.wav", recording(1))
    with pytest.raises(InputError, match="labels of frames come from a Wav2Vec2ForAudioFrameClassification"):
        classifier(UTTERANCES).spans(path)
    with pytest.raises(InputError, match="speaker vectors come from a Wav2Vec2ForXVector"):
        classifier(FRAMES).speaker(path)
    with pytest.raises(InputError, match="top=0 must be 1 or more"):
        classifier(UTTERANCES).classify(path, 0)
    with pytest.raises(AudioError, match="the model needs at least 25"):
        classifier(UTTERANCES).classify(write(tmp_path / "b.wav", recording(0.02)))
    with pytest.raises(CheckpointError, match="is a Wav2Vec2ForCTC, which has no labels"):
        classifier("ForCTC")
