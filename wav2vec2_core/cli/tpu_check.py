"""``wav2vec2 tpu-check``: compile a pretraining step for TPUs without having one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer


def tpu_check(
    preset: Annotated[
        str,
        typer.Option(
            help="base-librispeech, large-librispeech, large-librivox, xls-r-300m, xls-r-1b, tiny; or a .toml file."
        ),
    ],
    topology: Annotated[str, typer.Option(help="Kind and shape of a slice: v5e:16x16, v5p:4x4x4, v6e:2x4 ...")],
    slices: Annotated[int, typer.Option(min=1, help="Slices of this topology.")] = 1,
    rows: Annotated[int, typer.Option(min=1, help="Rows of a micro-batch for each chip.")] = 8,
    seconds: Annotated[float | None, typer.Option(help="Of a row; the preset's longest crop where not given.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Of the recipe: flax.fsdp=8, flax.remat=full ..."),
    ] = None,
    largest: Annotated[
        bool, typer.Option("--largest", help="Find the most rows that fit; compiles a few times.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Compile with little optimisation: no figures to publish.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compile a pretraining step for TPUs that are not here: its memory, traffic between chips, and time at best.

    The exit code is 1 if the step does not fit. Needs the extras flax and tpu (700 MB); compiling takes minutes.
    """
    from rich.console import Console

    from wav2vec2_core.backend import load_backend
    from wav2vec2_core.cli.console import stoppable
    from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe

    recipe = PretrainingRecipe.read(preset).changed(settings or [])
    check = load_backend("flax").tpu_check
    given, config = recipe.flax, recipe.config()
    plan = check.Plan(
        config, "ForPreTraining", topology, rows, round((seconds or recipe.data.longest_seconds) * 16_000),
        slices=slices, fsdp=given.fsdp, dtype=recipe.compute.dtype, remat=given.remat, scan_layers=given.scan_layers,
        quick=quick,
    )  # fmt: skip
    with stoppable(), Console(stderr=True).status(f"compiling for {topology}"):  # nothing where it is no terminal
        plan, verdict = check.checked_apart(plan, largest=largest)
    if as_json:
        print(json.dumps({"rows": plan.rows, "samples": plan.samples, **verdict.to_dict()}))
    else:
        for line in _lines(plan, verdict, recipe.data.batch_seconds, recipe.schedule.steps):
            print(line)
    if not verdict.fits:
        raise typer.Exit(1)


def _lines(plan: Any, verdict: Any, batch_seconds: float, steps: int) -> Iterator[str]:
    """A verdict for people."""
    seconds = plan.samples / 16_000
    yield (
        f"{verdict.chips} chips of {plan.topology}{f' x {plan.slices} slices' if plan.slices > 1 else ''}: "
        f"{verdict.data} copies of the model, each on {plan.fsdp}; {plan.rows} rows of {seconds:.1f} s on a chip"
    )
    for name, part in verdict.memory.items():
        yield f"  {name:<13} {_amount(part):>12}"
    yield f"  {'together':<13} {_amount(verdict.total):>12} of {_amount(verdict.limit)}"
    if verdict.peak is not None:
        yield f"  in use at once, as the compiler says: {_amount(verdict.peak)}"
    if verdict.refusal:
        yield f"it does not fit: {verdict.refusal}"
        return
    yield "it fits" if verdict.fits else "it does not fit: its parts together are more than there is"
    yield f"{verdict.operations / 1e12:.3g} T operations, and {verdict.recomputed / 1e12:.3g} T computed again"
    for kind, (times, sent) in verdict.sent.items():
        yield f"  {kind:<20} {times:5d} times, {_amount(sent):>12} sent by a chip"
    for name, needed in verdict.seconds.items():
        yield f"  {name:<20} {needed * 1e3:9.1f} ms at least"
    audio = verdict.chips * plan.rows * seconds
    micro = max(batch_seconds / audio, 1.0)
    hours = steps * micro * verdict.step_seconds / 3600
    yield (
        f"a micro-batch: {audio / 3600:.3g} hours of audio in {verdict.step_seconds * 1e3:.1f} ms or more, limited by "
        f"{verdict.limited_by}; {steps} updates of {batch_seconds / 3600:.3g} hours of audio: {hours:.3g} hours, "
        f"{hours * verdict.chips:.3g} chip-hours at best"
    )


def _amount(size: float) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**29 else f"{size / 2**20:.2f} MiB"
