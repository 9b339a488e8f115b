"""What a fine-tuning run does: sections of plain values, read from TOML, checked once. Presets are such files."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from wav2vec2_core.errors import InputError
from wav2vec2_core.training.schedules import tri_stage

_PRESETS = Path(__file__).parent / "presets"
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Section:
    """Base of the sections: plain values with rules."""

    #: Field -> (least, most) value of a number, or the texts that are possible.
    rules: ClassVar[Mapping[str, tuple[float, float] | tuple[str, ...]]] = {}

    def check(self, section: str) -> None:
        """Check types and ranges. Raises ``InputError``."""
        for field in fields(self):
            _CHECKS[str(field.type)](f"{section}.{field.name}", getattr(self, field.name), self.rules.get(field.name))


def _check_number(name: str, value: Any, limits: tuple[float, float], *, whole: bool = False) -> None:
    kind = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise InputError(f"{name} is {value!r:.100}, it must be {kind}")
    least, most = limits
    if not least <= value <= most:
        limit = f"of at least {least:g}" if most == math.inf else f"between {least:g} and {most:g}"
        raise InputError(f"{name} is {value!r:.100}, it must be {kind} {limit}")


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r:.100}, it must be one of {', '.join(choices)}")


def _check_switch(name: str, value: Any, _: None) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r:.100}, it must be true or false")


_CHECKS: dict[str, Callable[[str, Any, Any], None]] = {
    "int": partial(_check_number, whole=True),
    "float": _check_number,
    "str": _check_choice,
    "bool": _check_switch,
}


@dataclass(frozen=True)
class DataSection(Section):
    """batch_seconds: audio of one update, over all micro-batches and processes; micro_batch_seconds: what is computed
    at once, with its padding, which memory limits. Longer recordings are left out."""

    batch_seconds: float
    micro_batch_seconds: float

    rules = {"batch_seconds": (0.1, math.inf), "micro_batch_seconds": (0.1, math.inf)}  # noqa: RUF012


@dataclass(frozen=True)
class ModelSection(Section):
    """Fields of the model's configuration that only training uses: see ``Wav2Vec2Config``."""

    mask_time_prob: float
    mask_time_length: int
    mask_feature_prob: float
    mask_feature_length: int
    layerdrop: float
    feat_proj_dropout: float
    hidden_dropout: float
    activation_dropout: float
    attention_dropout: float
    final_dropout: float

    rules = {  # noqa: RUF012
        "mask_time_prob": (0, 1), "mask_time_length": (1, math.inf), "mask_feature_prob": (0, 1),
        "mask_feature_length": (1, math.inf), "layerdrop": (0, 1), "feat_proj_dropout": (0, 1),
        "hidden_dropout": (0, 1), "activation_dropout": (0, 1), "attention_dropout": (0, 1), "final_dropout": (0, 1),
    }  # fmt: skip


@dataclass(frozen=True)
class ScheduleSection(Section):
    """steps: updates of the run; learning_rate: the highest; warm_up, hold: shares of the run, the rest is decay;
    initial_scale, final_scale: first and last rate as shares of the highest; frozen: share of the run in which only
    the head is trained; train_feature_encoder: whether the convolutions are trained after that, as those of a model
    without weights must be."""

    steps: int
    learning_rate: float
    warm_up: float
    hold: float
    initial_scale: float
    final_scale: float
    frozen: float
    train_feature_encoder: bool = False

    rules = {  # noqa: RUF012
        "steps": (1, math.inf), "learning_rate": (0, math.inf), "warm_up": (0, 1), "hold": (0, 1),
        "initial_scale": (0, 1), "final_scale": (1e-9, 1), "frozen": (0, 1),
    }  # fmt: skip

    @property
    def frozen_steps(self) -> int:
        """Updates of the head alone."""
        return round(self.steps * self.frozen)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return tri_stage(
            step,
            self.steps,
            self.learning_rate,
            warm_up=self.warm_up,
            hold=self.hold,
            initial_scale=self.initial_scale,
            final_scale=self.final_scale,
        )


@dataclass(frozen=True)
class OptimizerSection(Section):
    """Adam's numbers; clip: largest norm of the gradient, 0 for any; weight_decay: what each update takes of every
    parameter, as a share of it, times the learning rate."""

    beta1: float
    beta2: float
    epsilon: float
    clip: float
    weight_decay: float = 0.0

    rules = {  # noqa: RUF012
        "beta1": (0, 1), "beta2": (0, 1), "epsilon": (1e-30, 1), "clip": (0, math.inf), "weight_decay": (0, 1),
    }  # fmt: skip


