"""The same mistake gives the same one-line message in every back end that is installed here."""

import importlib
import os
from importlib.util import find_spec

import numpy as np
import pytest
from bad_inputs import CALLS, CONSTRUCTIONS, TINY

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import BackendError, CheckpointError, ConfigError, InputError
from wav2vec2_core.transcription import EMBEDDED_MODEL

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _installed(framework):
    spec = find_spec(framework)
    return spec is not None and spec.origin is not None  # without origin it is a folder of that name, as tests/torch


def _torch(head, fields):
    import torch

    import wav2vec2_torch

    model = getattr(wav2vec2_torch, f"Wav2Vec2{head}")(Wav2Vec2Config(**{**TINY, **fields}))

    def call(training=False, **arrays):
        return model.train(training)(**{name: torch.from_numpy(array.copy()) for name, array in arrays.items()})

    return call


def _tf(head, fields):
    import wav2vec2_tf

    model = getattr(wav2vec2_tf, f"TFWav2Vec2{head}")(Wav2Vec2Config(**{**TINY, **fields}))

    def call(training=False, **arrays):
        return model(arrays, training=training)

    return call


#: Back end -> its framework and a function that makes (head, fields) callable with numpy arrays.
BACKENDS = {"torch": ("torch", _torch), "tf": ("tensorflow", _tf)}
INSTALLED = [name for name, (framework, _) in BACKENDS.items() if _installed(framework)]

pytestmark = pytest.mark.skipif(not INSTALLED, reason="no framework is installed here")


@pytest.fixture(params=INSTALLED or ["none"])
def backend(request):
    return request.param


@pytest.mark.parametrize("row", CALLS, ids=lambda row: row[0])
def test_calls(backend, row):
    _, head, fields, arrays, error, message = row
    call = BACKENDS[backend][1](head, fields)
    with pytest.raises(error, match=message) as caught:
        call(**arrays)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("row", CONSTRUCTIONS, ids=lambda row: f"{row[1]} {row[0]}")
def test_constructions(backend, row):
    _, head, fields, message = row
    with pytest.raises(ConfigError, match=message) as caught:
        BACKENDS[backend][1](head, fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"head": "ForSpeech"}, InputError, "head 'ForSpeech' is unknown: use one of Model, ForPreTraining"),
        ({"dtype": "int8"}, InputError, "dtype 'int8' is unknown: use one of float32"),
        ({"device": "nonsense"}, BackendError, "device 'nonsense' is not available here: use one of .*cpu"),
        ({"device": "cuda:99"}, BackendError, "device 'cuda:99' is not available here: use one of .*cpu"),
        ({"language": "fra"}, InputError, "adapter_attn_dim=None .* give a model without attention adapters"),
        ({"head": "ForXVector"}, CheckpointError, "its ForXVector part is not trained, fine-tune it or name a model"),
    ],
)
def test_loading(backend, options, error, message):
    module = importlib.import_module(f"wav2vec2_{backend}.inference")
    with pytest.raises(error, match=message) as caught:
        module.load_model(EMBEDDED_MODEL, **options)
    assert "\n" not in str(caught.value)


def test_waveforms_of_inference(backend):
    model = importlib.import_module(f"wav2vec2_{backend}.inference").load_model(EMBEDDED_MODEL)
    shortest = model.config.receptive_field
    with pytest.raises(InputError, match=f"has {shortest - 1} samples, one frame sees {shortest}"):
        model.logits([np.zeros(9000, np.float32), np.zeros(shortest - 1, np.float32)])
    with pytest.raises(InputError, match=r"must be \(batch, samples\)"):
        model.logits([np.zeros((2, 9000), np.float32)])
