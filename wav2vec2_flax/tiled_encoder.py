"""The feature encoder for inference: in tiles of time, of any length, in bounded memory, with the numbers of the whole.

Frame t depends on the samples [t * hop, t * hop + receptive field) and, behind a group norm, on one mean and variance
per channel of the whole recording. Those follow from the statistics of the input windows before any tile is computed,
so they go into the first convolution's weights and no tile needs another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.window_statistics import WindowStatistics
from wav2vec2_flax.compiled import Compiled
from wav2vec2_flax.layers import value
from wav2vec2_flax.model import FeatureEncoder

#: Samples of a tile, about: a few of them are in memory at a time.
TILE_SAMPLES = 160_000
#: Parts of a tile that a last tile is a multiple of, so that few lengths are compiled.
TILE_PARTS = 4


class TiledEncoder:
    """The convolutions of a ``FeatureEncoder``, run tile by tile."""

    def __init__(self, encoder: FeatureEncoder, config: Wav2Vec2Config) -> None:
        self.encoder, self.config = encoder, config
        part = max(1, TILE_SAMPLES // TILE_PARTS // config.inputs_to_logits_ratio)
        self.part_frames, self.tile_frames = part, part * TILE_PARTS
        self._plain, self._folded = Compiled(_whole), Compiled(_behind_norm)

    def __call__(self, waveform: np.ndarray, statistics: WindowStatistics | None = None) -> Iterator[np.ndarray]:
        """Yield (frames, conv_dim[-1]) float32 tiles of a (samples,) waveform.

        ``statistics``: of the recording that the waveform is a stretch of; of the waveform itself where None.
        """
        config = self.config
        folded: tuple[Any, ...] = ()
        if config.feat_extract_norm == "group":
            folded = self._fold(statistics or WindowStatistics.of(config, waveform))
        frames, hop = config.num_frames(len(waveform), add_adapter=False), config.inputs_to_logits_ratio
        for start in range(0, frames, self.tile_frames):
            count = min(self.tile_frames, frames - start)
            padded = -(-count // self.part_frames) * self.part_frames
            tile = waveform[start * hop : (start + count - 1) * hop + config.receptive_field]
            # Zeros behind the samples make frames of their own, which are cut off.
            tile = np.pad(tile, (0, (padded - 1) * hop + config.receptive_field - len(tile)))
            made = self._folded(self.encoder, tile, *folded) if folded else self._plain(self.encoder, tile)
            yield np.asarray(made)[:count]

    def _fold(self, statistics: WindowStatistics) -> tuple[np.ndarray, np.ndarray]:
        """The first convolution's (kernel, 1, channels) weight and (channels,) bias with the group norm in them."""
        first = self.encoder.conv_layers[0]
        assert first.layer_norm is not None
        kernels, gain, shift = (
            np.asarray(value(part)).astype(np.float64)
            for part in (first.conv.kernel, first.layer_norm.scale, first.layer_norm.bias)
        )
        kernels, bias = statistics.folded(kernels[:, 0].T, gain, shift, first.layer_norm.epsilon)
        return kernels.T[:, None].astype(np.float32), bias.astype(np.float32)


def _whole(encoder: FeatureEncoder, tile: Any) -> Any:
    x = jnp.asarray(tile, encoder.conv_layers[0].conv.dtype)[None, :, None]
    for layer in encoder.conv_layers:
        x = layer(x, None)
    return x[0].astype(jnp.float32)


def _behind_norm(encoder: FeatureEncoder, tile: Any, kernels: Any, bias: Any) -> Any:
    first = encoder.conv_layers[0]
    x = jnp.asarray(tile, first.conv.dtype)[None, :, None]
    x = jax.lax.conv_general_dilated(
        x, kernels.astype(x.dtype), (encoder.sizes[0][1],), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
    )
    x = first.activation(x + bias.astype(x.dtype))
    for layer in list(encoder.conv_layers)[1:]:
        x = layer(x, None)
    return x[0].astype(jnp.float32)
