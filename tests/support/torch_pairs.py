"""Pairs of one model in transformers and in wav2vec2_torch with the same parameters, every one of them random."""

import torch
import transformers

import wav2vec2_torch
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import HEADS
from wav2vec2_core.weight_files.checkpoint import canonical_name
from wav2vec2_torch.weights import fill_weights, to_array

TINY = {
    "vocab_size": 11,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "conv_dim": (16, 20, 24),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 8,
    "num_codevector_groups": 2,
    "codevector_dim": 16,
    "proj_codevector_dim": 12,
    "classifier_proj_size": 14,
    "num_labels": 5,
    "tdnn_dim": (18, 18, 20),
    "tdnn_kernel": (3, 2, 1),
    "tdnn_dilation": (1, 2, 1),
    "xvector_output_dim": 10,
    "mask_time_length": 4,
    # No randomness that cannot be passed in.
    "hidden_dropout": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "feat_quantizer_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
}
NORMS = [(feature, stable) for feature in ("group", "layer") for stable in (False, True)]
VARIANTS = {
    "plain": {"conv_bias": True},
    "adapter": {"add_adapter": True, "num_adapter_layers": 2},
    "wide-adapter": {"add_adapter": True, "num_adapter_layers": 1, "adapter_stride": 3, "output_hidden_size": 28},
    "attention-adapters": {"adapter_attn_dim": 6},
    "weighted-sum": {"use_weighted_layer_sum": True},
}
SAMPLES = (1500, 1203, 700)  # 74, 59 and 34 frames


def cases():
    """(head, feature norm, stable, variant) for every legal combination."""
    for head in HEADS:
        for feature, stable in NORMS:
            for variant in VARIANTS:
                adapter = variant.endswith("adapter")
                if adapter and head in {"ForSequenceClassification", "ForAudioFrameClassification"}:
                    continue
                if variant == "wide-adapter" and head in {"ForPreTraining", "ForXVector"}:
                    continue
                if variant == "attention-adapters" and not stable:
                    continue
                if variant == "weighted-sum" and head in {"Model", "ForPreTraining", "ForCTC"}:
                    continue
                yield head, feature, stable, variant


def make_pair(head, seed=0, **fields):
    """The transformers model with random parameters, and ours with the same ones; both in eval mode."""
    fields = {**TINY, **fields}
    theirs = getattr(transformers, f"Wav2Vec2{head}")(their_config(fields)).eval()
    randomise(theirs, seed)
    ours = getattr(wav2vec2_torch, f"Wav2Vec2{head}")(Wav2Vec2Config(**fields)).eval()
    copy_parameters(theirs, ours)
    return theirs, ours


def their_config(fields):
    config = transformers.Wav2Vec2Config(**{key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()})
    config._attn_implementation = "eager"  # the one that can return attentions
    return config


def randomise(model, seed):
    """Give every parameter random values: norm weights around 1, biases and gains away from 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            scale = 1.0 if fan_in == 1 else 1.5 * fan_in**-0.5
            centred = 1.0 if parameter.dim() == 1 and (parameter > 0.5).all() else 0.0
            parameter.copy_(centred + noise * (0.3 if parameter.dim() == 1 else scale))


def copy_parameters(theirs, ours):
    values = {canonical_name(name): to_array(value).copy() for name, value in theirs.state_dict().items()}
    assert set(values) == set(ours.state_dict())
    fill_weights(ours, values.items())


def waveforms(masked, seed=1):
    """Arguments of a call: three waveforms, with an attention mask over different lengths or without."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(len(SAMPLES), max(SAMPLES), generator=generator)
    if not masked:
        return {"input_values": values}
    mask = (torch.arange(max(SAMPLES)) < torch.tensor(SAMPLES)[:, None]).long()
    return {"input_values": values * mask, "attention_mask": mask}


def relative(ours, theirs):
    """Largest difference, relative to the largest value."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30)).item()
