"""A model in numpy behind the interface of a back end: small, exact, and as local as a test wants it to be."""

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.window_statistics import WindowStatistics

FIELDS = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 8, "vocab_size": 8}


class NumpyModel:
    """Two convolutions, a group norm where the configuration has one, and a "transformer" that averages neighbours.

    reach: frames on either side that a frame's logits depend on; ``None`` for all of them.
    """

    def __init__(self, norm="group", reach=2, stride=1, dim=6):
        adapter = {"add_adapter": True, "num_adapter_layers": 1, "adapter_stride": stride} if stride > 1 else {}
        self.config = Wav2Vec2Config(
            conv_dim=(4, dim), conv_kernel=(10, 4), conv_stride=(5, 4), feat_extract_norm=norm, **FIELDS, **adapter
        )
        generator = np.random.default_rng(0)
        self.first, self.second = generator.normal(size=(10, 4)), generator.normal(size=(4, 4, dim))
        self.head = generator.normal(size=(dim, 8))
        self.reach = reach
        self.longest = 0  # frames of the longest call so far

    def encode(self, waveforms, statistics=None):
        return [self._encode(w, None if statistics is None else s) for w, s in zip(
            waveforms, statistics or [None] * len(waveforms), strict=True)]  # fmt: skip

    def _encode(self, waveform, statistics):
        windows = np.lib.stride_tricks.sliding_window_view(np.float64(waveform), 10)[::5]
        x = windows @ self.first
        if self.config.feat_extract_norm == "group":
            known = statistics or WindowStatistics.of(self.config, waveform)
            variance = np.einsum("ki,kl,li->i", self.first, known.covariance, self.first)
            x = (x - known.mean @ self.first) / np.sqrt(variance + 1e-5)
        x = np.tanh(x)
        frames = (len(x) - 4) // 4 + 1
        x = np.stack([x[4 * i : 4 * i + 4] for i in range(frames)])
        self.longest = max(self.longest, frames)
        return np.tanh(np.einsum("fkc,kcd->fd", x, self.second)).astype(np.float32)

    def hidden_states(self, features, layers):
        return [np.stack([self._mixed(f) + layer for layer in layers]).astype(np.float32) for f in features]

    def contextualize(self, features):
        stride = self.config.adapter_stride if self.config.add_adapter else 1
        return [(self._mixed(f) @ self.head)[: (len(f) - 1) // stride * stride + 1 : stride].astype(np.float32)
                for f in features]  # fmt: skip

    def _mixed(self, features):
        self.longest = max(self.longest, len(features))
        frames = np.arange(len(features))
        reach = len(features) if self.reach is None else self.reach
        weights = (np.abs(frames[:, None] - frames) <= reach).astype(float)
        return weights / weights.sum(1, keepdims=True) @ features.astype(np.float64)

    def logits(self, waveforms):
        return self.contextualize(self.encode(waveforms))

    def summary(self):
        return "numpy"
