"""``pipeline`` beside transformers': the same arguments, the same results."""

import inspect

import numpy as np
import pytest
from torch_models import tiny

from wav2vec2_core.audio import read_audio
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.pipelines import making
from wav2vec2_core.transcription import EMBEDDED_MODEL

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.oracle
RATE = 16_000
SPEECH = np.concatenate([read_audio(f"samples/{name}.flac") for name in ("three-one-four", "two-seven-one-eight")])
NOISE = np.random.default_rng(0).normal(0.1, 0.3, 2 * RATE).astype(np.float32)


def both(task, folder):
    """In float32: the embedded model is stored in float16, in which ours is nearer to the exact numbers than theirs."""
    options = {"model": str(folder), "framework": "pt", "device": "cpu", "dtype": "float32"}
    return transformers.pipeline(task, **options), making.pipeline(task, **options)


@pytest.fixture(scope="module")
def speech():
    return both("automatic-speech-recognition", EMBEDDED_MODEL)


@pytest.mark.parametrize("unit", [None, "word", "char"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunk_length_s": 1.2},
        {"chunk_length_s": 1.0, "stride_length_s": 0.2},
        {"chunk_length_s": 1.1, "stride_length_s": (0.3, 0.1)},
        {"chunk_length_s": 1.1, "stride_length_s": [0.0, 0.25]},
        {"chunk_length_s": 30},
    ],
    ids=str,
)
def test_text_and_times(speech, options, unit):
    theirs, ours = (pipe(SPEECH.copy(), return_timestamps=unit, **options) for pipe in speech)
    assert ours == theirs


@pytest.mark.parametrize("stride", [(0, 0), (4000, 0), (3000, 5000), (1, 16_000)])
def test_a_stride_in_samples(speech, stride):
    theirs, ours = (
        pipe({"raw": SPEECH.copy(), "sampling_rate": RATE, "stride": stride, "id": 3}, return_timestamps="char")
        for pipe in speech
    )
    assert ours == theirs


def test_lists_and_generators(speech):
    theirs, ours = ((pipe([SPEECH, NOISE]), list(pipe(one for one in [SPEECH, NOISE]))) for pipe in speech)
    assert ours == theirs


@pytest.fixture(scope="module", params=[None, "multi_label_classification"])
def classes(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    labels = {index: f"label {index}" for index in range(7)}
    tiny("ForSequenceClassification", num_labels=None, id2label=labels, problem_type=request.param).save_pretrained(
        folder
    )
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return both("audio-classification", folder)


@pytest.mark.parametrize(
    "options", [{}, {"top_k": 2}, {"top_k": None}, {"top_k": 99}, {"function_to_apply": "sigmoid"},
                {"function_to_apply": "none", "top_k": 7}], ids=str,
)  # fmt: skip
def test_labels(classes, options):
    theirs, ours = (pipe(NOISE.copy(), **options) for pipe in classes)
    assert [one["label"] for one in ours] == [one["label"] for one in theirs]
    np.testing.assert_allclose([one["score"] for one in ours], [one["score"] for one in theirs], rtol=1e-4, atol=1e-5)


def test_arguments():
    theirs, ours = (inspect.signature(function).parameters for function in (transformers.pipeline, making.pipeline))
    assert [name for name in theirs if name not in ours and name != "kwargs"] == []
    assert list(ours)[:7] == list(theirs)[:7]
