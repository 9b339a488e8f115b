"""Statistics of a whole recording for the group norm after the first convolution, updated block by block.

The output of a convolution over windows w is linear in them, so its mean and variance over the recording follow
exactly from the windows' mean and covariance: mean(a.w + b) = a.mean(w) + b, var(a.w + b) = a.cov(w).a. Known
beforehand, they make the norm a scale and a shift, and any stretch of the recording can be computed by itself.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError

#: Samples of a whole recording that are taken in at a time.
BLOCK_SAMPLES = 1_000_000


class WindowStatistics:
    """Mean and covariance of the windows that the first convolution sees, in float64.

    Attributes:
        count: windows so far.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        self.kernel, self.stride = kernel, stride
        self.count = 0
        self._mean = np.zeros(kernel)
        self._scatter = np.zeros((kernel, kernel))  # sum of (w - mean)(w - mean)^T
        self._rest = np.zeros(0, np.float32)  # samples from the start of the next window on
        self._skip = 0  # samples to drop before the next window, where the stride is longer than the kernel

    @classmethod
    def of(cls, config: Wav2Vec2Config, samples: np.ndarray | None = None) -> Self:
        """Statistics for a model, of a whole recording (samples,) where it is at hand."""
        made = cls(config.conv_kernel[0], config.conv_stride[0])
        if samples is not None:
            for start in range(0, len(samples), BLOCK_SAMPLES):  # windows in float64 take 16 times a block's memory
                made.add(samples[start : start + BLOCK_SAMPLES])
        return made

    def add(self, samples: np.ndarray) -> None:
        """The next (samples,) of the recording, any number of them."""
        samples = np.concatenate([self._rest, np.asarray(samples, np.float32)])
        dropped = min(self._skip, len(samples))
        samples, self._skip = samples[dropped:], self._skip - dropped
        number = max(0, (len(samples) - self.kernel) // self.stride + 1)
        if number == 0:
            self._rest = samples
            return
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.kernel)[:: self.stride][:number]
        windows = windows.astype(np.float64)
        mean = windows.mean(0)
        centred = windows - mean
        # Pairwise update of Chan, Golub and LeVeque (1979): exact where the level of the recording drifts.
        total, shift = self.count + number, mean - self._mean
        self._scatter += centred.T @ centred + np.outer(shift, shift) * (self.count * number / total)
        self._mean += shift * (number / total)
        self.count = total
        used = number * self.stride
        self._skip = max(0, used - len(samples))
        self._rest = samples[used:]

    @property
    def mean(self) -> np.ndarray:
        """(kernel,) float64. Raises ``InputError`` before the first whole window."""
        self._check()
        return self._mean.copy()

    @property
    def covariance(self) -> np.ndarray:
        """(kernel, kernel) float64, divided by the number of windows. Raises ``InputError`` before the first."""
        self._check()
        return self._scatter / self.count

    def normalised(self, mean: float, scale: float) -> WindowStatistics:
        """The statistics of ``(samples - mean) / scale``: a feature extractor's normalisation known only at the end."""
        made = WindowStatistics(self.kernel, self.stride)
        made.count = self.count
        made._mean = (self._mean - mean) / scale
        made._scatter = self._scatter / scale**2
        return made

    def folded(
        self, kernels: np.ndarray, gain: np.ndarray, shift: np.ndarray, epsilon: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """A first convolution with its group norm in it, for this recording.

        Args:
            kernels: (channels, kernel); a bias of the convolution cancels.
            gain, shift: (channels,) of the norm.
            epsilon: of the norm.

        Returns:
            Kernels (channels, kernel) and bias (channels,), float64.
        """
        kernels = np.asarray(kernels, np.float64)
        variance = ((kernels @ self.covariance) * kernels).sum(1)
        scale = np.asarray(gain, np.float64) / np.sqrt(variance + epsilon)
        return kernels * scale[:, None], np.asarray(shift, np.float64) - (kernels @ self.mean) * scale

    def _check(self) -> None:
        if self.count == 0:
            raise InputError(f"the recording is shorter than one window of {self.kernel} samples: use a longer one")
