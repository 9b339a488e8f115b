"""Batches of tokenizer and feature extractor as torch tensors."""

import pytest
import torch

from wav2vec2_core.batching import Batch, to_tensor
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor

LONG, SHORT = [0.0, 1.0, 2.0, 3.0], [1.0, 0.5]
RATE = {"sampling_rate": 16000}


def test_torch_tensors():
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    for audio in (torch.tensor([LONG, LONG]), [torch.tensor(LONG), torch.tensor(LONG)]):
        values = extractor(audio, return_tensors="pt", **RATE).input_values
        assert isinstance(values, torch.Tensor)
        assert values.tolist() == [LONG, LONG]
    (single,) = extractor(torch.tensor(LONG, dtype=torch.bfloat16), **RATE).input_values
    assert single.tolist() == LONG


def test_collating_tensors_gives_tensors():
    batch = Wav2Vec2FeatureExtractor().pad([{"input_values": torch.tensor(row)} for row in (LONG, SHORT)])
    assert isinstance(batch.input_values, torch.Tensor)
    assert batch.input_values.tolist() == [LONG, [1.0, 0.5, 0.0, 0.0]]


def test_batches_move_to_a_device_and_type():
    batch = Batch(input_values=[[0.5]], input_ids=[[1]], names=["a"])
    batch = Batch({name: value if name == "names" else to_tensor(value, "pt") for name, value in batch.items()})
    moved = batch.to("cpu", torch.float16)
    assert (moved.input_values.dtype, moved.input_ids.dtype, moved.names) == (torch.float16, torch.int64, ["a"])
    assert moved.to(dtype=torch.float64).input_values.dtype == torch.float64
    assert moved.to("meta").input_ids.device.type == "meta"
    with pytest.raises(AttributeError, match="no entry 'labels'"):
        _ = batch.labels
