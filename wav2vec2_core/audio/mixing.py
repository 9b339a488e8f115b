"""Mixing channels to mono: one of them, or their average. Imports only numpy: the decoding process loads it too."""

from __future__ import annotations

import numpy as np

#: Samples that are mixed in one way. Readers begin at multiples of it, so that a stretch is mixed as the whole is.
PIECE = 2048
_CANCELLED = 1e-3  # share of the channels' mean power that remains where they cancel each other
_QUIET = 1e-8  # power of a channel below which silence is silence: -80 dB of full scale


def channel_number(channel: str | int) -> int | None:
    """Of "left", "right" or a number; ``None`` for "mix"."""
    return channel if isinstance(channel, int) else {"left": 0, "right": 1}.get(channel)


class Mixer:
    """Blocks of (samples, channels) float32 that follow each other -> (samples,) float32.

    Where channels cancel each other (a microphone wired the wrong way round), their average is silent: there the first
    channel of good level is taken instead, decided for every ``PIECE`` samples by itself.

    Attributes:
        cancelled: samples where that was so.
    """

    def __init__(self, channel: str | int = "mix") -> None:
        self._index = channel_number(channel)
        self._held: list[np.ndarray] = []
        self.cancelled = 0

    def feed(self, block: np.ndarray) -> np.ndarray:
        """(samples, channels) in, the samples out that are decided: all but the last few."""
        if self._index is not None or block.shape[1] == 1:
            return np.ascontiguousarray(block[:, self._index or 0])
        if self._held or len(block) % PIECE:
            self._held.append(block.copy())  # a reader may use its buffer again
            if sum(map(len, self._held)) < PIECE:
                return np.zeros(0, np.float32)
            block = np.concatenate(self._held)
            whole = len(block) // PIECE * PIECE
            block, rest = block[:whole], block[whole:]
            self._held = [rest] if len(rest) else []
        return self._mix(block, PIECE)

    def flush(self) -> np.ndarray:
        """The remaining samples."""
        if not self._held:
            return np.zeros(0, np.float32)
        block = np.concatenate(self._held)
        self._held = []
        return self._mix(block, len(block))

    def _mix(self, block: np.ndarray, piece: int) -> np.ndarray:
        channels = block.shape[1]
        if channels == 2:
            mono = (block[:, 0] + block[:, 1]) * np.float32(0.5)
        else:
            mono = block.mean(axis=1, dtype=np.float64).astype(np.float32)
        mixed = mono.reshape(-1, piece)
        left, power = _energies(mixed), _all_energies(block, piece) / channels
        for index in np.flatnonzero((left < _CANCELLED * power) & (power > _QUIET * piece)):
            here = block[index * piece : (index + 1) * piece]
            levels = np.einsum("ij,ij->j", here, here)
            mixed[index] = here[:, np.argmax(levels >= levels.max() / 2)]
            self.cancelled += piece
        return mono


def _energies(pieces: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", pieces, pieces)


def _all_energies(block: np.ndarray, piece: int) -> np.ndarray:
    """Of all channels together, for every piece; one pass over the memory however it lies."""
    if block.flags.c_contiguous:
        return _energies(block.reshape(-1, piece * block.shape[1]))
    return np.sum([_energies(channel.reshape(-1, piece)) for channel in block.T], axis=0)
