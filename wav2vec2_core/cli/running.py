"""What every command that trains does, whatever it trains: read the data, then try or run; one process speaks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from wav2vec2_core.cli.run_options import CommonOptions
    from wav2vec2_core.training.loop import Event
    from wav2vec2_core.training.run_folder import RunFolder


def carry_out(
    options: CommonOptions,
    make: Callable[[Callable[[int], None] | None], Any],
    *,
    attempt: Callable[[Any], None],
    describe: Callable[[Any], None],
    watching: Callable[[Any], AbstractContextManager[Callable[[Event], None]]],
    finish: Callable[[Any, RunFolder], None],
) -> None:
    """Train, or only try; of several processes the first one speaks.

    Args:
        options: of the command.
        make: a ``FineTuning`` or ``Pretraining``; is given what is told how many more rows have been read.
        attempt: for ``--dry-run``: says what would be done and what an update finds.
        describe: says what is about to happen.
        watching: shows the events of a run.
        finish: says what has come of it, in the first process.

    Raises:
        InputError: there is no place for the result. Others: those of ``make`` and of the run.
    """
    from wav2vec2_core.cli.console import stoppable
    from wav2vec2_core.cli.progress import row_progress
    from wav2vec2_core.errors import InputError
    from wav2vec2_core.training.processes import join_processes
    from wav2vec2_core.training.run_folder import RunFolder

    output = options.output
    if output is None and not options.dry_run:
        raise InputError("there is no --output: name a folder for checkpoints and the result, or use --dry-run")
    first = join_processes(options.backend)[0] == 0
    if first and output is not None and not (options.resume or options.dry_run):
        RunFolder.check_is_new(output)  # before all data are read
    with nullcontext() if first else _silence(), stoppable("the same command with --resume goes on"):
        with row_progress("reading the data") as progress:
            run = make(progress)
        if output is None or options.dry_run:
            attempt(run)
            return
        describe(run)
        trainer = run.open_trainer()  # before anything is written
        open_folder = RunFolder.resume if options.resume else RunFolder.start
        folder = open_folder(output, run.configuration()) if first else RunFolder(output)
        with watching(run) as show:
            for event in run.run(folder, trainer):
                show(event)
        if run.stopped:
            raise typer.Exit(128 + signal.SIGTERM)
        if first:
            finish(run, folder)


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing on stdout and stderr; errors come through."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield
