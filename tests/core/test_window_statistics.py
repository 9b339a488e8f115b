"""Statistics gathered block by block are those of the whole recording."""

import numpy as np
import pytest

from wav2vec2_core import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.window_statistics import WindowStatistics


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (25, 10), (3, 7), (1, 1)])
def test_any_blocks_give_the_statistics_of_the_whole(kernel, stride):
    generator = np.random.default_rng(kernel)
    samples = (generator.normal(3, 1, 5000) + np.linspace(0, 10, 5000)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(samples, kernel)[::stride].astype(np.float64)
    gathered = WindowStatistics(kernel, stride)
    borders = np.sort(generator.integers(0, len(samples), 60))
    for block in np.split(samples, borders):
        gathered.add(block)
    assert gathered.count == len(windows)
    np.testing.assert_allclose(gathered.mean, windows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(gathered.covariance, np.cov(windows.T, bias=True).reshape(kernel, kernel), rtol=1e-10)


def test_normalisation_may_follow_later():
    samples = np.random.default_rng(0).normal(2, 5, 4000).astype(np.float32)
    config = Wav2Vec2Config()
    late = WindowStatistics.of(config, samples).normalised(2.0, 5.0)
    early = WindowStatistics.of(config, (samples - 2) / 5)
    assert late.count == early.count
    np.testing.assert_allclose(late.mean, early.mean, atol=1e-6)
    np.testing.assert_allclose(late.covariance, early.covariance, rtol=1e-5, atol=1e-6)


def test_less_than_a_window_has_no_statistics():
    gathered = WindowStatistics(10, 5)
    gathered.add(np.zeros(9, np.float32))
    with pytest.raises(InputError, match="10 samples"):
        _ = gathered.covariance
