"""``Auto`` classes and pipelines over JAX models."""

from flax_models import tiny
from front_door_checks import check_auto_models, check_models_in_pipelines

import wav2vec2_flax


def test_auto_models(tmp_path):
    check_auto_models(wav2vec2_flax, "Flax", tiny, tmp_path)


def test_models_in_pipelines(tmp_path):
    check_models_in_pipelines(wav2vec2_flax, "Flax", "flax", tiny, tmp_path)
