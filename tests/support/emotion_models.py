"""Emotion models in the layouts of those on the hub, tiny, and what they compute, written out in numpy."""

import json

import numpy as np
import pytest
from model_cases import TINY
from random_models import FAMILIES, random_tensors

from wav2vec2_core.backend import load_backend
from wav2vec2_core.checkpoint import write_checkpoint
from wav2vec2_core.classification import Classifier
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.long_form.windows import Window
from wav2vec2_core.pipelines import pipeline

#: Whose -> the name of the last layer and what config.json says beside the architecture's numbers.
LAYOUTS = {
    "audeering": (
        "classifier.out_proj",
        {
            "architectures": ["Wav2Vec2ForSpeechClassification"],
            "finetuning_task": "wav2vec2_reg",
            "pooling_mode": "mean",
            "problem_type": "regression",
            "id2label": {"0": "arousal", "1": "dominance", "2": "valence"},
        },
    ),
    "ehcalabres": (
        "classifier.output",
        {
            "architectures": ["Wav2Vec2ForSequenceClassification"],
            "finetuning_task": "wav2vec2_clf",
            "id2label": {str(number): name for number, name in enumerate(
                ("angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised"))},
        },
    ),
}  # fmt: skip
RATE = 16_000


def write_emotion_model(folder, layout, **fields):
    """A folder as its makers wrote it; returns the arrays, the last layer's as ``classifier.last``."""
    last, own = LAYOUTS[layout]
    config = Wav2Vec2Config(**TINY, **FAMILIES["large"])
    width, labels = config.hidden_size, len(own["id2label"])
    generator = np.random.default_rng(7)
    tensors = {f"wav2vec2.{name}": array for name, array in random_tensors(config, "Model").items()}
    head = {}
    for name, rows in (("dense", width), ("last", labels)):
        head[f"classifier.{name}.weight"] = (0.3 * generator.standard_normal((rows, width))).astype(np.float32)
        head[f"classifier.{name}.bias"] = generator.standard_normal(rows).astype(np.float32)
    folder.mkdir(exist_ok=True)
    write_checkpoint(folder, tensors | {name.replace("classifier.last", last): array for name, array in head.items()})
    values = {name: value for name, value in config.to_dict().items() if name not in ("label2id", "classifier_head")}
    (folder / "config.json").write_text(json.dumps({**values, **own, **fields}))
    extractor = {"do_normalize": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": RATE}
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    return head


def outputs_of(head, states):
    """(frames, hidden) states of the body -> (labels,)."""
    pooled = np.float64(states).mean(0)
    inner = np.tanh(head["classifier.dense.weight"] @ pooled + head["classifier.dense.bias"])
    return head["classifier.last.weight"] @ inner + head["classifier.last.bias"]


def noise(samples, seed):
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def close(found, expected):
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def check_emotion_model(layout, name, package, prefix, framework, tensor, folder):
    """Single recordings, batches, padding, windows and the front doors of one back end, against the formula.

    ``tensor``: numpy to the framework's; ``folder``: an empty one.
    """
    head = write_emotion_model(folder / "theirs", layout)
    inference = load_backend(name).inference
    body = inference.load_model(folder / "theirs", head="Model", device="cpu")
    model = inference.load_model(folder / "theirs", head="ForSequenceClassification", device="cpu")
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder / "theirs")
    recordings = [noise(samples, seed) for seed, samples in enumerate((3000, 1777, 520))]
    waveforms = [extractor(one, sampling_rate=RATE)["input_values"][0] for one in recordings]
    expected = [outputs_of(head, body.logits([one])[0]) for one in waveforms]
    for found, one in zip(model.logits(waveforms), expected, strict=True):
        close(found, one)

    auto = getattr(package, f"{prefix}AutoModelForAudioClassification").from_pretrained(folder / "theirs")
    batch = extractor(recordings, sampling_rate=RATE, padding=True, return_attention_mask=True)
    values, mask = np.stack(batch["input_values"]), np.stack(batch["attention_mask"]).astype(np.int32)
    found = auto(tensor(values), attention_mask=tensor(mask)).logits
    close(np.asarray(found.detach() if name == "torch" else found), expected)
    auto.save_pretrained(folder / "ours")
    extractor.save_pretrained(folder / "ours")
    assert Wav2Vec2Config.from_pretrained(folder / "ours").classifier_head == "tanh"

    cut = Classifier(folder / "ours", backend=name, device="cpu", window=Window(0.05, 0.0))
    given = cut.open((recordings[0], RATE))
    parts = list(cut._loaded.windows(given, cut._apart, cut._loaded.statistics(given)))
    assert len(parts) > 3
    states = [body.hidden_states([part.features], [-1])[0][0] for part in parts]
    close(cut.scores((recordings[0], RATE)), outputs_of(head, np.concatenate(states)))

    answers = pipeline("audio-classification", model=str(folder / "ours"), framework=framework, device="cpu")(
        recordings, top_k=None, batch_size=2
    )
    names = list(LAYOUTS[layout][1]["id2label"].values())
    for answer, one in zip(answers, expected, strict=True):
        scores = one if layout == "audeering" else np.exp(one) / np.exp(one).sum()
        assert {row["label"]: row["score"] for row in answer} == pytest.approx(
            dict(zip(names, scores, strict=True)), abs=1e-4
        )
