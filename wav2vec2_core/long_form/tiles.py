"""Inference code shared by all back ends: validating arguments as arrays, and concatenating tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.inputs import check_features, check_statistics, check_waveforms
from wav2vec2_core.window_statistics import WindowStatistics

#: Maps a waveform (samples,) and its recording's statistics, if known, to its tiles (frames, conv_dim[-1]) in order.
Tiles = Callable[[np.ndarray, WindowStatistics | None], Iterable[np.ndarray]]


def checked_waveforms(config: Wav2Vec2Config, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Waveforms as (samples,) float32 each.

    Raises:
        InputError: one has another rank or is shorter than the receptive field.
    """
    arrays = [np.asarray(waveform, np.float32) for waveform in waveforms]
    for array in arrays:
        check_waveforms(config, (1, *array.shape))
    return arrays


def checked_features(config: Wav2Vec2Config, features: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Features of the encoder as (frames, conv_dim[-1]) float32 each.

    Raises:
        InputError: they have another shape.
    """
    arrays = [np.asarray(one, np.float32) for one in features]
    for array in arrays:
        check_features(config, array.shape)
    return arrays


def encode_in_tiles(
    config: Wav2Vec2Config,
    tiles: Tiles,
    waveforms: Sequence[np.ndarray],
    statistics: Sequence[WindowStatistics] | None,
) -> list[np.ndarray]:
    """``InferenceModel.encode`` with a back end's ``tiles``: (frames, conv_dim[-1]) float32 each.

    Raises:
        InputError: a waveform has another rank or is shorter than the receptive field, or the numbers of waveforms
            and statistics differ.
    """
    checked = checked_waveforms(config, waveforms)
    given = [None] * len(checked) if statistics is None else list(statistics)
    check_statistics(len(checked), len(given))
    results = []
    for waveform, known in zip(checked, given, strict=True):
        result = np.empty((config.num_frames(len(waveform), add_adapter=False), config.conv_dim[-1]), np.float32)
        start = 0
        for tile in tiles(waveform, known):
            result[start : start + len(tile)] = tile
            start += len(tile)
        results.append(result)
    return results
