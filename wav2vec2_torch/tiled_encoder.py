"""The feature encoder for inference: in tiles of time, of any length, in bounded memory, with the numbers of the whole.

Frame t depends on the samples [t * hop, t * hop + receptive field) and, behind a group norm, on one mean and variance per
channel of the whole recording. Those follow from the statistics of the input windows before any tile is computed, so they
go into the first convolution's weights and no tile needs another.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.window_statistics import WindowStatistics
from wav2vec2_torch.model import ConvLayer, FeatureEncoder

#: Samples of a tile, about: the first convolution's output of base models, 6.5 MB, then stays in a processor's cache.
TILE_SAMPLES = 16_000


class TiledEncoder:
    """The convolutions of a ``FeatureEncoder``, run tile by tile."""

    def __init__(self, encoder: FeatureEncoder) -> None:
        self.config: Wav2Vec2Config = encoder.config
        self.layers: list[ConvLayer] = [layer for layer in encoder.conv_layers if isinstance(layer, ConvLayer)]
        self.tile_frames = max(1, TILE_SAMPLES // self.config.inputs_to_logits_ratio)

    def __call__(self, waveform: np.ndarray, statistics: WindowStatistics | None = None) -> Iterator[Tensor]:
        """Yield (frames, conv_dim[-1]) tiles of a (samples,) waveform, in the type and on the device of the weights.

        ``statistics``: of the recording that the waveform is a stretch of; of the waveform itself where None.
        """
        config = self.config
        first, weight = self.layers[0].conv, self.layers[0].conv.weight
        folded = None
        if config.feat_extract_norm == "group":
            folded = self._fold(statistics or WindowStatistics.of(config, waveform))
        samples = torch.from_numpy(waveform)
        frames, hop = config.num_frames(len(waveform), add_adapter=False), config.inputs_to_logits_ratio
        for start in range(0, frames, self.tile_frames):
            last = min(start + self.tile_frames, frames) - 1
            tile = samples[start * hop : last * hop + config.receptive_field].to(weight.device, weight.dtype)
            x = tile[None, None]
            for index, layer in enumerate(self.layers):
                if index == 0 and folded is not None:
                    x = layer.activation(F.conv1d(x, *folded, stride=first.stride))
                else:
                    x = layer(x, None)
            yield x[0].T

    def _fold(self, statistics: WindowStatistics) -> tuple[Tensor, Tensor]:
        """The first convolution's weight and bias with the group norm's mean, deviation, gain and shift in them."""
        layer = self.layers[0]
        norm = layer.layer_norm
        assert norm is not None
        weight = layer.conv.weight
        kernels = weight.detach()[:, 0].double().cpu().numpy()
        mean = kernels @ statistics.mean
        variance = ((kernels @ statistics.covariance) * kernels).sum(1)
        scale = norm.weight.detach().double().cpu().numpy() / np.sqrt(variance + norm.eps)
        shift = norm.bias.detach().double().cpu().numpy() - mean * scale  # the convolution's bias cancels
        folded = (kernels * scale[:, None])[:, None], shift
        return tuple(torch.from_numpy(values).to(weight.device, weight.dtype) for values in folded)  # type: ignore[return-value]
