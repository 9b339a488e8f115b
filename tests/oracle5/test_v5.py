"""Files exchanged with transformers 5: each side loads what the other saved, with the same numbers."""

import json

import numpy as np
import pytest
import torch
import transformers

import wav2vec2_torch
from wav2vec2_core import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wav2vec2_core.parameters import HEADS

pytestmark = pytest.mark.oracle

VOCABULARY = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6, "Ü": 7}
TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": [16] * 3, "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 2], "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4, "tdnn_dim": [16] * 5, "codevector_dim": 8, "proj_codevector_dim": 8,
    "classifier_proj_size": 8, "xvector_output_dim": 8, "vocab_size": len(VOCABULARY), "num_codevectors_per_group": 12,
}  # fmt: skip
WAVEFORM = np.random.default_rng(0).standard_normal((2, 4000)).astype(np.float32)


def randomise(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def first_output(model):
    with torch.no_grad():
        return model(torch.from_numpy(WAVEFORM))[0].numpy()


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=0)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("stable", [False, True])
def test_checkpoints_go_both_ways(head, stable, tmp_path):
    options = {**TINY, "do_stable_layer_norm": stable, "feat_extract_norm": "layer" if stable else "group"}
    ours = randomise(getattr(wav2vec2_torch, f"Wav2Vec2{head}")(Wav2Vec2Config(**options)))
    ours.save_pretrained(tmp_path / "ours")
    theirs, report = getattr(transformers, f"Wav2Vec2{head}").from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert_close(first_output(ours), first_output(theirs.eval()))

    randomise(theirs).save_pretrained(tmp_path / "theirs")
    again = getattr(wav2vec2_torch, f"Wav2Vec2{head}").from_pretrained(tmp_path / "theirs")
    assert not again.loading.new
    assert_close(first_output(again), first_output(theirs))


@pytest.fixture
def processor(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps(VOCABULARY), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    return Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer)


def test_processor_folders_go_both_ways(processor, tmp_path):
    Wav2Vec2Config(**TINY).save_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "ours")
    theirs = transformers.Wav2Vec2Processor.from_pretrained(tmp_path / "ours")
    same_behaviour(processor, theirs)

    theirs.save_pretrained(tmp_path / "theirs")
    Wav2Vec2Config(**TINY).save_pretrained(tmp_path / "theirs")
    same_behaviour(Wav2Vec2Processor.from_pretrained(tmp_path / "theirs"), theirs)


def same_behaviour(ours, theirs):
    left = ours(list(WAVEFORM), sampling_rate=16_000, return_tensors="np", padding=True)
    right = theirs(list(WAVEFORM), sampling_rate=16_000, return_tensors="np", padding=True)
    assert set(left) == set(right)
    for name in left:
        np.testing.assert_allclose(left[name], right[name], atol=1e-6)
    for text in ("AB ÜA", "A<unk>B", "  B", "xA"):
        assert list(ours.tokenizer(text).input_ids) == list(theirs.tokenizer(text).input_ids), text
    ids = np.random.default_rng(2).integers(0, len(VOCABULARY), (20, 30))
    assert ours.batch_decode(ids) == theirs.batch_decode(ids)
