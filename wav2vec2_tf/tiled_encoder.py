"""The feature encoder for inference: in tiles of time, of any length, in bounded memory, with the numbers of the whole.

Frame t depends on the samples [t * hop, t * hop + receptive field) and, behind a group norm, on one mean and variance per
channel of the whole recording. Those follow from the statistics of the input windows before any tile is computed, so they
go into the first convolution's weights and no tile needs another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from wav2vec2_core.window_statistics import WindowStatistics
from wav2vec2_tf.layers import Tensor
from wav2vec2_tf.model import FeatureEncoder

#: Samples of a tile, about: a few of them are in memory at a time.
TILE_SAMPLES = 160_000


class TiledEncoder:
    """The convolutions of a ``FeatureEncoder``, run tile by tile."""

    def __init__(self, encoder: FeatureEncoder) -> None:
        self.config, self.layers = encoder.config, encoder.conv_layers
        self.tile_frames = max(1, TILE_SAMPLES // self.config.inputs_to_logits_ratio)
        kernel, channels = self.config.conv_kernel[0], self.config.conv_dim[0]
        tile = tf.TensorSpec((None,), tf.float32)
        folded = [tf.TensorSpec((kernel, 1, channels), tf.float32), tf.TensorSpec((channels,), tf.float32)]
        # One graph for any length. The folded weights of a recording are arguments, so they compile nothing.
        self._plain = tf.function(self._whole, input_signature=[tile], autograph=False)
        self._folded = tf.function(self._behind_norm, input_signature=[tile, *folded], autograph=False)

    def __call__(self, waveform: np.ndarray, statistics: WindowStatistics | None = None) -> Iterator[Tensor]:
        """Yield (frames, conv_dim[-1]) float32 tiles of a (samples,) waveform.

        ``statistics``: of the recording that the waveform is a stretch of; of the waveform itself where None.
        """
        config = self.config
        folded: tuple[Any, ...] = ()
        if config.feat_extract_norm == "group":
            folded = self._fold(statistics or WindowStatistics.of(config, waveform))
        frames, hop = config.num_frames(len(waveform), add_adapter=False), config.inputs_to_logits_ratio
        for start in range(0, frames, self.tile_frames):
            last = min(start + self.tile_frames, frames) - 1
            tile = waveform[start * hop : last * hop + config.receptive_field]
            yield self._folded(tile, *folded) if folded else self._plain(tile)

    def _whole(self, tile: Tensor) -> Tensor:
        x = tf.cast(tile, self.layers[0].compute_dtype)[None, :, None]
        for layer in self.layers:
            x = layer(x, None)
        return tf.cast(x[0], tf.float32)

    def _behind_norm(self, tile: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
        first, dtype = self.layers[0], self.layers[0].compute_dtype
        x = tf.nn.conv1d(
            tf.cast(tile, dtype)[None, :, None], tf.cast(kernels, dtype), self.config.conv_stride[0], "VALID"
        )
        x = first.activation(x + tf.cast(bias, dtype))
        for layer in self.layers[1:]:
            x = layer(x, None)
        return tf.cast(x[0], tf.float32)

    def _fold(self, statistics: WindowStatistics) -> tuple[np.ndarray, np.ndarray]:
        """The first convolution's (kernel, 1, channels) weight and (channels,) bias with the group norm in them."""
        conv, norm = self.layers[0].conv, self.layers[0].layer_norm
        assert norm is not None
        kernels, gain, shift = (
            tf.cast(part, tf.float64).numpy() for part in (conv.kernel[:, 0], norm.gamma, norm.beta)
        )
        kernels, bias = statistics.folded(kernels.T, gain, shift, norm.epsilon)
        return kernels.T[:, None].astype(np.float32), bias.astype(np.float32)
