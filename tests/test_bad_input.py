"""The same mistakes get the same one-line errors in every back end that is installed."""

import pytest
from bad_calls import BAD_CALLS
from model_cases import TINY

from wav2vec2_core.config import Wav2Vec2Config


def torch_runner(head, config, train):
    import torch

    import wav2vec2_torch

    model = getattr(wav2vec2_torch, f"Wav2Vec2{head}")(config).train(train)
    return lambda call: model(**{name: torch.from_numpy(array) for name, array in call.items()})


def flax_runner(head, config, train):
    import jax

    import wav2vec2_flax

    model = getattr(wav2vec2_flax, f"FlaxWav2Vec2{head}")(config)
    return lambda call: model(**call, train=train, dropout_rng=jax.random.key(0))


BACKENDS = {"torch": torch_runner, "flax": flax_runner}


@pytest.mark.parametrize("bad", BAD_CALLS, ids=lambda bad: bad.name)
@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_call(backend, bad):
    pytest.importorskip(
        {"flax": "jax"}.get(backend, backend), reason=f"the framework of {backend} is not installed here"
    )
    config = Wav2Vec2Config(**{**TINY, **bad.fields})
    with pytest.raises(bad.error, match=bad.message) as caught:
        BACKENDS[backend](bad.head, config, bad.train)(bad.call)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)
