"""Checkpoints exchanged with transformers, full-size models, and training with its Trainer."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from torch_pairs import TINY, make_pair, randomise, relative, their_config, waveforms

import wav2vec2_torch
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import HEADS
from wav2vec2_torch import Wav2Vec2ForCTC, inference

pytestmark = pytest.mark.oracle

FAMILIES = {
    "base": {"feat_extract_norm": "group", "do_stable_layer_norm": False},
    "large": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
}
MAIN = {
    "Model": "last_hidden_state",
    "ForPreTraining": "projected_quantized_states",
    "ForXVector": "embeddings",
}


def their_class(head):
    return getattr(transformers, f"Wav2Vec2{head}")


def our_class(head):
    return getattr(wav2vec2_torch, f"Wav2Vec2{head}")


def main_field(head, output):
    return output[MAIN.get(head, "logits")]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_their_folder_loads_here(head, family, tmp_path):
    theirs, _ = make_pair(head, **FAMILIES[family])
    theirs.save_pretrained(tmp_path)
    ours = our_class(head).from_pretrained(tmp_path)
    assert not ours.training
    assert ours.loading.new == ours.loading.ignored == ()
    call = waveforms(True)
    with torch.no_grad():
        assert relative(main_field(head, ours(**call)), main_field(head, theirs(**call))) <= 1e-5


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_our_folder_loads_there(head, family, shards, tmp_path):
    _, ours = make_pair(head, **FAMILIES[family])
    ours.save_pretrained(tmp_path, max_shard_size="40KB" if shards else "5GB")
    assert (tmp_path / "model.safetensors").exists() != shards
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [f"Wav2Vec2{head}"]
    theirs, report = their_class(head).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    call = waveforms(True)
    with torch.no_grad():
        assert relative(main_field(head, ours(**call)), main_field(head, theirs(**call))) <= 1e-5


def test_pickled_and_half_precision_folders_load(tmp_path):
    theirs, _ = make_pair("ForCTC", **FAMILIES["large"])
    theirs.bfloat16().save_pretrained(tmp_path, safe_serialization=False)
    assert (tmp_path / "pytorch_model.bin").exists()
    wide = Wav2Vec2ForCTC.from_pretrained(tmp_path)
    assert wide.dtype == torch.float32
    narrow = Wav2Vec2ForCTC.from_pretrained(tmp_path, dtype="auto")
    assert narrow.dtype == torch.bfloat16
    for name, value in theirs.state_dict().items():
        if name in wide.state_dict():
            assert torch.equal(wide.state_dict()[name], value.float())
            assert torch.equal(narrow.state_dict()[name], value)


def test_language_adapters_go_both_ways(tmp_path):
    fields = {**FAMILIES["large"], "adapter_attn_dim": 6}
    theirs, _ = make_pair("ForCTC", **fields)
    theirs.save_pretrained(tmp_path)
    other, ours = make_pair("ForCTC", seed=3, **{**fields, "vocab_size": 17})
    ours.save_adapter(tmp_path, "xyz")
    with safe_open(tmp_path / "adapter.xyz.safetensors", "pt") as file:
        assert set(file.keys()) == set(other._get_adapters())
    theirs.config._name_or_path = str(tmp_path)
    theirs.load_adapter("xyz")
    loaded = Wav2Vec2ForCTC.from_pretrained(tmp_path, target_lang="xyz")
    assert loaded.config.vocab_size == loaded.lm_head.out_features == 17
    call = waveforms(True)
    with torch.no_grad():
        reference = theirs(**call).logits
        assert reference.shape[-1] == 17
        assert relative(loaded(**call).logits, reference) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["base", "large-lv60"])
def test_full_size(preset, tmp_path):
    """Random checkpoints of the released sizes; a second of audio."""
    fields = {name: value for name, value in Wav2Vec2Config.preset(preset).to_dict().items() if name != "id2label"}
    torch.manual_seed(0)
    theirs = transformers.Wav2Vec2ForCTC(their_config(fields)).eval()
    randomise(theirs, 0)
    theirs.save_pretrained(tmp_path)
    values = torch.randn(2, 16_000)
    mask = torch.ones(2, 16_000, dtype=torch.long)
    mask[1, 9_000:] = 0
    with torch.no_grad():
        reference = theirs(values, mask).logits
        del theirs
        ours = Wav2Vec2ForCTC.from_pretrained(tmp_path)
        error = relative(ours(values, mask).logits, reference)
    assert error <= 1e-4, f"{error:.2e}"


class RandomSpeech(torch.utils.data.Dataset):
    """Thirty-two waveforms and labels of different lengths."""

    def __init__(self):
        generator = np.random.default_rng(0)
        self.items = [
            {"values": generator.standard_normal(length).astype(np.float32), "labels": generator.integers(1, 11, 5)}
            for length in generator.integers(600, 1500, 32)
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def collate(items):
    longest = max(len(item["values"]) for item in items)
    values, mask = np.zeros((2, len(items), longest), np.float32)
    for row, item in enumerate(items):
        values[row, : len(item["values"])] = item["values"]
        mask[row, : len(item["values"])] = 1
    return {
        "input_values": torch.from_numpy(values),
        "attention_mask": torch.from_numpy(mask).long(),
        "labels": torch.tensor(np.array([item["labels"] for item in items])),
    }


@pytest.mark.parametrize("checkpointing", [False, True])
def test_ten_steps_with_their_trainer(checkpointing, tmp_path):
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**{**TINY, "layerdrop": 0.1, "ctc_loss_reduction": "mean"}))
    model.freeze_feature_encoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    arguments = transformers.TrainingArguments(
        tmp_path,
        max_steps=10,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        logging_steps=1,
        report_to=[],
        remove_unused_columns=False,
        gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    data = RandomSpeech()
    trainer = transformers.Trainer(model, arguments, collate, data, data)
    trainer.train()
    assert model.is_gradient_checkpointing == checkpointing
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 10
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    for name, value in model.state_dict().items():
        frozen = ".feature_extractor." in name
        assert torch.equal(before[name], value) == frozen or name.endswith("k_proj.bias"), name
    assert np.isfinite(trainer.evaluate()["eval_loss"])
    predictions = trainer.predict(RandomSpeech()).predictions
    assert predictions.shape[0] == 32
    trainer.save_model(tmp_path / "final")
    model.config.save_pretrained(tmp_path / "final")
    again = Wav2Vec2ForCTC.from_pretrained(tmp_path / "final")
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_inference_gives_their_numbers_one_by_one(tmp_path):
    theirs, _ = make_pair("ForCTC")
    theirs.save_pretrained(tmp_path)
    model = inference.load_model(tmp_path, device="cpu")
    generator = np.random.default_rng(0)
    batch = [generator.standard_normal(length).astype(np.float32) for length in (1500, 700, 1100, 60, 1501)]
    results = model.logits(batch)
    with torch.no_grad():
        for waveform, result in zip(batch, results, strict=True):
            reference = theirs(torch.from_numpy(waveform)[None]).logits[0]
            assert relative(torch.from_numpy(result), reference) <= 1e-4
