"""The feature encoder for inference: in tiles of time, any length, in bounded memory, with the numbers of the whole.

Frame t depends on the samples [t * hop, t * hop + receptive field) and, behind a group norm, on one mean and variance
per channel of the whole recording. Those follow from the statistics of the input windows before any tile is computed,
so they go into the first convolution's weights and no tile needs another.

Convolutions are matrix products of (windows, kernel * channels): frames stay rows from the waveform to the transformer,
which a norm over the channels wants, and 8-bit layers serve both.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from wav2vec2_core.window_statistics import WindowStatistics
from wav2vec2_torch import fast_layers
from wav2vec2_torch.kernels import PLAIN, Kernels, Linear, activation_, release_weights
from wav2vec2_torch.layers import ChannelLayerNorm
from wav2vec2_torch.model import ConvLayer, FeatureEncoder
from wav2vec2_torch.weights import to_tensor

#: Samples of a tile, about: small enough for a processor's cache, large enough that the last layers have work.
TILE_SAMPLES = 32_000
#: The same for a GPU, which needs rows more than it needs a cache: 30 s, whose windows and frames of the two largest
#: layers of a base model are 0.6 GB in float32.
GPU_TILE_SAMPLES = 480_000
#: Convolutions that 8 bits are for: three quarters of the encoder's work. Each adds as much error as the others.
INT8_LAYERS = (1, 2)


class TiledEncoder:
    """The convolutions of a ``FeatureEncoder``, run tile by tile."""

    def __init__(
        self, encoder: FeatureEncoder, kernels: Kernels = PLAIN, *, int8: bool = False, release: bool = False
    ) -> None:
        """``release``: give back the memory of weights that the kernels have copies of; they are then unusable."""
        self.config = config = encoder.config
        activation = config.feat_extract_activation
        self.activation = activation_(activation)
        modules = [layer for layer in encoder.conv_layers if isinstance(layer, ConvLayer)]
        self.first = modules[0]
        samples = TILE_SAMPLES if self.first.conv.weight.device.type == "cpu" else GPU_TILE_SAMPLES
        self.tile_frames = max(1, samples // config.inputs_to_logits_ratio)
        #: Norms by frame; the group norm is in the first convolution.
        norms = [layer.layer_norm for layer in modules]
        self.norms = [norm if isinstance(norm, ChannelLayerNorm) else None for norm in norms]
        self.convolutions: list[Linear] = []
        for index, (layer, norm) in enumerate(zip(modules, self.norms, strict=True)):
            in8 = int8 and index in INT8_LAYERS
            linear = kernels.linear8 if in8 else kernels.linear
            # A norm comes between a convolution and its activation.
            self.convolutions.append(
                linear(_flat(layer.conv.weight), layer.conv.bias, activation if norm is None else None)
            )
            if release and index > 0 and (in8 or kernels.is_packed):
                release_weights([layer.conv])
        #: What the group norm is folded from, on the host: a GPU would have to be waited for each time.
        self.unfolded = _unfolded(self.first) if config.feat_extract_norm == "group" else None

    def __call__(self, waveform: np.ndarray, statistics: WindowStatistics | None = None) -> Iterator[Tensor]:
        """Yield (frames, conv_dim[-1]) tiles of a (samples,) waveform, in the type and on the device of the weights.

        ``statistics``: of the recording that the waveform is a stretch of; of the waveform itself where None.
        """
        config, weight = self.config, self.first.conv.weight
        convolutions = self.convolutions
        if self.unfolded is not None:
            folded = (statistics or WindowStatistics.of(config, waveform)).folded(*self.unfolded)
            kernels, shifts = (torch.from_numpy(values).to(weight.device, weight.dtype) for values in folded)
            convolutions = [PLAIN.linear(kernels, shifts, config.feat_extract_activation), *convolutions[1:]]
        samples = to_tensor(waveform)
        frames, hop = config.num_frames(len(waveform), add_adapter=False), config.inputs_to_logits_ratio
        for start in range(0, frames, self.tile_frames):
            last = min(start + self.tile_frames, frames) - 1
            tile = samples[start * hop : last * hop + config.receptive_field].to(weight.device, weight.dtype)
            yield self._tile(tile[:, None], convolutions)

    def _tile(self, x: Tensor, convolutions: list[Linear]) -> Tensor:
        """(samples, 1) -> (frames, conv_dim[-1])."""
        layers = zip(convolutions, self.norms, self.config.conv_kernel, self.config.conv_stride, strict=True)
        for convolution, norm, kernel, stride in layers:
            channels = x.shape[1]
            windows = (len(x) - kernel) // stride + 1
            x = convolution(x.as_strided((windows, kernel * channels), (stride * channels, 1)).contiguous())
            if norm is not None:
                x = self.activation(fast_layers.row_norm(x, norm))
        return x


def _unfolded(first: ConvLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Kernels (channels, kernel), gain, shift and epsilon of the first convolution and its group norm, float64."""
    norm = first.layer_norm
    assert norm is not None
    kernels, gain, shift = (
        tensor.detach().double().cpu().numpy() for tensor in (_flat(first.conv.weight), norm.weight, norm.bias)
    )
    return kernels, gain, shift, norm.eps


def _flat(weight: Tensor) -> Tensor:
    """(outputs, inputs, kernel) -> (outputs, kernel * inputs), the order of features in windows of rows."""
    return weight.detach().transpose(1, 2).flatten(1).contiguous()
