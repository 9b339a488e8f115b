"""The same mistake gets the same one-line error in every back end that is installed here."""

import importlib
import os
from importlib.util import find_spec

import numpy as np
import pytest
from bad_calls import BAD_CALLS
from model_cases import TINY

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import BackendError, CheckpointError, InputError
from wav2vec2_core.transcription import EMBEDDED_MODEL

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def torch_runner(head, config, train):
    import torch

    import wav2vec2_torch

    model = getattr(wav2vec2_torch, f"Wav2Vec2{head}")(config).train(train)
    return lambda call: model(**{name: torch.from_numpy(array.copy()) for name, array in call.items()})


def tf_runner(head, config, train):
    import wav2vec2_tf

    model = getattr(wav2vec2_tf, f"TFWav2Vec2{head}")(config)
    return lambda call: model(call, training=train)


def flax_runner(head, config, train):
    import jax

    import wav2vec2_flax

    model = getattr(wav2vec2_flax, f"FlaxWav2Vec2{head}")(config)
    return lambda call: model(**call, train=train, dropout_rng=jax.random.key(0))


#: Back end -> its framework and a function that makes (head, config, train) callable with numpy arrays.
BACKENDS = {"torch": ("torch", torch_runner), "tf": ("tensorflow", tf_runner), "flax": ("jax", flax_runner)}
INSTALLED = [name for name, (framework, _) in BACKENDS.items() if find_spec(framework) is not None]

pytestmark = pytest.mark.skipif(not INSTALLED, reason="no framework is installed here")


@pytest.fixture(params=INSTALLED or ["none"])
def backend(request):
    return request.param


@pytest.mark.parametrize("bad", BAD_CALLS, ids=lambda bad: bad.name)
def test_bad_call(backend, bad):
    config = Wav2Vec2Config(**{**TINY, **bad.fields})
    with pytest.raises(bad.error, match=bad.message) as caught:
        BACKENDS[backend][1](bad.head, config, bad.train)(bad.call)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"head": "ForSpeech"}, InputError, "head 'ForSpeech' is unknown: use one of Model, ForPreTraining"),
        ({"dtype": "int3"}, InputError, "dtype 'int3' is unknown: use one of float32"),
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
