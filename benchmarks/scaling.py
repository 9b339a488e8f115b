"""Pretraining on TPUs of four kinds, from 4 to 1,024 chips: steps compiled for some, and what follows for the others.

    pip install -c constraints.txt -e ".[flax,tpu]"
    python benchmarks/scaling.py              # compile the steps that benchmarks/scaling/ lacks, then write the tables
    python benchmarks/scaling.py NAME ...     # these of them alone; names are those of PLANS
    python benchmarks/scaling.py --tables     # compile nothing

A step takes minutes of processor time; each is kept at once as a file, so a run that was stopped goes on with the next.
The tables stand in SCALING.md between comments with their names. Nothing here runs on a TPU.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wav2vec2_core.files import write_json, write_text
from wav2vec2_core.parameters import parameter_table
from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe
from wav2vec2_flax.hlo import BETWEEN_SLICES
from wav2vec2_flax.tpu_check import CHIPS, GIB, Plan, check_step, operations

FOLDER = Path(__file__).with_name("scaling")
DOCUMENT = Path(__file__).parents[1] / "SCALING.md"
HEAD = "ForPreTraining"
CHIP_COUNTS = (4, 16, 64, 256, 1024)
#: Chips of the largest slice of a kind; more are several slices.
SLICE = {"v4": 1024, "v5e": 256, "v5p": 1024, "v6e": 256}
SMALLEST = {"v4": "2x2x1", "v5e": "2x2", "v5p": "2x2x1", "v6e": "2x2"}
#: Bytes of a gradient that is sent, for each parameter: bfloat16.
GRADIENT = 2


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


def compile_steps(names: Sequence[str]) -> None:
    """Compile those of the steps that were not, and keep what is found of each at once."""
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        if record(name) is None:
            step = plans()[name]
            verdict = check_step(step.plan())
            write_json(FOLDER / f"{name}.json", {**asdict(step), **verdict.to_dict()})
            print(f"{name}: {verdict.compiling:.0f} s of processor time", flush=True)
    record.cache_clear()


# ---- the law ----------------------------------------------------------------------------------------------------


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
    """The compiled step that describes an architecture on a kind of chip, and how near it is."""

    found: dict[str, Any]
    note: str


def source(architecture: str, kind: str) -> Source | None:
    """The nearest compiled step: of this kind of chip, else of another; at the default level, else with ``quick``."""
    for name, note in (
        (f"{architecture}-{kind}", "compiled"),
        (f"{architecture}-v5e", "as on v5e"),
        (f"{architecture}-v5e-quick", "as on v5e, `--quick`" if kind != "v5e" else "`--quick`"),
    ):
        found = record(name)
        if found is not None and found["peak"] is not None:
            return Source(found, note)
    return None


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


def bound(run: Run, kind: str, chips: int, rows: int) -> Bound | None:
    """The bound for a run on so many chips; None where its architecture was not compiled."""
    nearest = source(run.architecture, kind)
    if nearest is None:
        return None
    chip, found = CHIPS[kind], nearest.found
    step = Step(run.preset, f"{kind}:{SMALLEST[kind]}", rows, run.fsdp)
    state = found["memory"]["parameters"] + found["memory"]["optimizer"]
    moved = 2 * state + (found["moved"] - 2 * state) * rows / found["rows"]
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
    """An update with the recipe's seconds of audio; None where chips outnumber rows, or nothing was compiled."""
    data = run.recipe.data
    needed = math.ceil(data.batch_seconds / data.longest_seconds)
    if chips > needed:
        return None
    micro_batches = math.ceil(needed / (chips * run.rows))
    rows = math.ceil(needed / (chips * micro_batches))
    found = bound(run, kind, chips, rows)
    return None if found is None else Update(rows, micro_batches, found)


# ---- tables -----------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterator[Sequence[object]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def compiled_table() -> str:
    """Every compiled step: where, memory, traffic."""

    def rows() -> Iterator[Sequence[object]]:
        for name in plans():
            found = record(name)
            if found is None or found["preset"] == "tiny":
                continue
            memory = found["memory"]
            parts = (gib(memory.get(part)) for part in ("parameters", "optimizer", "intermediate", "program"))
            sent = ", ".join(f"{kind} {one['bytes'] / 2**20:.0f} MiB" for kind, one in found["sent"].items())
            yield (
                name, f"{found['rows']} x {seconds_of(found['preset']):g} s", *parts,
                f"{found['total'] / GIB:.2f} of {found['limit'] / GIB:.2f}", gib(found["peak"]),
                f"{found['moved'] / 1e9:.0f} GB", sent or found["refusal"], f"{found['compiling']:.0f} s",
            )  # fmt: skip

    head = (
        "step", "rows of a chip", "parameters", "optimizer", "intermediate", "program", "together, GiB",
        "in use at once", "moved in memory", "sent by a chip", "processor time",
    )  # fmt: skip
    return table(head, rows())


