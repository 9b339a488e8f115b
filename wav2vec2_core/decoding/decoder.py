"""What every decoder offers, so that a pipeline need not know which one it has."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from wav2vec2_core.decoding.timeline import Word


class DecodingStream(Protocol):
    """Decodes one recording as its logits come; ``feed`` and ``finish`` together give the words of ``decode``."""

    def feed(self, logits: np.ndarray) -> list[Word]:
        """(frames, vocab), the frames that follow the last call's -> words that are now final, never given again.

        Positions count from the first frame of the recording.
        """
        ...

    def partial(self) -> list[Word]:
        """The words after the final ones as they look now; more frames may change them."""
        ...

    def finish(self) -> list[Word]:
        """No frames follow: the words that were not final yet."""
        ...


class Decoder(Protocol):
    """Turns logits into text and words."""

    def decode(self, logits: np.ndarray) -> tuple[str, list[Word]]:
        """(frames, vocab) before the softmax -> text and words of one recording. Raises ``InputError``."""
        ...

    def stream(self) -> DecodingStream:
        """Start a recording whose logits come in pieces."""
        ...
