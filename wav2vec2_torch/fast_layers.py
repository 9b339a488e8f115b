"""Layers for inference on packed frames, (frames, features) without a batch dimension.

A pack holds utterances one after the other, without padding. Work that sees one frame at a time runs over blocks of
rows; in 8 bits a block is never of two utterances, as its scale is that of its largest value.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wav2vec2_torch import layers
from wav2vec2_torch.kernels import Attention, Linear, attend_plain

#: Rows of a block: a feed-forward layer's 4-fold width then stays in a processor's cache.
BLOCK_ROWS = 512
#: Kernels of the positional convolution from which on a Fourier transform is faster on a CPU.
FFT_KERNEL = 32
#: Whether this torch has attention over packed utterances; it is for GPUs and half precision only.
VARLEN = importlib.util.find_spec("torch.nn.attention.varlen") is not None


def in_blocks(function: Linear, x: Tensor, blocks: Sequence[int]) -> Tensor:
    """``function`` of (rows, features), block by block."""
    parts = [function(block) for block in x.split(list(blocks))]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def row_norm(x: Tensor, norm: layers.ChannelLayerNorm) -> Tensor:
    """The layer norm of channels on (frames, channels)."""
    return F.layer_norm(x, (x.shape[1],), norm.weight, norm.bias, norm.eps)


class PositionalConvolution:
    """The grouped convolution over frames, its weight norm folded; by overlap-save Fourier transforms on a CPU."""

    def __init__(self, convolution: layers.WeightNormConv1d) -> None:
        v, g = convolution.weight_v.detach(), convolution.weight_g.detach()
        weight = v * (g / torch.linalg.vector_norm(v, dim=(0, 1), keepdim=True))
        self.bias, self.groups, self.kernel = convolution.bias.detach(), convolution.groups, weight.shape[2]
        self.weight, self.spectrum = weight, None
        if weight.device.type == "cpu" and self.kernel >= FFT_KERNEL:
            wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
            self.size = 1 << (2 * self.kernel - 1).bit_length()
            # A convolution layer correlates: conjugate. (outputs, inputs, frequency) -> (frequency, group, in, out)
            spectrum = torch.fft.rfft(wide, n=self.size).conj().unflatten(0, (self.groups, -1))
            self.spectrum = spectrum.permute(3, 0, 2, 1).resolve_conj().contiguous()

    def __call__(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        """(frames, hidden) of utterances with these lengths -> the same; each utterance is padded with zeros.

        What Fourier transforms made is float32 at least.
        """
        if self.spectrum is None:
            return torch.cat([self._direct(one) for one in hidden.split(list(lengths))])
        return self._by_fourier(hidden, lengths, self.spectrum)

    def _direct(self, hidden: Tensor) -> Tensor:
        made = layers.grouped_conv1d(hidden.T[None], self.weight, self.bias, self.groups)
        return made[0, :, : len(hidden)].T  # an even kernel yields one frame too many

    def _by_fourier(self, hidden: Tensor, lengths: Sequence[int], spectrum: Tensor) -> Tensor:
        size, before = self.size, self.kernel // 2
        hop = size - self.kernel + 1  # outputs of a block that no wrap-around touches
        counts = [-(-frames // hop) for frames in lengths]
        wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        blocks = [
            F.pad(one, (0, 0, before, count * hop + self.kernel - 1 - before - len(one))).unfold(0, size, hop)
            for one, count in zip(wide.split(list(lengths)), counts, strict=True)
        ]
        waves = torch.fft.rfft(torch.cat(blocks))  # (blocks, hidden, frequencies)
        waves = waves.unflatten(1, (self.groups, -1)).permute(3, 1, 0, 2)
        waves = (waves @ spectrum).permute(2, 1, 3, 0).flatten(1, 2)
        made = torch.fft.irfft(waves, n=size)[:, :, :hop].transpose(1, 2)  # (blocks, hop, hidden)
        parts = [part.flatten(0, 1)[:frames] for part, frames in zip(made.split(counts), lengths, strict=True)]
        return torch.cat(parts).add_(self.bias)


def has_varlen(weight: Tensor, head_dim: int) -> bool:
    """Whether the GPU kernel for all utterances of a pack, flash attention, works where and in what ``weight`` is."""
    half = weight.dtype in (torch.float16, torch.bfloat16)
    if not (VARLEN and half and weight.device.type == "cuda" and head_dim % 8 == 0 and head_dim <= 256):
        return False
    return torch.cuda.get_device_capability(weight.device) >= (8, 0)


def ends_of(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Start and end of each utterance, as ``attend`` requires: (utterances + 1,) int32."""
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


def attend(
    qkv: Tensor,
    heads: int,
    lengths: Sequence[int],
    ends: Tensor | None = None,
    attention: Attention = attend_plain,
) -> Tensor:
    """Self-attention inside each utterance: (frames, 3 * hidden) of queries, keys and values -> (frames, hidden).

    ``ends``: of the utterances, where the GPU kernel for all of them is to be used; ``attention``: of one, elsewhere.
    """
    split = qkv.unflatten(1, (3, heads, -1))
    if ends is not None:
        return attend_at_once(split, lengths, ends)
    parts = [attention(one) for one in split.split(list(lengths))]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def attend_at_once(split: Tensor, lengths: Sequence[int], ends: Tensor) -> Tensor:
    """The same by the GPU kernel that takes all utterances: (frames, 3, heads, head_dim) -> (frames, hidden)."""
    from torch.nn.attention import varlen

    query, key, value = split.unbind(1)
    attended: Any = varlen.varlen_attn(query, key, value, ends, ends, max(lengths), max(lengths))
    return attended.flatten(1)
