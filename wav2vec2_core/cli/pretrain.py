"""``wav2vec2 pretrain``: train a fresh model on recordings alone."""

from __future__ import annotations

import shlex
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2_core.cli.options import BackendName, DeviceName
from wav2vec2_core.cli.run_progress import say, say_findings

if TYPE_CHECKING:
    from wav2vec2_core.training.loop import Event, Update
    from wav2vec2_core.training.pretraining import Pretraining
    from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe

_BETWEEN = 10.0  # seconds between lines of updates


def pretrain(
    train: Annotated[
        str,
        typer.Option(metavar="DATA", help="Recordings: a manifest, a folder, or tar shards; texts are not needed."),
    ],
    preset: Annotated[
        str,
        typer.Option(
            help="tiny, base-librispeech, large-librispeech, large-librivox, xls-r-300m, xls-r-1b; or a .toml file."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="A new folder for checkpoints and the result.")
    ] = None,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    steps: Annotated[int | None, typer.Option(help="Updates; the shares of the schedule stay.")] = None,
    batch_hours: Annotated[float | None, typer.Option(help="Hours of audio in an update.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest rate of the schedule.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the first values, the order, the masks and dropout.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Anything else in the recipe.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in DIR from its newest sound checkpoint, if any.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the recipe, check the data, make one update; write nothing.")
    ] = False,
) -> None:
    """Pretrain a model on recordings without texts, for fine-tuning.

    The result, DIR/model, is the model after the last update. Signs of a codebook that collapses are named with what
    helps, and a collapse that lasts ends the run.
    """
    from wav2vec2_core.cli.console import printable, stoppable
    from wav2vec2_core.cli.progress import row_progress
    from wav2vec2_core.errors import InputError
    from wav2vec2_core.training.pretraining import Pretraining
    from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe
    from wav2vec2_core.training.processes import join_processes
    from wav2vec2_core.training.run_folder import RunFolder

    named = {
        "schedule.steps": steps,
        "data.batch_seconds": None if batch_hours is None else 3600 * batch_hours,
        "schedule.learning_rate": learning_rate,
        "seed": seed,
    }
    changes = [f"{name}={value}" for name, value in named.items() if value is not None]
    recipe = PretrainingRecipe.read(preset).changed([*changes, *(settings or [])])
    if output is None and not dry_run:
        raise InputError("there is no --output: name a folder for checkpoints and the result, or use --dry-run")
    first = join_processes(backend)[0] == 0
    if first and output is not None and not (resume or dry_run):
        RunFolder.check_is_new(output)  # before all data are read
    if dry_run and first:
        print(recipe.to_toml())
    with stoppable("the same command with --resume goes on"):
        with row_progress("reading the data") if first else nullcontext() as progress:
            run = Pretraining(train, recipe, backend=backend, device=device, progress=progress)
        if first:
            _describe(run, recipe)
        if output is None or dry_run:
            update = run.try_one_step()
            if first:
                print(f"one update: {_measured(update)}, {update.seconds:.1f} s")
            return
        make = RunFolder.resume if resume else RunFolder.start
        folder = make(output, run.configuration()) if first else RunFolder(output)
        lines = _Lines(recipe.schedule.steps)
        for event in run.run(folder):
            if first:
                lines.show(event)
        if run.stopped:
            raise typer.Exit(128 + signal.SIGTERM)
    if first:
        model = shlex.quote(str(folder.model))
        print(printable(f"model: {folder.model}"))
        print(
            printable(
                f"  wav2vec2 finetune ctc --model {model} --vocabulary text --train DATA --eval DATA --preset 10h"
            )
        )


def _describe(run: Pretraining, recipe: PretrainingRecipe) -> None:
    """What is about to happen, on stderr."""
    from wav2vec2_core.cli.console import spoken
    from wav2vec2_core.parameters import parameter_table
    from wav2vec2_core.training.pretraining import HEAD

    checked, effective = run.data, run.effective_batch()
    say_findings(run.manifest, checked)
    parameters = sum(row.size for row in parameter_table(run.config, HEAD).values())
    say(f"a fresh model of {parameters / 1e6:.1f} million parameters; {len(checked.rows)} utterances, "
        f"{spoken(checked.seconds)}")  # fmt: skip
    say(
        f"an update: {effective:.1f} seconds of audio on average (batch_seconds {recipe.data.batch_seconds:g}); "
        f"{recipe.schedule.steps} updates are {recipe.schedule.steps * effective / run.loader.seconds:.1f} epochs"
    )


def _measured(update: Update) -> str:
    """What an update measured, in a line."""
    loss = "not finite" if update.loss is None else f"{update.loss:.4f}"
    norm = "not finite" if update.gradient_norm is None else f"{update.gradient_norm:.3g}"
    measures = update.measures
    if not measures:
        return f"loss {loss}, gradient norm {norm}"
    soft, hard = (
        "+".join(f"{value:.1f}" for name, value in measures.items() if name.startswith(f"{kind}_perplexity"))
        for kind in ("soft", "hard")
    )
    return (
        f"loss {loss}, contrastive {measures['contrastive_loss']:.4f}, accuracy {measures['contrastive_accuracy']:.2%} "
        f"(chance {measures['chance_accuracy']:.2%}), perplexity soft {soft} hard {hard}, "
        f"penalty {measures['feature_penalty']:.4g}, gradient norm {norm}, masked {measures['masked_share']:.1%}"
    )


class _Lines:
    """A line for the first update, the last one, and one every few seconds, with the speed since the one before."""

    def __init__(self, steps: int) -> None:
        self.steps, self._since, self._seconds = steps, time.monotonic(), 0.0
        self._begun = False

    def show(self, event: Event) -> None:
        """Take one event."""
        from wav2vec2_core.training.loop import Note, Update

        if isinstance(event, Note):
            say(f"note: {event.text}")
        elif isinstance(event, Update):
            self._seconds += event.seconds
            passed = time.monotonic() - self._since
            if self._begun and passed < _BETWEEN and event.step < self.steps:
                return
            speed = f", {self._seconds / 3600 / passed:.2g} hours of audio a second" if self._begun and passed else ""
            say(f"step {event.step}: {_measured(event)}{speed}")
            self._begun, self._since, self._seconds = True, time.monotonic(), 0.0