def law_table() -> str:
    """Compiled traffic beside the law's."""

    def rows() -> Iterator[Sequence[object]]:
        for name in plans():
            found = record(name)
            if found is None or found["peak"] is None:
                continue
            count, copies = parameters(found["preset"]), found["data"] // found["slices"]
            inside = sum(one["bytes"] for kind, one in found["sent"].items() if kind != BETWEEN_SLICES)
            between = found["sent"].get(BETWEEN_SLICES, {"bytes": 0.0})["bytes"]
            one_copy = next((one for one in map(record, plans()) if one and one["preset"] == found["preset"]
                             and one["fsdp"] == found["fsdp"] and one["data"] == 1), None)  # fmt: skip
            if found["fsdp"] > 1 and (one_copy is None or one_copy is found):
                continue
            copy = within_copy(one_copy) if one_copy else 0.0
            yield (
                name, f"{found['chips']:,}", found["fsdp"], megabytes(inside),
                megabytes(copy + summed(count, copies, found["fsdp"])), megabytes(between),
                megabytes(between_slices(count, found["chips"] // found["slices"], found["slices"])),
            )  # fmt: skip

    head = ("step", "chips", "fsdp", "compiled", "law", "between slices, compiled", "law")
    return table(head, rows())


def memory_table() -> str:
    """What a chip needs, and the most rows that fit, for every architecture and kind."""

    def rows() -> Iterator[Sequence[object]]:
        for name, run in ARCHITECTURES.items():
            for kind in CHIPS:
                nearest = source(name, kind)
                if nearest is None:
                    yield run.preset, kind, run.fsdp, "", "", "", "", "not compiled"
                    continue
                found, limit = nearest.found, CHIPS[kind].memory
                row = (found["memory"]["intermediate"] + found["memory"]["batch"]) / found["rows"]
                fixed = found["total"] - row * found["rows"]
                yield (
                    run.preset, kind, run.fsdp, gib(fixed), gib(row), f"{found['total'] / GIB:.1f} of {gib(limit)}",
                    int((limit - fixed) / row), nearest.note,
                )  # fmt: skip

    head = (
        "run",
        "chips",
        "fsdp",
        "state and program, GiB",
        "a row, GiB",
        "with the rows of a run",
        "most rows",
        "from",
    )
    return table(head, rows())


def bound_table() -> str:
    """The least time of a micro-batch, by what takes it."""

    def rows() -> Iterator[Sequence[object]]:
        for run in ARCHITECTURES.values():
            for kind in CHIPS:
                found = bound(run, kind, 256, run.rows)
                if found is None:
                    continue
                plan = Step(run.preset, f"{kind}:{SMALLEST[kind]}", run.rows).plan()
                times = (f"{found.seconds[part] * 1e3:.1f}" for part in ("operations", "memory", "links"))
                share = operations(plan)[0] / CHIPS[kind].peak / found.least
                heard = run.rows * seconds_of(run.preset) / found.least
                yield (
                    f"{run.preset}, {run.rows} rows", kind, f"{operations(plan)[0] / 1e12:.2f} T", *times,
                    found.limited_by, f"{share:.0%}", f"{heard:,.0f}",
                )  # fmt: skip

    head = (
        "run", "chips", "operations", "operations, ms", "memory, ms", "links, ms", "limited by", "of the peak at most",
        "seconds of audio a second and chip",
    )  # fmt: skip
    return table(head, rows())


def weak_table() -> str:
    """The same rows on every chip, however many there are."""

    def rows() -> Iterator[Sequence[object]]:
        for run in ARCHITECTURES.values():
            for kind in CHIPS:
                cells = []
                for chips in CHIP_COUNTS:
                    found = bound(run, kind, chips, run.rows)
                    if found is None:
                        break
                    sent = found.seconds["links"] + found.seconds.get("network", 0.0)
                    alone = max(found.seconds["operations"], found.seconds["memory"])
                    cells.append(f"{sent * 1e3:.1f} ms, {alone / (alone + sent):.1%}")
                if cells:
                    yield (run.preset, kind, *cells)

    return table(("run", "chips", *(f"{chips:,}" for chips in CHIP_COUNTS)), rows())


def strong_table() -> str:
    """Hours and chip-hours of the recipes' runs."""

    def rows() -> Iterator[Sequence[object]]:
        for run in RUNS:
            for kind in CHIPS:
                cells = []
                for chips in CHIP_COUNTS:
                    one = update(run, kind, chips)
                    if one is None:
                        cells.append("")
                        continue
                    hours = one.seconds * run.recipe.schedule.steps / 3600
                    cells.append(f"{number(hours)} h, {number(hours * chips)} ({one.micro_batches} x {one.rows})")
                if any(cells):
                    yield (run.preset, kind, *cells)

    return table(("run", "chips", *(f"{chips:,}" for chips in CHIP_COUNTS)), rows())


TABLES = {
    "compiled": compiled_table, "law": law_table, "memory": memory_table, "bound": bound_table, "weak": weak_table,
    "strong": strong_table,
}  # fmt: skip


def with_tables(text: str) -> str:
    """A document with every table between its comments made anew."""
    for name, make in TABLES.items():
        before, mark, rest = text.partition(f"<!-- table {name} -->\n")
        _, end, after = rest.partition("\n<!-- end -->")
        text = before + mark + make() + end + after
    return text


@cache
def seconds_of(preset: str) -> float:
    """The longest crop of a preset."""
    return PretrainingRecipe.read(preset).data.longest_seconds


def gib(size: float | None) -> str:
    """Bytes as GiB."""
    return "" if size is None else f"{size / GIB:.2f}"


def megabytes(size: float) -> str:
    """Bytes as megabytes."""
    return f"{size / 1e6:.3g} MB" if size else ""


def number(value: float) -> str:
    """Two digits, and all before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def main() -> None:
    """Compile, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="steps to compile; all where there are none")
    parser.add_argument("--tables", action="store_true", help="compile nothing")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(plans()))
    if unknown:
        parser.error(f"there is no step {unknown[0]}: use {', '.join(plans())}")
    if not options.tables:
        compile_steps(options.names or list(plans()))
    write_text(DOCUMENT, with_tables(DOCUMENT.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