@dataclass(frozen=True)
class EvaluationSection(Section):
    """every: updates between evaluations; patience: evaluations without better scores that end the run, 0 for none."""

    every: int
    patience: int

    rules = {"every": (1, math.inf), "patience": (0, math.inf)}  # noqa: RUF012


@dataclass(frozen=True)
class CheckpointsSection(Section):
    """every: updates between checkpoints, with one at each evaluation; keep: how many of the last, beside the best."""

    every: int
    keep: int

    rules = {"every": (1, math.inf), "keep": (1, math.inf)}  # noqa: RUF012


@dataclass(frozen=True)
class HealthSection(Section):
    """most_refused: updates whose gradient was not finite after which the run stops."""

    most_refused: int

    rules = {"most_refused": (0, math.inf)}  # noqa: RUF012


@dataclass(frozen=True)
class ComputeSection(Section):
    """dtype: of the computation; parameters and the optimizer are float32."""

    dtype: str

    rules = {"dtype": ("float32", "bfloat16")}  # noqa: RUF012


@dataclass(frozen=True)
class TorchSection(Section):
    """sharding: whether each process holds the whole model, or all of them share one (FSDP)."""

    sharding: str = "none"

    rules = {"sharding": ("none", "fsdp")}  # noqa: RUF012


@dataclass(frozen=True)
class TFSection(Section):
    """strategy: of ``tf.distribute``: one device, all of this machine, or those of several machines."""

    strategy: str = "none"

    rules = {"strategy": ("none", "mirrored", "multi-worker")}  # noqa: RUF012


@dataclass(frozen=True)
class FlaxSection(Section):
    """data, fsdp: sizes of the mesh: copies of the model, 0 for as many as there are devices for, and devices that
    share one; remat: what a layer keeps for the backward pass, which computes the rest again: ``none`` for
    everything, ``dots`` for all products of matrices, ``dots_no_batch`` for those with parameters, ``full`` for
    nothing; scan_layers: compile one layer."""

    data: int = 0
    fsdp: int = 1
    remat: str = "none"
    scan_layers: bool = False

    rules = {"data": (0, math.inf), "fsdp": (1, math.inf), "remat": ("none", "dots", "dots_no_batch", "full")}  # noqa: RUF012


#: Sections of back ends, which a recipe may leave out.
_OWN = ("torch", "tf", "flax")


class TrainingRecipe(Protocol):
    """What a back end reads of a recipe of any kind to make a trainer."""

    @property
    def seed(self) -> int:
        """Of first values, dropout and Gumbel noise."""
        ...

    @property
    def optimizer(self) -> OptimizerSection:
        """Adam's numbers."""
        ...

    @property
    def compute(self) -> ComputeSection:
        """How to compute."""
        ...

    @property
    def torch(self) -> TorchSection:
        """Of PyTorch alone."""
        ...

    @property
    def tf(self) -> TFSection:
        """Of TensorFlow alone."""
        ...

    @property
    def flax(self) -> FlaxSection:
        """Of JAX alone."""
        ...


