"""The losses in half precision; conformance compares them in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax_models import tiny, waveforms
from loss_cases import (
    BITS,
    check_contrastive_terms,
    check_frames_without_label,
    check_half_precision,
    check_perplexities,
)
from model_cases import FRAMES
from regression_cases import check_regression

from wav2vec2_flax import FlaxWav2Vec2ForSequenceClassification, losses


@pytest.mark.parametrize("dtype", BITS)
def test_losses_in_half_precision(dtype):
    check_half_precision(losses, jnp.asarray, lambda values: np.asarray(values, np.float64), dtype)


def test_contrastive_terms():
    check_contrastive_terms(losses, jnp.asarray, np.asarray)


def test_contrastive_gradient_is_finite_where_every_distractor_is_equal():
    predicted = np.random.default_rng(0).standard_normal((1, 3, 4)).astype(np.float32)
    competing = losses.competitors(jnp.zeros((1, 3, 2), int), jnp.ones((1, 3, 3), int))

    def loss(quantized):
        return losses.contrastive_loss_of_frames(
            losses.similarities(predicted, quantized, 0.1), competing, jnp.ones((1, 3), bool)
        )

    value, gradient = jax.value_and_grad(loss)(jnp.ones((1, 3, 4)))
    assert value == 0
    assert np.isfinite(gradient).all()


def test_perplexity_counts_codevectors_in_use():
    check_perplexities(losses, jnp.asarray, np.asarray)


def test_frames_without_label_do_not_count():
    model = tiny("ForAudioFrameClassification")
    ignored = np.zeros((3, FRAMES), bool)
    ignored[1, 40:] = ignored[2, 20:] = True
    logits = np.asarray(model(waveforms()).logits, np.float64)
    check_frames_without_label(lambda labels: model(waveforms(), labels=labels).loss, logits, ignored)


def test_regression():
    check_regression(FlaxWav2Vec2ForSequenceClassification, jnp.asarray, np.asarray)
