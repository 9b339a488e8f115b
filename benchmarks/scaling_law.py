"""Steps of pretraining compiled for TPUs, and what follows from them for other chips and models."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wav2vec2_core.parameters import parameter_table
from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe
from wav2vec2_flax.tpu_check import CHIPS, Plan, operations

FOLDER = Path(__file__).with_name("scaling")
HEAD = "ForPreTraining"
#: Chips of the largest slice of a kind; more are several slices.
SLICE = {"v4": 1024, "v5e": 256, "v5p": 1024, "v6e": 256}
SMALLEST = {"v4": "2x2x1", "v5e": "2x2", "v5p": "2x2x1", "v6e": "2x2"}
#: Bytes of a gradient that is sent, for each parameter: bfloat16.
GRADIENT = 2
#: Shares of what BASE moves in memory, by what they grow with: of a program compiled with ``--quick`` and ``dots``.
MOVED = {"scores": 0.37, "layers": 0.48, "convolutions": 0.085, "update": 0.065}


@dataclass(frozen=True)
class Step:
    """A step to compile: preset, slices of a topology, rows for each chip, chips that share a copy of the model."""

    preset: str
    topology: str
    rows: int
    fsdp: int = 1
    slices: int = 1
    remat: str = "dots_no_batch"
    scan_layers: bool = True
    quick: bool = False

    def plan(self) -> Plan:
        """The same for ``check_step``."""
        recipe = PretrainingRecipe.read(self.preset)
        fields = {name: value for name, value in asdict(self).items() if name not in ("preset", "topology", "rows")}
        samples = round(recipe.data.longest_seconds * 16_000)
        return Plan(recipe.config(), HEAD, self.topology, self.rows, samples, dtype="bfloat16", **fields)


@dataclass(frozen=True)
class Run:
    """A run of pretraining. preset: its recipe; architecture: whose compiled steps describe it; rows: for each chip at
    most; fsdp: chips that share a copy of the model."""

    preset: str
    architecture: str
    rows: int
    fsdp: int = 1

    @property
    def recipe(self) -> PretrainingRecipe:
        """Its recipe."""
        return PretrainingRecipe.read(self.preset)


RUNS = (
    Run("base-librispeech", "base", 8),
    Run("large-librispeech", "large", 4),
    Run("large-librivox", "large", 4),
    Run("xls-r-300m", "large", 4),
    Run("xls-r-1b", "1b", 4, 4),
)
ARCHITECTURES = {"base": RUNS[0], "large": RUNS[3], "1b": RUNS[4]}


def plans() -> dict[str, Step]:
    """Name -> step, in the order in which they are compiled."""
    found: dict[str, Step] = {}
    for kind in ("v5e", "v6e", "v5p", "v4"):
        for name, run in ARCHITECTURES.items():
            found[f"{name}-{kind}"] = Step(run.preset, f"{kind}:{SMALLEST[kind]}", run.rows, run.fsdp)
    found["large-v5e-256-dots"] = Step("large-librispeech", "v5e:16x16", 4, 16, remat="dots")
    quick = {f"{name}-quick": replaced(found[name]) for name in ("base-v5e", "large-v5e", "1b-v5e")}
    quick["base-v5e-1024-quick"] = Step("base-librispeech", "v5e:16x16", 8, slices=4, quick=True)
    tiny = {
        f"tiny-{chips}{'-fsdp' if fsdp > 1 else ''}": Step("tiny", topology, 2, fsdp, slices, quick=True)
        for chips, topology, slices in ((4, "v5e:2x2", 1), (64, "v5e:8x8", 1), (1024, "v5e:16x16", 4))
        for fsdp in (1, 4)
    }
    return {**found, **quick, **tiny}


def replaced(step: Step) -> Step:
    """The same with little optimisation."""
    return Step(**{**asdict(step), "quick": True})


@cache
def record(name: str) -> dict[str, Any] | None:
    """What was found of a step, if it was compiled."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


@cache
def seconds_of(preset: str) -> float:
    """The longest crop of a preset."""
    return PretrainingRecipe.read(preset).data.longest_seconds


def parameters(preset: str) -> int:
    """Parameters of a preset's model."""
    config = PretrainingRecipe.read(preset).config()
    return sum(row.size for row in parameter_table(config, HEAD).values())


def summed(count: int, copies: int, fsdp: int = 1) -> float:
    """Bytes that a chip sends to sum the gradients of so many parameters over copies of a model, around a ring."""
    return 2 * (copies - 1) / copies * GRADIENT * count / fsdp


def within_copy(found: dict[str, Any]) -> float:
    """Bytes that a chip sends within a copy of the model, from a step compiled for chips that share one copy."""
    return 0.0 if found["fsdp"] == 1 else sum(one["bytes"] for one in found["sent"].values())


@dataclass(frozen=True)
class Source:
    """What describes an architecture on a kind of chip: a compiled step or an estimate, and which."""

    found: dict[str, Any]
    note: str