@dataclass(frozen=True)
class SectionedRecipe:
    """What recipes of every kind have in common. seed: of the order of the data, of every mask and of dropout."""

    seed: int

    #: Name -> class of each section; the folder of presets.
    SECTIONS: ClassVar[Mapping[str, Any]] = {}
    PRESETS: ClassVar[Path] = _PRESETS

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed <= _LARGEST_SEED:
            raise InputError(f"seed is {self.seed!r:.100}, it must be a whole number between 0 and {_LARGEST_SEED}")
        for name in self.SECTIONS:
            getattr(self, name).check(name)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Self:
        """A recipe from nested mappings, such as TOML's; ``where`` is for messages.

        Raises:
            InputError: a name is unknown (the nearest one is named) or missing, or a value breaks a rule.
        """
        _check_names(values, ("seed", *cls.SECTIONS), where, optional=_OWN)
        sections: dict[str, Any] = {}
        for name, section in cls.SECTIONS.items():
            given = values.get(name, {})
            if not isinstance(given, Mapping):
                raise InputError(f"{name} of {where} is {given!r:.100}, it must be a section: [{name}]")
            names = [field.name for field in fields(section)]
            optional = [field.name for field in fields(section) if field.default is not MISSING]
            _check_names(given, names, where, f"{name}.", optional=optional)
            sections[name] = section(**given)
        return cls(seed=values["seed"], **sections)

    @classmethod
    def read(cls, preset: str | os.PathLike[str]) -> Self:
        """See ``read_recipe``."""
        if str(preset) in cls.preset_names():
            path = cls.PRESETS / f"{preset}.toml"
        elif str(preset).endswith(".toml"):
            path = Path(preset)
        else:
            raise InputError(
                f"preset {str(preset)!r:.100} is unknown: use one of {', '.join(cls.preset_names())}, or a .toml file"
            )
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"recipe {path} cannot be read ({error.strerror}): check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"recipe {path} is not TOML ({error}): mend it") from error
        return cls.from_dict(values, str(path))

    @classmethod
    def preset_names(cls) -> list[str]:
        """Names of the presets, the shortest data first."""
        names = (path.stem for path in cls.PRESETS.glob("*.toml"))
        return sorted(names, key=lambda name: (name.endswith("h"), len(name), name))

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, for ``from_dict``."""
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        """What decides the numbers of a run: all but the sections of back ends, which say where it is computed."""
        return {name: section for name, section in self.to_dict().items() if name not in _OWN}

    def to_toml(self) -> str:
        """The text of a file that ``read_recipe`` reads."""
        lines = [f"seed = {self.seed}"]
        for name in self.SECTIONS:
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {json.dumps(value)}" for key, value in asdict(getattr(self, name)).items()]
        return "\n".join(lines) + "\n"

    def changed(self, settings: Sequence[str]) -> Self:
        """The recipe with ``section.key=value`` settings, values as in TOML.

        Raises:
            InputError: a setting has another form, its name is unknown, or its value breaks a rule.
        """
        changed = self
        for setting in settings:
            name, equals, text = setting.partition("=")
            section, dot, key = name.strip().partition(".")
            if not (equals and (dot or section == "seed")):
                raise InputError(f"--set {setting!r:.100} is none: write section.key=value")
            try:
                value = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError as error:
                if not re.fullmatch(r"[\w-]+", text):
                    remedy = "write a number, true, false, or a word"
                    raise InputError(f"--set {setting!r:.100} has no TOML value ({error}): {remedy}") from error
                value = text  # shells take quotes away
            if section == "seed" and not dot:
                changed = replace(changed, seed=value)
                continue
            _check_names([section], ("seed", *self.SECTIONS), "--set", complete=False)
            known = [field.name for field in fields(self.SECTIONS[section])]
            _check_names([key], known, "--set", f"{section}.", complete=False)
            changed = replace(changed, **{section: replace(getattr(changed, section), **{key: value})})
        return changed


@dataclass(frozen=True)
class Recipe(SectionedRecipe):
    """A fine-tuning run. torch, tf, flax: read by that back end only."""

    data: DataSection
    model: ModelSection
    schedule: ScheduleSection
    optimizer: OptimizerSection
    evaluation: EvaluationSection
    checkpoints: CheckpointsSection
    health: HealthSection
    compute: ComputeSection
    torch: TorchSection = TorchSection()
    tf: TFSection = TFSection()
    flax: FlaxSection = FlaxSection()

    SECTIONS: ClassVar[Mapping[str, Any]] = {
        "data": DataSection,
        "model": ModelSection,
        "schedule": ScheduleSection,
        "optimizer": OptimizerSection,
        "evaluation": EvaluationSection,
        "checkpoints": CheckpointsSection,
        "health": HealthSection,
        "compute": ComputeSection,
        "torch": TorchSection,
        "tf": TFSection,
        "flax": FlaxSection,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule.warm_up + self.schedule.hold > 1:
            raise InputError(
                f"schedule.warm_up={self.schedule.warm_up:g} and schedule.hold={self.schedule.hold:g} are more than "
                "the whole run: make their sum 1 at most"
            )


def preset_names() -> list[str]:
    """Names of the presets of fine-tuning, the shortest data first."""
    return Recipe.preset_names()


def read_recipe(preset: str | os.PathLike[str]) -> Recipe:
    """The preset of that name, or the recipe in a ``.toml`` file.

    Raises:
        InputError: there is no such preset or file, it is not TOML, or a name or value in it breaks a rule.
    """
    return Recipe.read(preset)


def _check_names(
    given: Mapping[str, Any] | Sequence[str],
    known: Sequence[str],
    where: str,
    prefix: str = "",
    *,
    complete: bool = True,
    optional: Sequence[str] = (),
) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {prefix}{near[0]}?" if near else f"use one of {', '.join(known)}"
            raise InputError(f"{prefix}{name[:100]} of {where} is unknown: {remedy}")
    missing = [name for name in known if name not in given and name not in optional]
    if complete and missing:
        raise InputError(f"{where} has no {prefix}{missing[0]}: a recipe names everything, copy it from a preset")
