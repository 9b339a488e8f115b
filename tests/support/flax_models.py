"""Small models for the tests of the Flax back end, every parameter random."""

import jax
import numpy as np
from model_cases import LENGTHS, SAMPLES, TINY

import wav2vec2_flax
from wav2vec2_core.config import Wav2Vec2Config


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


def same_params(one, other):
    left, right = one.params, other.params
    return jax.tree.structure(left) == jax.tree.structure(right) and all(
        a.dtype == b.dtype and np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    )
