"""The model after the feature encoder, for inference: utterances packed one after the other, without padding.

The numbers are those of ``model.Wav2Vec2Model`` for each utterance alone. On a processor in half precision they are
closer to the exact ones: the sum that every layer adds to, and its norms, are in float32, and products in half.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from wav2vec2_torch import fast_layers
from wav2vec2_torch.fast_layers import in_blocks
from wav2vec2_torch.kernels import ATTENTIONS, PLAIN, Kernels, activation_, release_weights
from wav2vec2_torch.model import EncoderLayer, Wav2Vec2Model

#: Called with a layer's number and its (frames, hidden) packed states.
Observer = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class PackLayout:
    """The positions of the utterances in a pack.

    lengths: frames of each; blocks: rows that linear layers work on at a time; ends: (utterances + 1,) where each
    begins and ends, on the GPU, for the kernel that takes all of them, ``None`` where there is no such kernel.
    """

    lengths: list[int]
    blocks: list[int]
    ends: Tensor | None


class PackedLayer:
    """One transformer layer."""

    def __init__(self, layer: EncoderLayer, activation: str, kernels: Kernels, *, int8: bool, release: bool) -> None:
        attention, feed_forward = layer.attention, layer.feed_forward
        self.layer, self.heads, self.attention = layer, attention.num_heads, ATTENTIONS[kernels.attention]
        self.dtype = attention.out_proj.weight.dtype
        self.first_norm, self.last_norm = summed_norm(layer.layer_norm), summed_norm(layer.final_layer_norm)
        linear = kernels.linear8 if int8 else kernels.linear
        inner = [attention.q_proj, attention.k_proj, attention.v_proj]
        outer = [attention.out_proj, feed_forward.intermediate_dense, feed_forward.output_dense]
        self.qkv = linear(*_merged(inner))
        self.out, self.widen, self.narrow = (
            linear(module.weight.detach(), module.bias.detach(), after)
            for module, after in zip(outer, (None, activation, None), strict=True)
        )
        if release and (int8 or kernels.is_packed):
            release_weights([*inner, *outer])

    def __call__(self, hidden: Tensor, layout: PackLayout) -> Tensor:
        """(frames, hidden) -> the same, which may not be written to: it may be kept."""
        layer, blocks = self.layer, layout.blocks
        normed = self.first_norm(hidden) if layer.pre_norm else hidden
        qkv = in_blocks(self.qkv, normed.to(self.dtype), blocks)
        attended = fast_layers.attend(qkv, self.heads, layout.lengths, layout.ends, self.attention)
        hidden = _sum(in_blocks(self.out, attended, blocks), hidden)
        if layer.pre_norm:
            hidden = _sum(in_blocks(self._feed_forward, self.last_norm(hidden).to(self.dtype), blocks), hidden)
        else:
            hidden = self.first_norm(hidden)
            hidden = self.last_norm(_sum(in_blocks(self._feed_forward, hidden.to(self.dtype), blocks), hidden))
        if layer.adapter_layer is not None:
            hidden = _sum(layer.adapter_layer(hidden.to(self.dtype)), hidden)
        return hidden

    def _feed_forward(self, rows: Tensor) -> Tensor:
        return self.narrow(self.widen(rows))


class PackedTransformer:
    """Feature projection, positional convolution and transformer of a body in eval mode."""

    def __init__(
        self, body: Wav2Vec2Model, kernels: Kernels = PLAIN, *, int8: bool = False, release: bool = False
    ) -> None:
        """``release``: give back the memory of weights that the kernels have copies of; the body is then unusable."""
        config, encoder = body.config, body.encoder
        self.projection, self.encoder, self.int8 = body.feature_projection, encoder, int8
        self.sum_dtype, self.norm = summed_in(encoder.layer_norm.weight), summed_norm(encoder.layer_norm)
        self.head_dim = config.head_dim
        self.positions = fast_layers.PositionalConvolution(encoder.pos_conv_embed.conv)
        self.activation = activation_(config.feat_extract_activation)
        modules = [cast("EncoderLayer", layer) for layer in encoder.layers]
        self.layers = [PackedLayer(layer, config.hidden_act, kernels, int8=int8, release=release) for layer in modules]

    def __call__(self, features: Tensor, lengths: Sequence[int], observer: Observer | None = None) -> Tensor:
        """Context representations of utterances.

        Args:
            features: (frames, conv_dim[-1]) of the feature encoder, all utterances.
            lengths: frames of each utterance.
            observer: called with every layer's states; 0 is the first one's input, the last has the final norm.

        Returns:
            (frames, hidden), on a processor float32 at least.
        """
        return self.prepared(lengths)(features, observer)

    def prepared(self, lengths: Sequence[int]) -> Callable[..., Tensor]:
        """A call for these lengths, features and observer to be given.

        It neither waits for the device nor takes anything there, so that a GPU's work in it can be recorded.
        """
        weight = self.projection.projection.weight
        ends = fast_layers.ends_of(lengths, weight.device) if fast_layers.has_varlen(weight, self.head_dim) else None
        lengths = list(lengths)
        return partial(self._run, PackLayout(lengths, self._blocks(lengths), ends))

    def _run(self, layout: PackLayout, features: Tensor, observer: Observer | None = None) -> Tensor:
        hidden = in_blocks(lambda rows: self.projection(rows)[0], features, layout.blocks)
        # The last bits of a product depend on how many rows there are, and 8 bits would make them visible.
        alone = hidden.split(layout.lengths) if self.int8 else [hidden]
        moved = [self.positions(one, [len(one)] if self.int8 else layout.lengths) for one in alone]
        moved = moved[0] if len(moved) == 1 else torch.cat(moved)
        hidden = self.activation(moved).to(self.sum_dtype).add_(hidden)
        if not self.encoder.pre_norm:
            hidden = self.norm(hidden)
        for number, layer in enumerate(self.layers):
            if observer is not None:
                observer(number, hidden)
            hidden = layer(hidden, layout)
        if self.encoder.pre_norm:
            hidden = self.norm(hidden)
        if observer is not None:
            observer(len(self.layers), hidden)
        return hidden

    def _blocks(self, lengths: list[int]) -> list[int]:
        """Rows of each block that linear layers work on at a time."""
        whole = lengths if self.int8 else [sum(lengths)]
        if self.projection.projection.weight.device.type != "cpu":  # a GPU wants few large products
            return whole
        size = fast_layers.BLOCK_ROWS
        return [min(size, rows - start) for rows in whole for start in range(0, rows, size)]


def summed_in(weight: Tensor) -> torch.dtype:
    """The type of the sum that layers add to: float32 at least, and on a GPU that of the parameters, as ``weight``."""
    return torch.promote_types(weight.dtype, torch.float32) if weight.device.type == "cpu" else weight.dtype


def summed_norm(norm: nn.Module) -> nn.Module:
    """``norm`` for the sum that layers add to: itself where that has the type of the parameters, else a wider copy."""
    weight = cast("Tensor", norm.weight)
    dtype = summed_in(weight)
    return norm if dtype == weight.dtype else copy.deepcopy(norm).to(dtype)


def _sum(made: Tensor, hidden: Tensor) -> Tensor:
    """The sum in the type of ``hidden``, which is not written to; ``made`` is where it can hold the sum."""
    return made.add_(hidden) if made.dtype == hidden.dtype else hidden + made


def _merged(modules: Sequence[nn.Linear]) -> tuple[Tensor, Tensor]:
    """One weight and bias for linear layers of one input; theirs become views of it, so that memory holds them once."""
    weight = torch.cat([module.weight.detach() for module in modules])
    bias = torch.cat([module.bias.detach() for module in modules])
    ends = [0]
    for module in modules:
        ends.append(ends[-1] + module.out_features)
    for module, (start, end) in zip(modules, pairwise(ends), strict=True):
        module.weight.data, module.bias.data = weight[start:end], bias[start:end]
    return weight, bias
