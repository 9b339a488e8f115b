"""Pretraining with the JAX back end."""

from pretraining_cases import check_run

from wav2vec2_flax import FlaxWav2Vec2ForPreTraining
from wav2vec2_flax.weights import export_weights


def test_run(tmp_path):
    check_run("flax", tmp_path, lambda folder: dict(export_weights(FlaxWav2Vec2ForPreTraining.from_pretrained(folder))))
