"""The ``Auto`` classes and ``pipeline`` over a back end's models; the same for every back end."""

import json

import numpy as np
import pytest

from wav2vec2_core import AutoFeatureExtractor, AutoProcessor
from wav2vec2_core.audio import read_audio
from wav2vec2_core.errors import CheckpointError, ConfigError, InputError
from wav2vec2_core.pipelines import pipeline
from wav2vec2_core.transcription import EMBEDDED_MODEL

#: What follows ``AutoModel`` -> the head.
AUTO = {
    "": "Model",
    "ForPreTraining": "ForPreTraining",
    "ForCTC": "ForCTC",
    "ForAudioClassification": "ForSequenceClassification",
    "ForAudioFrameClassification": "ForAudioFrameClassification",
    "ForAudioXVector": "ForXVector",
}
SAMPLE = "samples/two-seven-one-eight.flac"


def check_auto_models(package, prefix, tiny, folder):
    """Every ``AutoModelFor...`` loads and makes the class of ours that transformers would choose of its own."""
    for name, head in AUTO.items():
        auto, kind = getattr(package, f"{prefix}AutoModel{name}"), getattr(package, f"{prefix}Wav2Vec2{head}")
        model = tiny(head)
        model.save_pretrained(folder)
        loaded = auto.from_pretrained(folder, trust_remote_code=True)
        assert type(loaded) is kind
        assert all(np.array_equal(array, model.arrays()[key]) for key, array in loaded.arrays().items())
        assert type(auto.from_config(loaded.config, attn_implementation="eager")) is kind
        with pytest.raises(InputError, match=f"{prefix}AutoModel{name} cannot be made"):
            auto()
    with pytest.raises(InputError, match="argument 3 has no name: pass options of the model by name"):
        auto.from_pretrained(folder, 3)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "wavlm"}))
    with pytest.raises(ConfigError, match="model_type is 'wavlm', this library reads 'wav2vec2' models: choose a"):
        auto.from_pretrained(folder)
    with pytest.raises(ConfigError, match="config is a dict: make a Wav2Vec2Config"):
        auto.from_config({})


def check_models_in_pipelines(package, prefix, framework, tiny, folder):
    """A pipeline takes a model that a program has loaded, and its results are those of the folder."""
    processor = AutoProcessor.from_pretrained(EMBEDDED_MODEL)
    model = getattr(package, f"{prefix}AutoModelForCTC").from_pretrained(EMBEDDED_MODEL)
    speech = pipeline("automatic-speech-recognition", model=model, processor=processor, device="cpu")
    assert speech.framework == framework
    named = pipeline(model=EMBEDDED_MODEL, framework=framework, device="cpu")
    expected = named(SAMPLE, return_timestamps="char")
    assert expected["text"] == "two seven one eight"
    assert speech(SAMPLE, return_timestamps="char") == expected
    padded = [SAMPLE, read_audio(SAMPLE)[:9000]]  # a batch of two lengths; this model has a group norm
    assert speech(padded, batch_size=2) == [speech(one) for one in padded]

    labels = tiny("ForSequenceClassification")
    labels.save_pretrained(folder)
    extractor = AutoFeatureExtractor.from_pretrained(EMBEDDED_MODEL)
    extractor.save_pretrained(folder)
    classes = pipeline(model=labels, feature_extractor=extractor, device="cpu")
    assert classes.task == "audio-classification"
    for one, other in zip(classes(SAMPLE), pipeline(model=folder, framework=framework)(SAMPLE), strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    with pytest.raises(InputError, match="a model in memory has no feature_extractor: pass feature_extractor="):
        pipeline(model=labels)
    with pytest.raises(InputError, match="automatic-speech-recognition needs a Wav2Vec2ForCTC: load that"):
        pipeline("automatic-speech-recognition", model=labels, feature_extractor=extractor)
    with pytest.raises(CheckpointError, match="has no values for lm_head"):
        pipeline("automatic-speech-recognition", model=folder, framework=framework)
