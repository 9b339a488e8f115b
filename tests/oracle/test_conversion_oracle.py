"""Converted models in transformers 4.57.6 and in torch.load: the same numbers, from fairseq's names, too."""

import argparse

import numpy as np
import pytest
import torch
import transformers
from fairseq_writers import body_settings, fairseq_state
from torch_pairs import make_pair, relative, waveforms

from wav2vec2_core.checkpoint import open_checkpoint, open_model
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.conversion import convert
from wav2vec2_torch import Wav2Vec2ForCTC, inference
from wav2vec2_torch.weights import export_weights

pytestmark = pytest.mark.oracle

FAMILIES = {
    "base": {"feat_extract_norm": "group", "do_stable_layer_norm": False},
    "large": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    "mms": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True, "adapter_attn_dim": 6},
}
MAIN = {"Model": "last_hidden_state", "ForPreTraining": "projected_states"}


def outputs(model, head):
    with torch.no_grad():
        return model(**waveforms(False))[MAIN.get(head, "logits")]


def their_fairseq_file(path, ours, config, head):
    """The checkpoint that fairseq's trainer would have saved of this model, by torch.save and with a real Namespace."""
    state = fairseq_state(export_weights(ours), config, head)
    model = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()}
    settings = argparse.Namespace(**body_settings(config), normalize=True, arch="wav2vec2", task="audio_pretraining")
    if head == "ForCTC":
        settings = argparse.Namespace(arch="wav2vec_ctc", w2v_args=settings, normalize=True)
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.ones(5)}}}
    torch.save({"args": settings, "model": model, "last_optimizer_state": optimizer}, path)


@pytest.mark.parametrize("head", ["Model", "ForPreTraining", "ForCTC"])
@pytest.mark.parametrize("family", FAMILIES)
def test_fairseq_to_transformers(tmp_path, family, head):
    theirs, ours = make_pair(head, **FAMILIES[family])
    their_fairseq_file(tmp_path / "model.pt", ours, ours.config, head)
    receipt = convert(tmp_path / "model.pt", tmp_path / "folder")
    assert receipt.largest_difference == 0
    assert receipt.output_scale > 0.1
    assert receipt.dropped == ["last_optimizer_state"]
    loaded, report = getattr(transformers, f"Wav2Vec2{head}").from_pretrained(
        tmp_path / "folder", output_loading_info=True
    )
    assert not any(report.values()), report
    assert relative(outputs(loaded.eval(), head), outputs(theirs, head)) <= 1e-6


@pytest.mark.parametrize("to", ["safetensors", "torch"])
@pytest.mark.parametrize("shards", [None, "30KB"])
@pytest.mark.parametrize("head", ["Model", "ForPreTraining", "ForCTC", "ForSequenceClassification", "ForXVector"])
def test_their_folder_through_ours_to_theirs(tmp_path, head, shards, to):
    theirs, _ = make_pair(head, **FAMILIES["large"])
    theirs.save_pretrained(tmp_path / "a", safe_serialization=False)
    receipt = convert(tmp_path / "a", tmp_path / "b", to, max_shard_size=shards)
    assert receipt.largest_difference == 0
    loaded, report = type(theirs).from_pretrained(tmp_path / "b", output_loading_info=True)
    assert not any(report.values()), report
    for name, value in theirs.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.parametrize("to", ["torch", "fairseq"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_torch_loads_what_we_write(tmp_path, dtype, to):
    theirs, ours = make_pair("ForCTC", **FAMILIES["mms"])
    theirs.save_pretrained(tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "b", to, dtype=dtype, verify=False)
    path = tmp_path / "b" / ("pytorch_model.bin" if to == "torch" else "checkpoint_best.pt")
    for mapped in (False, True):
        loaded = torch.load(path, weights_only=True, mmap=mapped)
        if to == "fairseq":
            assert loaded["args"] is None
            assert loaded["cfg"]["model"]["w2v_args"]["model"]["encoder_layers"] == ours.config.num_hidden_layers
            assert loaded["optimizer_history"][-1]["num_updates"] == 0
            loaded = loaded["model"]
            assert loaded["w2v_encoder.w2v_model.encoder.layers.0.adapter_layer.W_a"].shape == (1, 6, 32)
            expected = fairseq_state(export_weights(ours), ours.config, "ForCTC")
        else:
            expected = export_weights(ours)
        assert loaded.keys() == expected.keys()
        for name, array in expected.items():
            assert loaded[name].is_contiguous()
            assert torch.equal(loaded[name], torch.from_numpy(array.copy()).to(getattr(torch, dtype))), name


def test_a_file_loads_without_a_folder(tmp_path):
    theirs, ours = make_pair("ForCTC", **FAMILIES["base"])
    their_fairseq_file(tmp_path / "model.pt", ours, ours.config, "ForCTC")
    loaded = Wav2Vec2ForCTC.from_pretrained(tmp_path / "model.pt")
    assert relative(outputs(loaded, "ForCTC"), outputs(theirs, "ForCTC")) <= 1e-6
    model = inference.load_model(tmp_path / "model.pt", device="cpu")
    assert model.logits([np.zeros(700, np.float32)])[0].shape[1] == 11


def test_the_difference_of_another_type_is_told(tmp_path):
    theirs, _ = make_pair("ForCTC", **FAMILIES["base"])
    theirs.save_pretrained(tmp_path / "a")
    receipt = convert(tmp_path / "a", tmp_path / "b", dtype="bfloat16")
    assert 1e-5 < receipt.largest_difference / receipt.output_scale < 0.1


def test_the_receipt_sees_a_wrong_model(tmp_path, monkeypatch):
    theirs, _ = make_pair("ForCTC", **FAMILIES["base"])
    theirs.save_pretrained(tmp_path / "a")
    real = Wav2Vec2Config.save_pretrained

    def other_order(config, folder):
        real(config.replace(do_stable_layer_norm=True), folder)

    monkeypatch.setattr(Wav2Vec2Config, "save_pretrained", other_order)
    receipt = convert(tmp_path / "a", tmp_path / "b")
    assert receipt.arrays_equal == len(open_checkpoint(open_model(tmp_path / "a")).shapes)
    assert receipt.largest_difference > 0.01 * receipt.output_scale
