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
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from scaling_law import (
    ARCHITECTURES,
    FOLDER,
    RUNS,
    SMALLEST,
    Step,
    between_slices,
    bound,
    parameters,
    plans,
    record,
    seconds_of,
    source,
    summed,
    update,
    within_copy,
)

from wav2vec2_core.files import write_json, write_text
from wav2vec2_flax.hlo import BETWEEN_SLICES
from wav2vec2_flax.tpu_check import CHIPS, GIB, check_step, operations

DOCUMENT = Path(__file__).parents[1] / "SCALING.md"
CHIP_COUNTS = (4, 16, 64, 256, 1024)


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
            memory, refused = found["memory"], found["refusal"]
            parts = (gib(memory.get(part)) for part in ("parameters", "optimizer", "intermediate", "program"))
            sent = ", ".join(f"{kind} {one['bytes'] / 2**20:.0f} MiB" for kind, one in found["sent"].items())
            yield (
                name, f"{found['rows']} x {seconds_of(found['preset']):g} s", *parts,
                "" if refused else f"{found['total'] / GIB:.2f} of {found['limit'] / GIB:.2f}", gib(found["peak"]),
                "" if refused else f"{found['moved'] / 1e9:.0f} GB", refused or sent, f"{found['compiling']:.0f} s",
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
            kind = found["topology"].split(":")[0]
            alike = (one for one in map(record, plans()) if one and one["topology"].startswith(f"{kind}:"))
            one_copy = next((one for one in alike if one["preset"] == found["preset"]
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
                nearest, limit = source(name, kind), CHIPS[kind].memory
                found = nearest.found
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
                plan = Step(run.preset, f"{kind}:{SMALLEST[kind]}", run.rows).plan()
                times = (f"{found.seconds[part] * 1e3:.1f}" for part in ("operations", "memory", "links"))
                share = operations(plan)[0] / CHIPS[kind].peak / found.least
                heard = run.rows * seconds_of(run.preset) / found.least
                yield (
                    f"{run.preset}, {run.rows} rows", kind, f"{operations(plan)[0] / 1e12:.2f} T", *times,
                    found.limited_by, f"{share:.0%}", f"{heard:,.0f}", source(run.architecture, kind).note,
                )  # fmt: skip

    head = (
        "run", "chips", "operations", "operations, ms", "memory, ms", "links, ms", "limited by", "of the peak at most",
        "seconds of audio a second and chip", "from",
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
                    sent = found.seconds["links"] + found.seconds.get("network", 0.0)
                    alone = max(found.seconds["operations"], found.seconds["memory"])
                    cells.append(f"{sent * 1e3:.1f} ms, {alone / (alone + sent):.1%}")
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
