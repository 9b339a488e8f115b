"""The one timeline of every decoder: converts frames to seconds, derived from the model's configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wav2vec2_core.config import Wav2Vec2Config


@dataclass(frozen=True)
class Timeline:
    """Frame i starts at sample ``hop * i`` and depends on the ``receptive_field`` samples from there on.

    hop: samples from one frame of the logits to the next, 320 for the released models.
    start: seconds from the start of the recording to the first sample; above 0 for a stretch of a recording.
    """

    hop: int
    receptive_field: int
    sampling_rate: int
    start: float = 0.0

    @classmethod
    def of(cls, config: Wav2Vec2Config, sampling_rate: int = 16_000) -> Timeline:
        """The timeline of a model's logits; a convolutional adapter multiplies the hop."""
        hop, field_size = config.inputs_to_logits_ratio, config.receptive_field
        if config.add_adapter:
            for _ in range(config.num_adapter_layers):
                field_size += (config.adapter_kernel_size - 1) * hop
                hop *= config.adapter_stride
        return cls(hop, field_size, sampling_rate)

    def seconds(self, frame: int) -> float:
        """The time at which ``frame`` starts. A span ends where the frame after its last one starts."""
        return self.start + self.hop * frame / self.sampling_rate

    def frame_at(self, seconds: float) -> int:
        """The frame whose hop contains the time ``seconds``."""
        return int((seconds - self.start) * self.sampling_rate // self.hop)

    def starting_at(self, seconds: float) -> Timeline:
        """The timeline of a stretch of audio that starts ``seconds`` into its recording."""
        return replace(self, start=seconds)


@dataclass(frozen=True)
class Character:
    """One decoded token. start, end: frames, end exclusive; confidence: mean probability over its frames."""

    text: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class Word:
    """Characters between two word delimiters. start, end: frames, end exclusive; confidence: mean over its characters.

    joined: written without a space after the previous word, as in Chinese.
    """

    text: str
    start: int
    end: int
    confidence: float
    characters: tuple[Character, ...]
    joined: bool = False

    @classmethod
    def of(cls, characters: list[Character]) -> Word:
        """Join one or more characters."""
        return cls(
            text="".join(character.text for character in characters),
            start=characters[0].start,
            end=characters[-1].end,
            confidence=sum(character.confidence for character in characters) / len(characters),
            characters=tuple(characters),
        )
