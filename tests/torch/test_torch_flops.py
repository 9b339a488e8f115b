"""The operations that the core counts are those that PyTorch counts while a model runs."""

import pytest
import torch
from model_cases import QUIET, TINY
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import wav2vec2_torch
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.flops import forward_flops

SAMPLES = 4000


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("Model", {}),
        ("Model", {"add_adapter": True, "output_hidden_size": 24}),
        ("ForCTC", {}),
        ("ForCTC", {"adapter_attn_dim": 4, "do_stable_layer_norm": True}),
        ("ForSequenceClassification", {}),
        ("ForAudioFrameClassification", {}),
        ("ForXVector", {}),
        ("ForPreTraining", {}),
    ],
)
def test_both_count_the_same(head, changes):
    config = Wav2Vec2Config(**{**TINY, **QUIET, **changes})
    name = "Wav2Vec2Model" if head == "Model" else f"Wav2Vec2{head}"
    model = getattr(wav2vec2_torch, name)(config).eval()
    # The counter does not know the fused attention of processors.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(torch.randn(1, SAMPLES))
    counted = sum(forward_flops(config, head, SAMPLES).values())
    assert counter.get_total_flops() == pytest.approx(counted, rel=0.02)
