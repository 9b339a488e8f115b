"""Pretraining with the PyTorch back end."""

from pretraining_cases import check_run

from wav2vec2_torch import Wav2Vec2ForPreTraining
from wav2vec2_torch.weights import export_weights


def test_run(tmp_path):
    check_run("torch", tmp_path, lambda folder: dict(export_weights(Wav2Vec2ForPreTraining.from_pretrained(folder))))
