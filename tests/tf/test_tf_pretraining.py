"""Pretraining with the TensorFlow back end."""

from pretraining_cases import check_run

from wav2vec2_tf import TFWav2Vec2ForPreTraining
from wav2vec2_tf.weights import export_weights


def test_run(tmp_path):
    check_run("tf", tmp_path, lambda folder: dict(export_weights(TFWav2Vec2ForPreTraining.from_pretrained(folder))))
