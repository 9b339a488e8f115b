"""Attention for training on a processor, in blocks that stay in its cache.

On a processor PyTorch's fused attention has no dropout: with it, the weights of all rows and heads are written to
memory, dropped, and kept for the backward pass. In bfloat16 its backward pass is slow too. Here a block of a few rows
and heads is computed from beginning to end, and again in the backward pass, so that nothing of frames x frames is
kept; and a block leaves out the frames that are padding in all of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wav2vec2_torch.dropout import growth, kept

#: Attention weights in a block, unless a single head of a row has more: 2 MB in float32.
BLOCK = 1 << 19


@dataclass(frozen=True)
class _Block:
    """Heads ``first`` to ``end``, counted over all rows, of which those with the most valid frames have ``frames``."""

    first: int
    end: int
    frames: int
    #: (end - first, 1, frames) bool, True for frames that may be attended to; None where all may.
    mask: Tensor | None

    def of(self, x: Tensor) -> Tensor:
        """(rows x heads, all frames, features) -> (heads, frames, features)."""
        return x[self.first : self.end, : self.frames]


def attend(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], dropout: float, seed: int) -> Tensor:
    """Scaled dot-product attention over (batch, heads, frames, head_dim).

    Args:
        lengths: valid frames of each row, the first ones. The result may be zero for the others.
        dropout: probability of dropping an attention weight.
        seed: of what is dropped.
    """
    return cast("Tensor", _Attention.apply(query, key, value, lengths, dropout, seed))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], dropout: float, seed: int
    ) -> Tensor:
        heads = query.shape[1]
        scaled, key, value = (query * _scale(query)).flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
        context, generator = torch.zeros_like(value), torch.Generator().manual_seed(seed)
        with torch.autocast("cpu", enabled=False):
            for block in _blocks(lengths, heads):
                weights = _weights(scaled, key, block)
                if dropout:
                    weights.mul_(kept(weights.shape, dropout, generator))
                block.of(context).copy_(weights @ block.of(value))
        context *= growth(dropout)
        ctx.save_for_backward(scaled, key, value, context)
        ctx.given = lengths, heads, dropout, seed
        return context.unflatten(0, (-1, heads))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        scaled, key, value, context = ctx.saved_tensors
        lengths, heads, dropout, seed = ctx.given
        gradient, generator = gradient.flatten(0, 1), torch.Generator().manual_seed(seed)
        # What the softmax takes away from the gradients of a frame's weights: their mean, by these weights.
        wide = torch.promote_types(gradient.dtype, torch.float32)
        mean = (gradient.to(wide) * context).sum(-1, keepdim=True).to(gradient.dtype)
        grown = gradient * growth(dropout)
        of_query, of_key, of_value = (torch.zeros_like(one) for one in (scaled, key, value))
        with torch.autocast("cpu", enabled=False):
            for block in _blocks(lengths, heads):
                weights, own = _weights(scaled, key, block), block.of(grown)
                of_weights = own @ block.of(value).transpose(1, 2)
                stay = kept(weights.shape, dropout, generator) if dropout else None
                if stay is not None:
                    of_weights.mul_(stay)
                of_scores = of_weights.sub_(block.of(mean)).mul_(weights)
                if stay is not None:
                    weights.mul_(stay)
                block.of(of_value).copy_(weights.transpose(1, 2) @ own)
                block.of(of_query).copy_(of_scores @ block.of(key))
                block.of(of_key).copy_(of_scores.transpose(1, 2) @ block.of(scaled))
        of_query *= _scale(of_query)
        return *(one.unflatten(0, (-1, heads)) for one in (of_query, of_key, of_value)), None, None, None


def _scale(query: Tensor) -> float:
    return query.shape[-1] ** -0.5


def _blocks(lengths: Sequence[int], heads: int) -> Iterator[_Block]:
    """As many heads, of one row or several, as have ``BLOCK`` weights together."""
    of_head = [length for length in lengths for _ in range(heads)]
    first = 0
    while first < len(of_head):
        end, frames = first + 1, of_head[first]
        while end < len(of_head) and (end + 1 - first) * max(frames, of_head[end]) ** 2 <= BLOCK:
            frames, end = max(frames, of_head[end]), end + 1
        inside = torch.tensor(of_head[first:end])
        mask = None if int(inside.min()) == frames else (torch.arange(frames) < inside[:, None])[:, None]
        yield _Block(first, end, frames, mask)
        first = end


def _weights(scaled: Tensor, key: Tensor, block: _Block) -> Tensor:
    """Attention weights of a block, before any is dropped: (heads, frames, frames)."""
    scores = block.of(scaled) @ block.of(key).transpose(1, 2)
    if block.mask is not None:
        scores.masked_fill_(~block.mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1)
