"""Small models for the tests of the PyTorch back end, every parameter random."""

import itertools

import torch

import wav2vec2_torch
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import ConfigError
from wav2vec2_core.parameters import HEADS

TINY = {
    "vocab_size": 11, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
    "conv_dim": (16, 20, 24), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "num_codevectors_per_group": 8, "codevector_dim": 16, "proj_codevector_dim": 12,
    "classifier_proj_size": 14, "num_labels": 5, "tdnn_dim": (18, 18, 20), "tdnn_kernel": (3, 2, 1),
    "tdnn_dilation": (1, 2, 1), "xvector_output_dim": 10, "mask_time_length": 4,
}  # fmt: skip
QUIET = {
    "hidden_dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0,
    "feat_quantizer_dropout": 0.0, "final_dropout": 0.0, "layerdrop": 0.0,
}  # fmt: skip
NORMS = {
    f"{feature}-{'pre' if stable else 'post'}": {"feat_extract_norm": feature, "do_stable_layer_norm": stable}
    for feature, stable in itertools.product(("group", "layer"), (False, True))
}
VARIANTS = {
    "plain": {"conv_bias": True},
    "adapter": {"add_adapter": True, "num_adapter_layers": 2},
    "wide-adapter": {"add_adapter": True, "num_adapter_layers": 1, "adapter_stride": 3, "adapter_kernel_size": 4,
                     "output_hidden_size": 28},
    "attention-adapters": {"adapter_attn_dim": 6},
    "weighted-sum": {"use_weighted_layer_sum": True},
}  # fmt: skip
FRAMES = 74
SAMPLES = 1500


def model_class(head):
    return getattr(wav2vec2_torch, f"Wav2Vec2{head}")


def tiny(head="Model", seed=0, **fields):
    """A model in eval mode with random biases, norms and gains."""
    torch.manual_seed(seed)
    model = model_class(head)(Wav2Vec2Config(**{**TINY, **fields})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def legal_models():
    """(head, fields) of every head, norm and variant that go together."""
    for head, norm, variant in itertools.product(HEADS, NORMS, VARIANTS):
        fields = {**NORMS[norm], **VARIANTS[variant]}
        try:
            with torch.device("meta"):
                model_class(head)(Wav2Vec2Config(**{**TINY, **fields}))
        except ConfigError:
            continue
        yield head, norm, variant


def waveforms(batch=3, samples=SAMPLES, seed=1):
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def relative(ours, theirs):
    """Largest difference, relative to the largest value."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30)).item()
