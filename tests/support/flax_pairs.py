"""The transformers models of ``torch_pairs`` beside wav2vec2_flax with the same parameters."""

import jax
import numpy as np
from model_cases import MEASURES
from torch_pairs import make_pair

import wav2vec2_flax
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_flax.weights import fill_weights
from wav2vec2_torch.weights import export_weights


def make_flax_pair(head, seed=0, *, scan_layers=False, remat=None, **fields):
    """transformers' model and ours with the same random parameters."""
    theirs, middle = make_pair(head, seed, **fields)
    config = Wav2Vec2Config.from_dict(middle.config.to_dict())
    ours = getattr(wav2vec2_flax, f"FlaxWav2Vec2{head}")(config, scan_layers=scan_layers, remat=remat, _do_init=False)
    fill_weights(ours, ((name, array.copy()) for name, array in export_weights(middle).items()))
    return theirs, ours


def arrays(call):
    """The arguments of a call to a torch model as numpy arrays."""
    return {name: item.numpy() if hasattr(item, "numpy") else item for name, item in call.items()}


def relative(ours, theirs):
    """Largest difference, relative to the largest value; one side may be torch's."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def compare(ours, theirs, limit=1e-5):
    """Check that two outputs have the same fields and numbers."""
    assert list(ours)[: len(theirs)] == list(theirs)
    assert set(list(ours)[len(theirs) :]) <= MEASURES
    for name, reference in theirs.items():
        mine = ours[name]
        if not isinstance(reference, tuple):
            mine, reference = (mine,), (reference,)
        assert len(mine) == len(reference), name
        for index, (one, other) in enumerate(zip(mine, reference, strict=True)):
            error = relative(one, other.detach())
            assert error <= limit, f"{name}[{index}]: {error:.2e}"


def run(model, call, **options):
    """The call inside jax.jit."""
    return jax.jit(lambda model, call: model(**call, **options))(model, call)
