"""flax_model.msgpack exchanged with transformers 4.57.6 and the old JAX that it runs on.

Beside that JAX only the core and the PyTorch back end install; that wav2vec2_flax writes the same bytes as flax itself
is shown in tests/flax.
"""

import numpy as np
import pytest
import torch
import transformers
from flax.traverse_util import flatten_dict, unflatten_dict
from torch_pairs import TINY, make_pair, waveforms

import wav2vec2_torch
from wav2vec2_core.checkpoint import write_flax_checkpoint
from wav2vec2_core.conversion import convert
from wav2vec2_core.weight_files.flax_msgpack import flax_name
from wav2vec2_torch.weights import export_weights

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the old libraries
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}  # all that they implement
CASES = [
    ("Model", {}),
    ("ForPreTraining", {}),
    ("ForCTC", {}),
    ("ForCTC", {"add_adapter": True, "num_adapter_layers": 2}),
    ("ForCTC", {"add_adapter": True, "num_adapter_layers": 1, "output_hidden_size": 28}),
]
MAIN = {"Model": "last_hidden_state", "ForPreTraining": "projected_quantized_states", "ForCTC": "logits"}


def flax_class(head):
    return getattr(transformers, f"FlaxWav2Vec2{head}")


def error(theirs, ours, head):
    call = waveforms(True)
    with torch.no_grad():
        expected = ours(**call)[MAIN[head]].numpy()
    found = np.asarray(theirs(**{name: value.numpy() for name, value in call.items()})[MAIN[head]])
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(("head", "fields"), CASES)
def test_our_file_loads_there(head, fields, tmp_path):
    theirs, ours = make_pair(head, **STABLE, **fields)
    tree = flatten_dict(flax_class(head)(theirs.config).params)
    weights = export_weights(ours)
    for path in tree:
        name, reverse = flax_name(path)
        tree[path] = weights[name].T if reverse else weights[name]
    write_flax_checkpoint(tmp_path, unflatten_dict(tree))
    ours.config.save_pretrained(tmp_path)
    assert error(flax_class(head).from_pretrained(tmp_path), ours, head) <= 1e-5


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize(("head", "fields"), CASES)
def test_their_file_loads_here(head, fields, shards, tmp_path):
    theirs = flax_class(head)(transformers.Wav2Vec2Config(**{**TINY, **STABLE, **fields}), seed=5)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB" if shards else "10GB")
    assert (tmp_path / "flax_model.msgpack.index.json").exists() == shards
    ours = getattr(wav2vec2_torch, f"Wav2Vec2{head}").from_pretrained(tmp_path)
    assert ours.loading.new == ours.loading.ignored == ()
    assert error(theirs, ours, head) <= 1e-5


@pytest.mark.parametrize(("head", "fields"), CASES)
def test_a_conversion_loads_there(head, fields, tmp_path):
    theirs, ours = make_pair(head, **STABLE, **fields)
    theirs.save_pretrained(tmp_path / "a")
    assert convert(tmp_path / "a", tmp_path / "b", "flax").largest_difference == 0
    assert error(flax_class(head).from_pretrained(tmp_path / "b"), ours, head) <= 1e-5
