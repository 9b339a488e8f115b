"""What training needs, before it starts: memory, computed from the configuration; times as people say them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import parameter_table

_FLOAT32 = 4


@dataclass(frozen=True)
class Memory:
    """Bytes that a device needs for training, beside the framework itself."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.parameters + self.gradients + self.optimizer + self.activations

    def __str__(self) -> str:
        """``1.7 GB: parameters 378 MB, gradients ...``."""
        parts = {
            "parameters": self.parameters,
            "gradients": self.gradients,
            "Adam": self.optimizer,
            "activations": self.activations,
        }
        return f"{_size(self.total)}: " + ", ".join(f"{name} {_size(value)}" for name, value in parts.items())


def memory_of(
    config: Wav2Vec2Config,
    head: str,
    trained: Collection[str],
    samples: int,
    longest: int,
    *,
    dtype: str = "float32",
    keeps_attention: bool = True,
) -> Memory:
    """Estimate the memory of training.

    Parameters take 4 bytes each, their gradients 4 where they are trained, and the two moments of Adam 8. For each
    frame of each transformer layer the backward pass needs 8 vectors of ``hidden_size`` (input, query, key, value,
    context twice, inputs of both layer norms), 2 of ``intermediate_size`` (before and after the activation), the draws
    of each dropout that is used, and the weights of each head where they are kept. A convolution needs 3 arrays of its
    output (before and after the norm, after the activation): those of all until the backward pass, and the gradients of
    the largest, where the feature encoder is trained, otherwise those of one at a time.

    Args:
        config, head: of the model.
        trained: names of parameters.
        samples: in the largest micro-batch, padding included.
        longest: of them in one row.
        dtype: of the computation.
        keeps_attention: whether attention weights are kept for the backward pass, which fused kernels avoid.
    """
    table = parameter_table(config, head)
    count = sum(row.size for row in table.values())
    learned = sum(row.size for name, row in table.items() if name in trained)
    number = _FLOAT32 if dtype == "float32" else 2
    hidden = 8 + 2 * (config.hidden_dropout > 0)
    intermediate = 2 + (config.activation_dropout > 0)
    weights = 4 if config.attention_dropout > 0 else 2 * keeps_attention
    kept_in_layer = (
        hidden * config.hidden_size
        + intermediate * config.intermediate_size
        + weights * config.num_attention_heads * config.num_frames(longest, add_adapter=False)
    )
    frames = samples // config.inputs_to_logits_ratio
    transformer = frames * config.num_hidden_layers * kept_in_layer * number
    convolutions, length = [], samples
    for width, stride in zip(config.conv_dim, config.conv_stride, strict=True):
        length //= stride
        convolutions.append(3 * width * length * number)
    encoder_learns = any(table[name].group == "feature_encoder" for name in trained if name in table)
    largest = max(convolutions)
    activations = transformer + sum(convolutions) + largest if encoder_learns else max(transformer, largest)
    return Memory(_FLOAT32 * count, _FLOAT32 * learned, 2 * _FLOAT32 * learned, activations)


def spoken_time(seconds: float) -> str:
    """A duration as people say it: ``40 s``, ``12 min``, ``3.5 h``, ``2.1 days``."""
    for unit, size, least in (("days", 86_400, 2 * 86_400), ("h", 3600, 2 * 3600), ("min", 60, 120)):
        if seconds >= least:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
