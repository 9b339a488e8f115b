"""A classification head with float labels: squared error, as transformers' heads have it."""

import numpy as np
import pytest
from model_cases import TINY

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError


def check_regression(model_class, tensor, array, **options):
    """``tensor``: numpy to the framework; ``array``: back."""
    sound = tensor(np.random.default_rng(0).normal(size=(3, 2000)).astype(np.float32))

    def made(**fields):
        return model_class(Wav2Vec2Config(**{**TINY, "layerdrop": 0.0, **fields}), **options)

    def losses(model, labels):
        called = model(sound, labels=tensor(labels))
        return float(array(called.loss)), array(called.logits).astype(np.float64)

    values = np.array([0.5, -2.0, 3.25], np.float32)
    one = made(num_labels=1)
    if hasattr(one, "eval"):
        one.eval()
    for labels in (values, values[:, None]):
        loss, logits = losses(one, labels)
        assert loss == pytest.approx(((logits[:, 0] - values) ** 2).mean(), rel=1e-5)
    loss, _ = losses(one, np.zeros(3, np.int64))  # class numbers of the only class
    assert loss == pytest.approx(0, abs=1e-6)

    several = made(num_labels=2, problem_type="regression")
    if hasattr(several, "eval"):
        several.eval()
    wanted = np.array([[1, 2], [0, -1], [4, 4]])
    loss, logits = losses(several, wanted)
    assert loss == pytest.approx(((logits - wanted) ** 2).mean(), rel=1e-5)
    with pytest.raises(InputError, match=r"labels have shape \(3,\): a regression needs \(3, 2\)"):
        losses(several, values)
