"""``Auto`` classes and pipelines over TensorFlow models."""

from front_door_checks import check_auto_models, check_models_in_pipelines
from tf_models import tiny

import wav2vec2_tf


def test_auto_models(tmp_path):
    check_auto_models(wav2vec2_tf, "TF", tiny, tmp_path)


def test_models_in_pipelines(tmp_path):
    check_models_in_pipelines(wav2vec2_tf, "TF", "tf", tiny, tmp_path)
