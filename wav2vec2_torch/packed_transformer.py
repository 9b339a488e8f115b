"""What follows the feature encoder, for inference: utterances packed one after the other, without padding.

The numbers are those of ``model.Wav2Vec2Model`` for each utterance alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from wav2vec2_torch import fast_layers
from wav2vec2_torch.fast_layers import in_blocks
from wav2vec2_torch.model import EncoderLayer, Wav2Vec2Model

#: Called with a layer's number and its (frames, hidden) packed states.
Observer = Callable[[int, Tensor], None]


class PackedLayer:
    """One transformer layer."""

    def __init__(self, layer: EncoderLayer, activation: str, *, int8: bool) -> None:
        attention, feed_forward = layer.attention, layer.feed_forward
        self.layer, self.heads = layer, attention.num_heads
        self.activation = fast_layers.activation_(activation)
        self.qkv = fast_layers.linear(*_merged([attention.q_proj, attention.k_proj, attention.v_proj]), int8=int8)
        self.out, self.widen, self.narrow = (
            fast_layers.linear(module.weight.detach(), module.bias.detach(), int8=int8)
            for module in (attention.out_proj, feed_forward.intermediate_dense, feed_forward.output_dense)
        )

    def __call__(self, hidden: Tensor, lengths: Sequence[int], blocks: Sequence[int]) -> Tensor:
        """(frames, hidden) -> the same, which may not be written to: it may be kept."""
        layer = self.layer
        normed = layer.layer_norm(hidden) if layer.pre_norm else hidden
        attended = fast_layers.attend(in_blocks(self.qkv, normed, blocks), self.heads, lengths)
        hidden = in_blocks(self.out, attended, blocks).add_(hidden)
        if layer.pre_norm:
            hidden = in_blocks(self._feed_forward, layer.final_layer_norm(hidden), blocks).add_(hidden)
        else:
            hidden = layer.layer_norm(hidden)
            hidden = layer.final_layer_norm(in_blocks(self._feed_forward, hidden, blocks).add_(hidden))
        if layer.adapter_layer is not None:
            hidden = layer.adapter_layer(hidden).add_(hidden)
        return hidden

    def _feed_forward(self, rows: Tensor) -> Tensor:
        return self.narrow(self.activation(self.widen(rows)))


class PackedTransformer:
    """Feature projection, positional convolution and transformer of a body in eval mode."""

    def __init__(self, body: Wav2Vec2Model, *, int8: bool = False) -> None:
        config, encoder = body.config, body.encoder
        self.projection, self.encoder, self.int8 = body.feature_projection, encoder, int8
        self.positions = fast_layers.PositionalConvolution(encoder.pos_conv_embed.conv)
        self.activation = fast_layers.activation_(config.feat_extract_activation)
        modules = [cast("EncoderLayer", layer) for layer in encoder.layers]
        self.layers = [PackedLayer(layer, config.hidden_act, int8=int8) for layer in modules]

    def __call__(self, features: Tensor, lengths: Sequence[int], observer: Observer | None = None) -> Tensor:
        """Context representations of utterances.

        Args:
            features: (frames, conv_dim[-1]) of the feature encoder, all utterances.
            lengths: frames of each utterance.
            observer: called with every layer's states; 0 is the first one's input, the last has the final norm.

        Returns:
            (frames, hidden).
        """
        blocks = self._blocks(lengths)
        hidden = self.projection(features)[0]
        hidden = self.activation(self.positions(hidden, lengths)).add_(hidden)
        if not self.encoder.pre_norm:
            hidden = self.encoder.layer_norm(hidden)
        for number, layer in enumerate(self.layers):
            if observer is not None:
                observer(number, hidden)
            hidden = layer(hidden, lengths, blocks)
        if self.encoder.pre_norm:
            hidden = self.encoder.layer_norm(hidden)
        if observer is not None:
            observer(len(self.layers), hidden)
        return hidden

    def _blocks(self, lengths: Sequence[int]) -> list[int]:
        """Rows of each block that linear layers work on at a time."""
        whole = lengths if self.int8 else [sum(lengths)]
        size = fast_layers.BLOCK_ROWS
        return [min(size, rows - start) for rows in whole for start in range(0, rows, size)]


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
