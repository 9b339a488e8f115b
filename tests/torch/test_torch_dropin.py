"""PyTorch models in programs that were written for transformers."""

import copy
import pickle

import pytest
import torch
from dropin_checks import check_loading, check_questions, check_refusals, check_resized_heads, check_saving
from torch_models import TINY, tiny, waveforms

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import ConfigError, InputError
from wav2vec2_torch import Wav2Vec2ForCTC


def test_loading(tmp_path):
    check_loading(tiny("ForCTC"), tmp_path)
    check_resized_heads(tiny("ForSequenceClassification"), tmp_path)


def test_saving(tmp_path):
    check_saving(tiny("ForCTC"), tmp_path, "pytorch_model.bin")


def test_questions():
    check_questions(tiny("ForCTC"))
    model = tiny("ForCTC")
    assert (model.base_model, model.wav2vec2.base_model) == (model.wav2vec2, model.wav2vec2)
    assert (model.framework, model.supports_gradient_checkpointing) == ("pt", True)


def test_devices(tmp_path):
    tiny("ForCTC").save_pretrained(tmp_path)
    for device in ("cpu", torch.device("cpu"), {"": "cpu"}, {"wav2vec2": "cpu", "lm_head": "cpu"}):
        assert Wav2Vec2ForCTC.from_pretrained(tmp_path, device_map=device).device.type == "cpu"
    assert Wav2Vec2ForCTC.from_pretrained(tmp_path, device_map="meta").device.type == "meta"
    Wav2Vec2ForCTC.from_pretrained(tmp_path, device_map="auto")
    with pytest.raises(InputError, match=r"names 2 devices: a model is on one"):
        Wav2Vec2ForCTC.from_pretrained(tmp_path, device_map={"wav2vec2": "cpu", "lm_head": "meta"})
    with pytest.raises(InputError, match="device_map='anywhere' is no device"):
        Wav2Vec2ForCTC.from_pretrained(tmp_path, device_map="anywhere")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_a_model_hold_their_configuration(copied):
    model = tiny("ForCTC")
    again = copied(model)
    check_refusals(model)
    check_refusals(again)
    again.config.ctc_loss_reduction = "mean"
    assert again.wav2vec2.config is again.config
    assert model.config.ctc_loss_reduction == "sum"
    values = waveforms(1)
    assert torch.equal(again(values).logits, model(values).logits)


def test_what_a_model_follows():
    model = tiny("ForCTC", layerdrop=0.0, mask_time_prob=0.05).train()
    values, labels = waveforms(2), torch.tensor([[1, 2], [3, 4]])
    model.eval()
    total = model(values, labels=labels).loss
    model.config.ctc_loss_reduction = "mean"
    assert model(values, labels=labels).loss < total / 2
    model.config.output_hidden_states = True
    assert len(model(values).hidden_states) == 3
    model.config.return_dict = False
    assert isinstance(model(values), tuple)
    model.config.pad_token_id = 5
    model.config.ctc_loss_reduction = "sum"
    assert model(values, labels=labels)[0] != total
    ours = Wav2Vec2Config(**TINY)
    made = Wav2Vec2ForCTC(ours)
    ours.hidden_size = 64  # free for the next model
    assert made.config.hidden_size == TINY["hidden_size"]


def test_gradient_checkpointing_from_the_configuration(tmp_path):
    config = Wav2Vec2Config(**TINY, gradient_checkpointing=True)
    model = Wav2Vec2ForCTC(config)
    assert model.is_gradient_checkpointing
    assert "gradient_checkpointing" not in model.config.to_dict()
    model.save_pretrained(tmp_path)
    assert not Wav2Vec2ForCTC.from_pretrained(tmp_path).is_gradient_checkpointing
    assert Wav2Vec2ForCTC.from_pretrained(tmp_path, gradient_checkpointing=True).is_gradient_checkpointing
    with pytest.raises(ConfigError, match=r"call model\.gradient_checkpointing_enable"):
        model.config.gradient_checkpointing = False
