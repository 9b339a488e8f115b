"""Floating-point operations of a model, counted from its configuration: what a compiler's own count misses in loops.

A multiplication and an addition are two. Only products of matrices and convolutions count, as is usual for the share of
a device's peak; the rest is under 2 %.
"""

from __future__ import annotations

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.names import HEADS
from wav2vec2_core.parameters import ctc_input_size, has_attention_adapters

#: Parts of a model in the order of ``forward_flops``.
PARTS = ("feature_encoder", "positional_convolution", "linear_layers", "attention", "head")


def forward_flops(
    config: Wav2Vec2Config, head: str, samples: int, *, masked: int = 0, negatives: int = 0
) -> dict[str, float]:
    """Operations of one forward pass of one row, by part: see ``PARTS``.

    Args:
        config: of the model.
        head: one of ``HEADS``.
        samples: of the row.
        masked: frames that the contrastive loss compares, for ``ForPreTraining``.
        negatives: distractors of each of them; 0 where each is compared with every other one.

    Raises:
        InputError: the head is unknown, or the row is shorter than a frame.
    """
    if head not in HEADS:
        raise InputError(f"head {head!r:.100} is unknown: use one of {', '.join(HEADS)}")
    frames = config.num_frames(samples, add_adapter=False)
    if frames < 1:
        raise InputError(f"{samples} samples are shorter than a frame, which needs {config.receptive_field}")
    hidden, layers = config.hidden_size, config.num_hidden_layers
    kernel, groups = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
    linear = config.conv_dim[-1] * hidden + layers * (4 * hidden**2 + 2 * hidden * config.intermediate_size)
    if has_attention_adapters(config):
        linear += layers * 2 * hidden * (config.adapter_attn_dim or 0)
    return {
        "feature_encoder": _convolutions(config, samples),
        "positional_convolution": 2.0 * frames * hidden * (hidden // groups) * kernel,
        "linear_layers": 2.0 * frames * linear,
        "attention": layers * 4.0 * frames**2 * hidden,
        "head": _adapter(config, frames) + _head(config, head, frames, masked, negatives),
    }


def training_flops(
    config: Wav2Vec2Config,
    head: str,
    samples: int,
    *,
    masked: int = 0,
    negatives: int = 0,
    train_feature_encoder: bool = True,
) -> float:
    """Operations of one training step for one row: the forward pass, and a backward pass of twice as many.

    What is computed again to save memory is not counted. ``train_feature_encoder``: without it that part has no
    backward pass. The other arguments, and errors, are those of ``forward_flops``.
    """
    parts = forward_flops(config, head, samples, masked=masked, negatives=negatives)
    frozen = 0.0 if train_feature_encoder else parts["feature_encoder"]
    return 3 * sum(parts.values()) - 2 * frozen


def _convolutions(config: Wav2Vec2Config, samples: int) -> float:
    total, inputs, length = 0.0, 1, samples
    for outputs, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        length = (length - kernel) // stride + 1
        total += 2.0 * length * outputs * inputs * kernel
        inputs = outputs
    return total


def _adapter(config: Wav2Vec2Config, frames: int) -> float:
    """The convolutional adapter, whose gates double the outputs of each layer."""
    if not config.add_adapter:
        return 0.0
    size = ctc_input_size(config)
    total = 2.0 * frames * config.hidden_size * size if size != config.hidden_size else 0.0
    for _ in range(config.num_adapter_layers):
        frames = (frames + 2 - config.adapter_kernel_size) // config.adapter_stride + 1
        total += 2.0 * frames * 2 * size * size * config.adapter_kernel_size
    return total


def _head(config: Wav2Vec2Config, head: str, frames: int, masked: int, negatives: int) -> float:
    hidden, labels = config.hidden_size, config.num_labels or 0
    if head == "ForCTC":
        last = config.num_adapter_frames(frames) if config.add_adapter else frames
        return 2.0 * last * ctc_input_size(config) * config.vocab_size
    if head == "ForSequenceClassification" and config.classifier_head == "tanh":
        return 2.0 * hidden * (hidden + labels)
    if head == "ForSequenceClassification":
        return 2.0 * frames * hidden * config.classifier_proj_size + 2.0 * config.classifier_proj_size * labels
    if head == "ForAudioFrameClassification":
        return 2.0 * frames * hidden * labels
    if head == "ForXVector":
        return _time_delays(config, frames)
    if head == "ForPreTraining":
        entries = config.num_codevector_groups * config.num_codevectors_per_group
        chosen = config.num_codevectors_per_group * config.codevector_dim  # codes times codebook, one-hot or not
        projections = (hidden + config.codevector_dim) * config.proj_codevector_dim
        compared = masked * (negatives + 1 if negatives else masked)
        return 2.0 * frames * (config.conv_dim[-1] * entries + chosen + projections) + (
            2.0 * compared * config.proj_codevector_dim
        )
    return 0.0


def _time_delays(config: Wav2Vec2Config, frames: int) -> float:
    inputs = config.tdnn_dim[0]
    total = 2.0 * frames * ctc_input_size(config) * inputs
    for outputs, kernel, dilation in zip(config.tdnn_dim, config.tdnn_kernel, config.tdnn_dilation, strict=True):
        frames -= dilation * (kernel - 1)
        total += 2.0 * frames * inputs * kernel * outputs
        inputs = outputs
    size = config.xvector_output_dim
    return total + 2.0 * (2 * inputs * size + size * size)
