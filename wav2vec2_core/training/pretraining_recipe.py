"""What a pretraining run does: a recipe as that of fine-tuning, with the architecture and the objective in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from wav2vec2_core.config import PRESETS, Wav2Vec2Config
from wav2vec2_core.training.recipe import (
    CheckpointsSection,
    ComputeSection,
    FlaxSection,
    OptimizerSection,
    Section,
    SectionedRecipe,
    TFSection,
    TorchSection,
)
from wav2vec2_core.training.schedules import gumbel_temperature, polynomial


@dataclass(frozen=True)
class CropsSection(Section):
    """batch_seconds: audio of one update, over all micro-batches and processes; micro_batch_seconds: what is computed
    at once, which memory limits; longest_seconds: of a crop; shortest_seconds: shorter recordings are left out."""

    batch_seconds: float
    micro_batch_seconds: float
    longest_seconds: float
    shortest_seconds: float

    rules: ClassVar = {
        "batch_seconds": (0.1, math.inf), "micro_batch_seconds": (0.1, math.inf), "longest_seconds": (0.1, math.inf),
        "shortest_seconds": (0, math.inf),
    }  # fmt: skip


@dataclass(frozen=True)
class ArchitectureSection(Section):
    """preset: of ``Wav2Vec2Config.preset``; normalize: whether waveforms are normalised; the others are sizes, those
    of the preset where they are 0: channels of the convolutions, of the transformer, codevectors in each group."""

    preset: str
    normalize: bool
    channels: int = 0
    hidden_size: int = 0
    layers: int = 0
    heads: int = 0
    intermediate_size: int = 0
    codevectors: int = 0
    codevector_size: int = 0

    rules: ClassVar = {
        "preset": tuple(PRESETS), "channels": (0, math.inf), "hidden_size": (0, math.inf), "layers": (0, math.inf),
        "heads": (0, math.inf), "intermediate_size": (0, math.inf), "codevectors": (0, math.inf),
        "codevector_size": (0, math.inf),
    }  # fmt: skip

    def config(self) -> Wav2Vec2Config:
        """The configuration of this architecture. Raises ``ConfigError``."""
        config = Wav2Vec2Config.preset(self.preset)
        sizes = {
            "conv_dim": (self.channels,) * len(config.conv_dim) if self.channels else 0,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate_size,
            "num_codevectors_per_group": self.codevectors,
            "codevector_dim": self.codevector_size,
            "proj_codevector_dim": self.codevector_size,
        }
        return config.replace(**{name: size for name, size in sizes.items() if size})


@dataclass(frozen=True)
class ObjectiveSection(Section):
    """Fields of ``Wav2Vec2Config`` about the losses, and the temperature of the quantizer's choice: the first, the
    factor of each update, the last."""

    num_negatives: int
    contrastive_logits_temperature: float
    diversity_loss_weight: float
    feature_penalty_weight: float
    feature_gradient_scale: float
    gumbel_first: float
    gumbel_factor: float
    gumbel_last: float

    rules: ClassVar = {
        "num_negatives": (1, math.inf), "contrastive_logits_temperature": (1e-6, math.inf),
        "diversity_loss_weight": (0, math.inf), "feature_penalty_weight": (0, math.inf),
        "feature_gradient_scale": (0, math.inf), "gumbel_first": (1e-3, math.inf), "gumbel_factor": (0, 1),
        "gumbel_last": (1e-3, math.inf),
    }  # fmt: skip

    def temperature(self, step: int) -> float:
        """The temperature in a step."""
        return gumbel_temperature(step, first=self.gumbel_first, factor=self.gumbel_factor, last=self.gumbel_last)


@dataclass(frozen=True)
class MasksSection(Section):
    """Fields of ``Wav2Vec2Config`` that only training uses; every utterance has a masked span."""

    mask_time_prob: float
    mask_time_length: int
    mask_time_min_masks: int
    mask_feature_prob: float
    mask_feature_length: int
    layerdrop: float
    feat_proj_dropout: float
    feat_quantizer_dropout: float
    hidden_dropout: float
    activation_dropout: float
    attention_dropout: float

    rules: ClassVar = {
        "mask_time_prob": (1e-6, 1), "mask_time_length": (1, math.inf), "mask_time_min_masks": (1, math.inf),
        "mask_feature_prob": (0, 1), "mask_feature_length": (1, math.inf), "layerdrop": (0, 1),
        "feat_proj_dropout": (0, 1), "feat_quantizer_dropout": (0, 1), "hidden_dropout": (0, 1),
        "activation_dropout": (0, 1), "attention_dropout": (0, 1),
    }  # fmt: skip


@dataclass(frozen=True)
class PolynomialSection(Section):
    """steps: updates of the run; learning_rate: the highest; warm_up: share of the run; power: of the decay, 1 for a
    line; final_scale: the last rate as a share of the highest."""

    steps: int
    learning_rate: float
    warm_up: float
    power: float
    final_scale: float

    rules: ClassVar = {
        "steps": (1, math.inf), "learning_rate": (0, math.inf), "warm_up": (0, 1), "power": (1e-3, math.inf),
        "final_scale": (0, 1),
    }  # fmt: skip

    #: Updates of the head alone: none.
    frozen_steps: ClassVar[int] = 0

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        options = {"warm_up": self.warm_up, "power": self.power, "final_scale": self.final_scale}
        return polynomial(step, self.steps, self.learning_rate, **options)


@dataclass(frozen=True)
class CollapseSection(Section):
    """most_refused: updates whose gradient was not finite after which the run stops; most_unreadable: recordings that
    may become unreadable during it; window: updates over which signs are averaged; most_collapsed: updates that a
    collapse of the codebook may last before the run stops, 0 for any."""

    most_refused: int
    most_unreadable: int
    window: int
    most_collapsed: int

    rules: ClassVar = {
        "most_refused": (0, math.inf), "most_unreadable": (0, math.inf), "window": (1, math.inf),
        "most_collapsed": (0, math.inf),
    }  # fmt: skip


@dataclass(frozen=True)
class PretrainingRecipe(SectionedRecipe):
    """A pretraining run. torch, tf, flax: read by that back end only."""

    data: CropsSection
    architecture: ArchitectureSection
    objective: ObjectiveSection
    model: MasksSection
    schedule: PolynomialSection
    optimizer: OptimizerSection
    checkpoints: CheckpointsSection
    health: CollapseSection
    compute: ComputeSection
    torch: TorchSection = field(default_factory=TorchSection)
    tf: TFSection = field(default_factory=TFSection)
    flax: FlaxSection = field(default_factory=FlaxSection)

    SECTIONS: ClassVar[Mapping[str, Any]] = {
        "data": CropsSection,
        "architecture": ArchitectureSection,
        "objective": ObjectiveSection,
        "model": MasksSection,
        "schedule": PolynomialSection,
        "optimizer": OptimizerSection,
        "checkpoints": CheckpointsSection,
        "health": CollapseSection,
        "compute": ComputeSection,
        "torch": TorchSection,
        "tf": TFSection,
        "flax": FlaxSection,
    }
    PRESETS: ClassVar[Path] = SectionedRecipe.PRESETS / "pretraining"

    def config(self) -> Wav2Vec2Config:
        """The model's configuration. Raises ``ConfigError``."""
        return self.architecture.config().replace(**self.training_fields())

    def training_fields(self) -> dict[str, Any]:
        """The fields of a configuration, of any architecture, that say how it is trained: losses, masks, dropout."""
        losses = {name: value for name, value in asdict(self.objective).items() if not name.startswith("gumbel")}
        return {**losses, **asdict(self.model), "apply_spec_augment": True}
