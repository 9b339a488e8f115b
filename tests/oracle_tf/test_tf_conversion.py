"""tf_model.h5 made by a conversion, in transformers' TensorFlow models; and theirs converted to PyTorch."""

import numpy as np
import pytest
import torch
import transformers
from tf_pairs import make_pair
from torch_pairs import TINY, their_config, waveforms

from wav2vec2_core.conversion import convert

pytestmark = pytest.mark.oracle

FAMILIES = {
    "base": {},
    "large": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
}
WIDTH = {"conv_dim": (24, 24, 24)}  # their TensorFlow convolutions have one width


def close(one, other):
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_pytorch_to_their_tensorflow(tmp_path, family):
    theirs, _ = make_pair("ForCTC", **{**WIDTH, **FAMILIES[family]})
    theirs.save_pretrained(tmp_path / "a")
    assert convert(tmp_path / "a", tmp_path / "b", "tf").largest_difference == 0
    loaded = transformers.TFWav2Vec2ForCTC.from_pretrained(tmp_path / "b")
    values = waveforms(False)["input_values"]
    with torch.no_grad():
        close(loaded(values.numpy()).logits.numpy(), theirs(values).logits.numpy())


def test_their_tensorflow_to_pytorch(tmp_path):
    theirs = transformers.TFWav2Vec2ForCTC(their_config({**TINY, **WIDTH}))
    values = waveforms(False)["input_values"].numpy()
    expected = theirs(values).logits.numpy()
    theirs.save_pretrained(tmp_path / "a", safe_serialization=False)
    assert convert(tmp_path / "a", tmp_path / "b").largest_difference == 0
    loaded = transformers.Wav2Vec2ForCTC.from_pretrained(tmp_path / "b").eval()
    with torch.no_grad():
        close(loaded(torch.from_numpy(values)).logits.numpy(), expected)
