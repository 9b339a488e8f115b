"""``Auto`` classes and pipelines over TensorFlow models."""

import pytest
import tensorflow as tf
from emotion_models import LAYOUTS, check_emotion_model
from front_door_checks import check_auto_models, check_models_in_pipelines
from tf_models import tiny

import wav2vec2_tf


def test_auto_models(tmp_path):
    check_auto_models(wav2vec2_tf, "TF", tiny, tmp_path)


def test_models_in_pipelines(tmp_path):
    check_models_in_pipelines(wav2vec2_tf, "TF", "tf", tiny, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_emotion_models_of_the_community(layout, tmp_path):
    check_emotion_model(layout, "tf", wav2vec2_tf, "TF", "tf", tf.constant, tmp_path)
