"""What a recording sounds like to a machine: its length, its level and whether it is the same as another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.errors import AudioError

#: A sample of this size or larger is at full scale.
FULL_SCALE = 0.999


@dataclass(frozen=True)
class Heard:
    """A recording that was decoded to its end.

    samples: at the model's rate; peak: the largest of them, without sign; clipped: the share of them at full scale;
    rate: of the recording itself, in hertz; digest: equal where all samples are.
    """

    samples: int
    peak: float
    clipped: float
    rate: int
    digest: bytes


def hear(utterance: Utterance, sampling_rate: int) -> Heard:
    """Decode all of a recording at a rate in hertz, a block at a time.

    Raises:
        AudioError: it cannot be read, or holds samples that are NaN or infinite.
    """
    digest, samples, peak, clipped = hashlib.blake2b(digest_size=16), 0, 0.0, 0
    recording = utterance.recording(sampling_rate=sampling_rate)
    for block in recording:
        sizes = np.abs(block)
        samples, peak = samples + len(block), max(peak, float(sizes.max(initial=0.0)))
        clipped += int((sizes >= FULL_SCALE).sum())
        digest.update(np.ascontiguousarray(block).data)
    if not np.isfinite(peak):
        raise AudioError(f"{recording.name} holds samples that are NaN or infinite: export it again")
    return Heard(samples, peak, clipped / max(samples, 1), recording.original_rate or sampling_rate, digest.digest())
