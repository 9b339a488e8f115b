"""The interface that all decoders share."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from wav2vec2_core.decoding.timeline import Word


class DecodingStream(Protocol):
    """Decodes one recording as its logits arrive; ``feed`` and ``finish`` together return the words of ``decode``."""

    def feed(self, logits: np.ndarray) -> list[Word]:
        """Decode the next frames, (frames, vocab); returns the words that have become final, each once.

        Positions count from the first frame of the recording.
        """
        ...

    def partial(self) -> list[Word]:
        """The current words after the final ones; later frames may change them."""
        ...

    def finish(self) -> list[Word]:
        """End the recording; returns the words that were not final yet."""
        ...


class Decoder(Protocol):
    """Turns logits into text and words."""

    def decode(self, logits: np.ndarray) -> tuple[str, list[Word]]:
        """Text and words of one recording from its logits (frames, vocab), before the softmax.
        Raises ``InputError``.
        """
        ...

    def stream(self) -> DecodingStream:
        """Start decoding a recording whose logits arrive in pieces."""
        ...
