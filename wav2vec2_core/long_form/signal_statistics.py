"""The level of a recording that comes in blocks: what feature extractor and group norm need to know of all of it."""

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
    """Mean and variance of the samples so far, and the statistics of their windows for a model with group norm.

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
        """The level of a whole recording: of all its (samples,) blocks."""
        made = cls(config, extractor)
        for block in blocks:
            made.add(block)
        return made

    def add(self, block: np.ndarray) -> None:
        """The next (samples,) of the recording, any number of them."""
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
        """Of the samples; 0 where the feature extractor does not normalise."""
        return self._mean

    @property
    def scale(self) -> float:
        """What the feature extractor divides by; 1 where it does not normalise."""
        return math.sqrt(self._scatter / max(self.count, 1) + _EPSILON) if self._normalises else 1.0

    def normalise(self, samples: np.ndarray) -> np.ndarray:
        """(samples,) as the feature extractor would give them as part of the whole, float32."""
        if not self._normalises:
            return np.asarray(samples, np.float32)
        return (np.asarray(samples, np.float32) - np.float32(self.mean)) / np.float32(self.scale)

    def statistics(self) -> WindowStatistics | None:
        """Of the normalised windows, for ``InferenceModel.encode``; ``None`` for a model without group norm.

        Raises ``InputError`` before the first whole window.
        """
        return None if self._windows is None else self._windows.normalised(self.mean, self.scale)
