"""Files exchanged with transformers 4.57.6: its TensorFlow models (on tf-keras) and its PyTorch models."""

import re

import h5py
import numpy as np
import pytest
import tensorflow as tf
import torch
import transformers
from tf_pairs import make_pair
from torch_pairs import TINY, VARIANTS, their_config, waveforms

import wav2vec2_tf
import wav2vec2_torch

pytestmark = pytest.mark.oracle

# Heads and options that transformers' TensorFlow models have; all their convolutions have one width.
WIDTH = {"conv_dim": (24, 24, 24), "num_hidden_layers": 2}
THEIR_CASES = {
    "base": ("ForCTC", {}),
    "large": ("ForCTC", {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}),
    "classifier": ("ForSequenceClassification", {}),
    "weighted": ("ForSequenceClassification", {"use_weighted_layer_sum": True}),
    "body": ("Model", {"mask_time_prob": 0.0}),
}
FIELDS = {"Model": "last_hidden_state", "ForPreTraining": "projected_states"}


@pytest.fixture(params=THEIR_CASES)
def case(request):
    head, fields = THEIR_CASES[request.param]
    return head, {**TINY, **WIDTH, **fields}


def score(output, head):
    value = output[FIELDS.get(head, "logits")]
    return value.numpy() if not torch.is_tensor(value) else value.detach().numpy()


def close(one, other):
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max()


def test_their_file_is_read(case, tmp_path):
    head, fields = case
    theirs = getattr(transformers, f"TFWav2Vec2{head}")(their_config(fields))
    values = waveforms(False)["input_values"].numpy()
    theirs(values)
    generator = np.random.default_rng(0)
    theirs.set_weights([value + 0.2 * generator.standard_normal(value.shape) for value in theirs.get_weights()])
    expected = score(theirs(values), head)
    theirs.save_pretrained(tmp_path, safe_serialization=False)
    assert [path.name for path in tmp_path.glob("*.h5")] == ["tf_model.h5"]
    ours = getattr(wav2vec2_tf, f"TFWav2Vec2{head}").from_pretrained(tmp_path)
    assert ours.loading.new == ours.loading.ignored == ()
    close(score(ours(values), head), expected)
    sibling = getattr(wav2vec2_torch, f"Wav2Vec2{head}").from_pretrained(tmp_path)
    close(score(sibling(torch.from_numpy(values)), head), expected)


def test_their_shards_are_read(tmp_path):
    theirs = transformers.TFWav2Vec2ForCTC(their_config({**TINY, **WIDTH}))
    values = waveforms(False)["input_values"].numpy()
    expected = theirs(values).logits.numpy()
    theirs.save_pretrained(tmp_path, safe_serialization=False, max_shard_size="30KB")
    assert len(list(tmp_path.glob("*.h5"))) > 1
    close(wav2vec2_tf.TFWav2Vec2ForCTC.from_pretrained(tmp_path)(values).logits.numpy(), expected)


def test_our_file_is_read_by_them(case, tmp_path):
    head, fields = case
    _, ours = make_pair(head, **fields)
    if fields.get("use_weighted_layer_sum"):  # transformers does not read these from its own file either: they stay 1
        ours.layer_weights.assign(np.ones(3, np.float32))
    ours.save_pretrained(tmp_path, safe_serialization=False)
    theirs, loading = getattr(transformers, f"TFWav2Vec2{head}").from_pretrained(tmp_path, output_loading_info=True)
    assert not [name for name in loading["missing_keys"] if not name.startswith("dropout")]  # they count such layers
    assert not loading["unexpected_keys"]
    values = waveforms(False)["input_values"].numpy()
    close(score(theirs(values), head), score(ours(values), head))


@pytest.mark.parametrize(
    ("head", "fields"),
    [
        ("ForPreTraining", {}),
        ("ForAudioFrameClassification", {"use_weighted_layer_sum": True}),
        ("ForXVector", {}),
        ("ForCTC", {**VARIANTS["attention-adapters"], "do_stable_layer_norm": True, "feat_extract_norm": "layer"}),
        ("ForCTC", VARIANTS["wide-adapter"]),
    ],
)
def test_h5_round_trip_of_what_they_do_not_have(head, fields, tmp_path):
    _, ours = make_pair(head, **fields)
    ours.save_pretrained(tmp_path, safe_serialization=False)
    again = getattr(wav2vec2_tf, f"TFWav2Vec2{head}").from_pretrained(tmp_path)
    values = waveforms(False)["input_values"].numpy()
    assert np.array_equal(score(again(values), head), score(ours(values), head))


@pytest.mark.parametrize("head", ["ForPreTraining", "ForCTC", "ForXVector"])
def test_safetensors_are_exchanged_with_pytorch(head, tmp_path):
    theirs, ours = make_pair(head)
    values = waveforms(False)["input_values"]
    expected = score(theirs(values), head)
    ours.save_pretrained(tmp_path / "ours")
    for cls in (getattr(transformers, f"Wav2Vec2{head}"), getattr(wav2vec2_torch, f"Wav2Vec2{head}")):
        close(score(cls.from_pretrained(tmp_path / "ours").eval()(values), head), expected)
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = getattr(wav2vec2_tf, f"TFWav2Vec2{head}").from_pretrained(tmp_path / "theirs")
    close(score(loaded(values.numpy()), head), expected)


def test_weight_names_are_theirs(tmp_path):
    theirs = transformers.TFWav2Vec2ForCTC(their_config({**TINY, **WIDTH}))
    theirs(tf.zeros((1, 400)))
    theirs.save_pretrained(tmp_path / "theirs", safe_serialization=False)
    wav2vec2_tf.TFWav2Vec2ForCTC.from_pretrained(tmp_path / "theirs").save_pretrained(
        tmp_path / "ours", safe_serialization=False
    )
    names = []
    for folder in ("theirs", "ours"):
        with h5py.File(tmp_path / folder / "tf_model.h5") as file:
            found = {}
            file.visititems(lambda name, item, found=found: found.update({name: getattr(item, "shape", None)}))
        scope = "tf_wav2_vec2_for_ctc"  # transformers numbers the models of a process
        names.append(
            {re.sub(rf"{scope}_\d+", scope, name): shape for name, shape in found.items() if shape is not None}
        )
    assert names[0] == names[1]
