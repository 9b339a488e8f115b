"""``Auto`` classes and pipelines over JAX models."""

import jax.numpy as jnp
import pytest
from emotion_models import LAYOUTS, check_emotion_model
from flax_models import tiny
from front_door_checks import check_auto_models, check_models_in_pipelines

import wav2vec2_flax


def test_auto_models(tmp_path):
    check_auto_models(wav2vec2_flax, "Flax", tiny, tmp_path)


def test_models_in_pipelines(tmp_path):
    check_models_in_pipelines(wav2vec2_flax, "Flax", "flax", tiny, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_emotion_models_of_the_community(layout, tmp_path):
    check_emotion_model(layout, "flax", wav2vec2_flax, "Flax", "flax", jnp.asarray, tmp_path)
