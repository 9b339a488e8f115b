"""Checkpoint files against those of transformers and torch.save, both ways, to the last bit."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from wav2vec2_core.checkpoint import (
    open_checkpoint,
    open_model,
    plan_loading,
    read_adapter,
    write_adapter,
    write_checkpoint,
)
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.parameters import HEADS, parameter_table
from wav2vec2_core.weight_files.inert_pickle import STORAGES
from wav2vec2_core.weight_files.torch_pickle import TorchFile

pytestmark = pytest.mark.oracle

TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": [8, 8, 8], "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 2], "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4, "tdnn_dim": [16] * 5, "codevector_dim": 8, "proj_codevector_dim": 8,
    "classifier_proj_size": 8, "xvector_output_dim": 8,
}  # fmt: skip
MMS = {**TINY, "do_stable_layer_norm": True, "feat_extract_norm": "layer", "adapter_attn_dim": 4}


def theirs(head="ForCTC", **fields):
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**{**TINY, **fields})
    model = getattr(transformers, f"Wav2Vec2{head}")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def released_name(name):
    name = name.replace("parametrizations.weight.original0", "weight_g")
    return name.replace("parametrizations.weight.original1", "weight_v")


def canonical_values(model):
    """Their values under the names of the released checkpoints."""
    return {released_name(name): tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}


def check_loads(folder, head, model):
    """The plan fills every parameter of the table, with the model's values."""
    checkpoint = open_checkpoint(open_model(folder))
    plan = plan_loading(parameter_table(Wav2Vec2Config.from_pretrained(folder), head), checkpoint)
    assert plan.new == plan.ignored == ()
    expected = canonical_values(model)
    assert set(plan.sources) == set(expected)
    for ours, source in plan.sources.items():
        assert np.array_equal(checkpoint.read(source, np.float32), expected[ours]), ours
    return checkpoint


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("fields", [{}, {"use_weighted_layer_sum": True}, {"add_adapter": True}], ids=str)
def test_their_folders_load(tmp_path, head, fields):
    if "add_adapter" in fields and head not in ("Model", "ForCTC"):
        fields = MMS  # the other heads have no conv adapters
    model = theirs(head, **fields)
    model.save_pretrained(tmp_path)
    check_loads(tmp_path, head, model)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_their_half_precision(tmp_path, dtype):
    model = theirs().to(getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    assert set(check_loads(tmp_path, "ForCTC", model).dtypes.values()) == {dtype}


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_their_shards(tmp_path, safe):
    model = theirs()
    model.save_pretrained(tmp_path, max_shard_size="20KB", safe_serialization=safe)
    assert len(check_loads(tmp_path, "ForCTC", model).files) > 2


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_their_bin_in_every_layout(tmp_path, options, dtype):
    model = theirs().to(getattr(torch, dtype))
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin", **options)
    check_loads(tmp_path, "ForCTC", model)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_every_kind_of_tensor(tmp_path, options):
    base = torch.arange(24, dtype=torch.float32)
    state = {
        "base": base,
        "tied": base,
        "turned": base.view(4, 6).t(),
        "part": base[5:20:3],
        "block": base.view(2, 3, 4)[:, 1:, ::2].permute(2, 0, 1),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        **{name: torch.ones(3).to(getattr(torch, name)) for name in STORAGES.values()},
    }
    torch.save(state, tmp_path / "x.bin", **options)
    file = TorchFile(tmp_path / "x.bin")
    assert set(file.shapes) == set(state)
    for name, tensor in state.items():
        found = file.read(name)
        assert found.shape == tuple(tensor.shape)
        assert found.dtype.name == str(tensor.dtype).removeprefix("torch.")
        assert np.array_equal(found.astype(np.float64), tensor.detach().double().numpy()), name


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_what_else_torch_saves_is_refused(tmp_path, options):
    for value in (
        torch.nn.Linear(2, 2),
        {"w": torch.zeros(2).to_sparse()},
        {"w": torch.zeros(2, dtype=torch.complex64)},
        {"w": np.zeros(2)},
        {"state_dict": {"w": torch.zeros(2)}},
        [torch.zeros(2)],
        torch.zeros(2),
    ):
        torch.save(value, tmp_path / "x.bin", **options)
        with pytest.raises(CheckpointError) as caught:
            TorchFile(tmp_path / "x.bin")
        assert "\n" not in str(caught.value)


# ---- the other way --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("limit", ["5GB", "20KB"])
def test_our_folders_load_there(tmp_path, head, limit):
    model = theirs(head)
    values = canonical_values(model)
    write_checkpoint(tmp_path, values, max_shard_size=limit)
    Wav2Vec2Config(**TINY).save_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for name, array in canonical_values(loaded).items():
        assert np.array_equal(array, values[name]), name


def test_our_files_are_laid_out_as_theirs(tmp_path):
    model = theirs()
    model.save_pretrained(tmp_path / "theirs")
    checkpoint = open_checkpoint(open_model(tmp_path / "theirs"))
    write_checkpoint(tmp_path / "ours", {name: checkpoint.read(name) for name in checkpoint.shapes})
    ours, other = (load_file(tmp_path / side / "model.safetensors") for side in ("ours", "theirs"))
    assert ours.keys() == {released_name(name) for name in other}
    save_file(ours, tmp_path / "again.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "ours" / "model.safetensors").read_bytes()


def test_our_half_precision_loads_there(tmp_path):
    from ml_dtypes import bfloat16

    model = theirs()
    write_checkpoint(tmp_path, {name: array.astype(bfloat16) for name, array in canonical_values(model).items()})
    Wav2Vec2Config(**TINY, dtype="bfloat16").save_pretrained(tmp_path)
    loaded = transformers.Wav2Vec2ForCTC.from_pretrained(tmp_path, dtype="auto")
    assert loaded.dtype == torch.bfloat16
    for name, tensor in model.to(torch.bfloat16).state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_adapters_both_ways(tmp_path):
    model = theirs(**MMS)
    model.save_pretrained(tmp_path)
    adapter = {name: tensor.detach().clone() for name, tensor in model._get_adapters().items()}
    save_file(adapter, tmp_path / "adapter.eng.safetensors", metadata={"format": "pt"})
    torch.save(adapter, tmp_path / "adapter.fra.bin")
    source = open_model(tmp_path)
    assert source.adapter_languages() == ["eng", "fra"]
    for language in ("eng", "fra"):
        checkpoint = read_adapter(source, language)
        assert set(checkpoint.shapes) == set(adapter)
        for name, tensor in adapter.items():
            assert np.array_equal(checkpoint.read(name), tensor.numpy()), name
    changed = {name: tensor.numpy() + 1 for name, tensor in adapter.items()}
    write_adapter(tmp_path, "deu", changed)
    model = transformers.Wav2Vec2ForCTC.from_pretrained(tmp_path)  # load_adapter looks where the model came from
    model.load_adapter("deu")
    for name, tensor in model._get_adapters().items():
        assert np.array_equal(tensor.detach().numpy(), changed[name]), name


def test_our_index_is_theirs(tmp_path):
    model = theirs()
    model.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    write_checkpoint(tmp_path / "ours", canonical_values(model), max_shard_size="20KB")
    index = "model.safetensors.index.json"
    ours, other = (json.loads((tmp_path / side / index).read_text()) for side in ("ours", "theirs"))
    assert ours["metadata"]["total_size"] == other["metadata"]["total_size"]
    assert ours["weight_map"].keys() == {released_name(name) for name in other["weight_map"]}
