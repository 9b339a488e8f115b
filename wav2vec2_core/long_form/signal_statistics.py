"""Statistics of a recording that is read in blocks, as the feature extractor and the first group norm require them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Self

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.window_statistics import WindowStatistics

_EPSILON = 1e-7  # what the feature extractor adds to the variance


class SignalStatistics:
    """Running mean and variance of the samples, and window statistics for a model with group norm.

    Attributes:
        count: samples so far.
    """

    def __init__(self, config: Wav2Vec2Config, extractor: Wav2Vec2FeatureExtractor) -> None:
        self.count = 0
        self._normalises = extractor.do_normalize
        self._mean, self._scatter = 0.0, 0.0
        self._windows = WindowStatistics.of(config) if config.feat_extract_norm == "group" else None

    @classmethod
    def of(cls, config: Wav2Vec2Config, extractor: Wav2Vec2FeatureExtractor, blocks: Iterable[np.ndarray] = ()) -> Self:
        """The statistics of a whole recording, from all its blocks (samples,)."""
        made = cls(config, extractor)
        for block in blocks:
            made.add(block)
        return made

    def add(self, block: np.ndarray) -> None:
        """Add the next samples of the recording, (samples,), any number of them."""
        if len(block) == 0:
            return
        if self._normalises:
            mean = float(block.mean(dtype=np.float64))
            scatter = float(np.square(block - mean, dtype=np.float64).sum())
            # The pairwise update of Chan, Golub and LeVeque (1979), as for the windows.
            total, shift = self.count + len(block), mean - self._mean
            self._scatter += scatter + shift**2 * (self.count * len(block) / total)
            self._mean += shift * (len(block) / total)
        self.count += len(block)
        if self._windows is not None:
            self._windows.add(block)

    @property
    def mean(self) -> float:
        """Mean of the samples; 0 if the feature extractor does not normalise."""
        return self._mean

    @property
    def scale(self) -> float:
        """Divisor of the feature extractor's normalisation; 1 if it does not normalise."""
        return math.sqrt(self._scatter / max(self.count, 1) + _EPSILON) if self._normalises else 1.0

    def normalise(self, samples: np.ndarray) -> np.ndarray:
        """Normalise samples (samples,) as the feature extractor would as part of the whole recording; float32."""
        if not self._normalises:
            return np.asarray(samples, np.float32)
        return (np.asarray(samples, np.float32) - np.float32(self.mean)) / np.float32(self.scale)

    def statistics(self) -> WindowStatistics | None:
        """Statistics of the normalised windows, for ``InferenceModel.encode``; ``None`` for a model without group norm.

        Raises ``InputError`` before the first complete window.
        """
        return None if self._windows is None else self._windows.normalised(self.mean, self.scale)