def source(architecture: str, kind: str) -> Source:
    """The nearest compiled step: of this kind of chip, else of another; at the default level, else with ``quick``."""
    for name, note in (
        (f"{architecture}-{kind}", "compiled"),
        (f"{architecture}-v5e", "as on v5e"),
        (f"{architecture}-v5e-quick", "as on v5e, `--quick`" if kind != "v5e" else "`--quick`"),
    ):
        found = record(name)
        if found is not None and found["peak"] is not None:
            return Source(found, note)
    return Source(estimated(ARCHITECTURES[architecture]), "estimated from BASE")


def estimated(run: Run) -> dict[str, Any]:
    """What a step would need if its parts grew from those of BASE as their sizes do."""
    base, first = record("base-v5e"), Sizes.of(RUNS[0])
    assert base is not None
    sizes, count = Sizes.of(run), parameters(run.preset)
    kept = (base["memory"]["intermediate"] / first.rows - first.kept) / first.samples
    row = sizes.kept + kept * sizes.samples
    growth = {
        "scores": sizes.scores / first.scores,
        "layers": sizes.hidden / first.hidden,
        "convolutions": sizes.rows * sizes.samples / (first.rows * first.samples),
        "update": count / run.fsdp / parameters(RUNS[0].preset),
    }
    inside = 3 * GRADIENT * count * (run.fsdp - 1) / run.fsdp  # gathered twice, scattered once
    memory = {
        "parameters": 4 * count / run.fsdp,
        "optimizer": 8 * count / run.fsdp,
        "batch": sizes.rows * (4 * sizes.samples + 4 * sizes.frames**2),
        "intermediate": row * sizes.rows,
        "program": base["memory"]["program"],
    }
    return {
        "rows": run.rows, "fsdp": run.fsdp, "memory": memory, "total": sum(memory.values()),
        "moved": base["moved"] * sum(share * growth[part] for part, share in MOVED.items()),
        "sent": {"all-gather": {"times": 0, "bytes": inside}},
    }  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """What the parts of a step grow with. rows: of a chip; samples, frames: of a row; kept: bytes of products with
    parameters in the layers, of a row; scores, hidden: elements of a step."""

    rows: int
    samples: int
    frames: int
    kept: float
    scores: float
    hidden: float

    @classmethod
    def of(cls, run: Run) -> Sizes:
        """Those of a run's recipe."""
        config, samples = run.recipe.config(), round(run.recipe.data.longest_seconds * 16_000)
        frames, layers = config.num_frames(samples, add_adapter=False), config.num_hidden_layers
        wide = 6 * config.hidden_size + config.intermediate_size
        scores = run.rows * layers * config.num_attention_heads * frames**2
        return cls(
            run.rows,
            samples,
            frames,
            2 * layers * frames * wide,
            scores,
            run.rows * layers * frames * config.hidden_size,
        )


@dataclass(frozen=True)
class Bound:
    """The least time of a micro-batch of so many rows on each chip, in seconds, by what takes it."""

    seconds: dict[str, float]

    @property
    def least(self) -> float:
        """All units busy at once."""
        return max(self.seconds.values())

    @property
    def limited_by(self) -> str:
        """What takes the longest."""
        return max(self.seconds, key=lambda name: self.seconds[name])


def bound(run: Run, kind: str, chips: int, rows: int) -> Bound:
    """The bound for a run on so many chips, each with so many rows."""
    chip, found = CHIPS[kind], source(run.architecture, kind).found
    step = Step(run.preset, f"{kind}:{SMALLEST[kind]}", rows, run.fsdp)
    state = found["memory"]["parameters"] + found["memory"]["optimizer"]
    moved = 2 * state + (found["moved"] - 2 * state) * rows / found["rows"]  # the update reads and writes the state
    slices = max(1, chips // SLICE[kind])
    sent = within_copy(found) + summed(parameters(run.preset), chips // slices // run.fsdp, run.fsdp)
    seconds = {"operations": sum(operations(step.plan())) / chip.peak, "memory": moved / chip.bandwidth}
    seconds["links"] = sent / chip.links
    if slices > 1 and chip.network:
        seconds["network"] = between_slices(parameters(run.preset), chips // slices, slices) / chip.network
    return Bound(seconds)


def between_slices(count: int, chips: int, slices: int) -> float:
    """Bytes that a chip sends to other slices: its share of the gradients of so many parameters, to and from each."""
    return 2 * (slices - 1) / slices * GRADIENT * count / chips


@dataclass(frozen=True)
class Update:
    """An update of a run: rows of each chip in a micro-batch, micro-batches, the bound of one."""

    rows: int
    micro_batches: int
    bound: Bound

    @property
    def seconds(self) -> float:
        """The least time."""
        return self.micro_batches * self.bound.least


def update(run: Run, kind: str, chips: int) -> Update | None:
    """An update with the recipe's seconds of audio; None where chips outnumber its rows."""
    data = run.recipe.data
    needed = math.ceil(data.batch_seconds / data.longest_seconds)
    if chips > needed:
        return None
    micro_batches = math.ceil(needed / (chips * run.rows))
    rows = math.ceil(needed / (chips * micro_batches))
    return Update(rows, micro_batches, bound(run, kind, chips, rows))
