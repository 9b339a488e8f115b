"""Small models for the tests of the Flax back end, every parameter random."""

import contextlib

import jax
import numpy as np
from model_cases import LENGTHS, SAMPLES, TINY

import wav2vec2_flax
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_flax.weights import flatten


def model_class(head):
    return getattr(wav2vec2_flax, f"FlaxWav2Vec2{head}")


def tiny(head="Model", seed=0, *, scan_layers=False, remat=None, dtype="float32", param_dtype="float32", **fields):
    """A model with random biases, norms and gains."""
    model = model_class(head)(
        Wav2Vec2Config(**{**TINY, **fields}),
        seed=seed,
        scan_layers=scan_layers,
        remat=remat,
        dtype=dtype,
        param_dtype=param_dtype,
    )
    randomise(model, seed)
    return model


def randomise(model, seed=0):
    generator = np.random.default_rng(seed + 100)
    model.params = jax.tree.map(
        lambda array: array + (0.2 * generator.standard_normal(array.shape)).astype(array.dtype), model.params
    )


def waveforms(batch=3, samples=SAMPLES, seed=1):
    return np.random.default_rng(seed).standard_normal((batch, samples)).astype(np.float32)


def padded(lengths=LENGTHS, rubbish=0.0):
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int32)
    return waveforms(len(lengths), max(lengths)) * mask + np.float32(rubbish) * (1 - mask), mask


def relative(ours, theirs):
    """Largest difference, relative to the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


@contextlib.contextmanager
def doubled(model):
    """The model's twin in float64, with JAX's float64 on: keys draw in it what they draw in ``model``."""
    with jax.enable_x64(True):
        twin = type(model)(model.config, dtype="float64", param_dtype="float64", _do_init=False)
        twin.params = jax.tree.map(lambda array: np.asarray(array, np.float64), model.params)
        yield twin


def gradient_error(found, exact):
    """Largest error over all parameters, relative to each one's largest value, as in conformance/checks.py.

    The softmax over keys takes no notice of their bias, nor group norm of the bias of the convolution before it: what
    is left of their gradients is rounding, measured by the gradient of the weight beside them.
    """
    found, exact = flatten(found), flatten(exact)
    errors = []
    for path, right in exact.items():
        unseen = path[-2:] == ("k_proj", "bias") or path[-4:] == ("conv_layers", "0", "conv", "bias")
        scale = exact[(*path[:-1], "kernel")] if unseen else right
        error = np.abs(np.asarray(found[path], np.float64) - right).max()
        errors.append(error / (np.abs(scale).max() or 1.0))  # 0 in a layer that is skipped
    return float(max(errors))


def same_params(one, other):
    left, right = one.params, other.params
    return jax.tree.structure(left) == jax.tree.structure(right) and all(
        a.dtype == b.dtype and np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    )
