"""What every back end's ``encode`` shares: its checks, and tiles put together."""

import numpy as np
import pytest
from numpy_model import NumpyModel

from wav2vec2_core.errors import InputError
from wav2vec2_core.long_form.tiles import checked_waveforms, encode_in_tiles
from wav2vec2_core.window_statistics import WindowStatistics

CONFIG = NumpyModel().config


def tiles_of(frames):
    """Tiles of so many frames, of what the model in numpy makes of the whole; and what they were asked for."""
    model, asked = NumpyModel(), []

    def tiles(waveform, known):
        asked.append((waveform, known))
        (whole,) = model.encode([waveform], None if known is None else [known])
        return (whole[start : start + frames] for start in range(0, len(whole), frames))

    return tiles, asked


def waveforms(*lengths):
    generator = np.random.default_rng(0)
    return [generator.standard_normal(length) for length in lengths]


@pytest.mark.parametrize("frames", [1, 3, 1000])
def test_tiles_are_put_together(frames):
    samples = waveforms(25, 44, 45, 500)
    tiles, asked = tiles_of(frames)
    for ours, expected in zip(encode_in_tiles(CONFIG, tiles, samples, None), NumpyModel().encode(samples), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert all(waveform.dtype == np.float32 and known is None for waveform, known in asked)


def test_statistics_go_with_their_waveforms():
    samples = waveforms(60, 90)
    statistics = [WindowStatistics.of(CONFIG, waveform) for waveform in waveforms(400, 500)]
    tiles, asked = tiles_of(2)
    made = encode_in_tiles(CONFIG, tiles, samples, statistics)
    assert [known for _, known in asked] == statistics
    for ours, expected in zip(made, NumpyModel().encode(samples, statistics), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_wrong_arguments_are_refused_before_anything_is_computed():
    tiles, asked = tiles_of(2)
    with pytest.raises(InputError, match="has 24 samples, one frame sees 25"):
        encode_in_tiles(CONFIG, tiles, waveforms(60, 24), None)
    with pytest.raises(InputError, match=r"it must be \(batch, samples\)"):
        checked_waveforms(CONFIG, [np.zeros((60, 2))])
    with pytest.raises(InputError, match="2 waveforms come with 1 statistics"):
        encode_in_tiles(CONFIG, tiles, waveforms(60, 60), [WindowStatistics.of(CONFIG)])
    assert asked == encode_in_tiles(CONFIG, tiles, [], None) == []
