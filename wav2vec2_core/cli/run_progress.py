"""What a run shows while it trains: a bar on a terminal, lines elsewhere; on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wav2vec2_core.cli.console import shown
from wav2vec2_core.cli.progress import compilations

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from wav2vec2_core.data.checking import Checked
    from wav2vec2_core.training.loop import Event, Update


@contextmanager
def watching(steps: int) -> Iterator[Callable[[Event], None]]:
    """A function that shows events of a run of so many ``steps``: a bar with loss, scores and the time left on a
    terminal, lines elsewhere.
    """
    if not sys.stderr.isatty():
        yield _Lines().show
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    eta = (TextColumn("ETA"), TimeRemainingColumn())
    with Progress(*columns, *eta, console=Console(stderr=True), redirect_stdout=False) as progress:
        bar = _Bar(progress, progress.add_task("", total=steps))
        with compilations(bar.compiling):
            yield bar.show


def say(line: str) -> None:
    """One line on stderr, at once."""
    print(shown(line), file=sys.stderr, flush=True)


def say_findings(data: str, checked: Checked) -> None:
    """What is wrong with rows of ``data``, if anything."""
    if checked.findings:
        say(f"warning: {data} has {len(checked.findings)} rows that cannot be learned from")
        for line in checked.lines():
            say(f"  {line}")


class Speed:
    """How fast updates come. passed: seconds between those since the last ``take``."""

    def __init__(self) -> None:
        self.passed = self._seconds = self._operations = 0.0
        self._peak: float | None = None
        self._last: float | None = None

    def add(self, update: Update) -> None:
        """Count the time since the one before."""
        now = time.monotonic()
        if self._last is not None:
            self.passed += now - self._last
            self._seconds += update.seconds
            self._operations += update.operations
            self._peak = update.peak
        self._last = now

    def take(self) -> str:
        """The speed since the last call, to end a line with: nothing where no two updates came."""
        passed, hours, rate = self.passed, self._seconds / 3600, self._operations
        self.passed = self._seconds = self._operations = 0.0
        if passed <= 0:
            return ""
        text = f", {hours / passed:.2g} hours of audio a second"
        if rate > 0:
            text += f", {rate / passed / 1e12:.3g} TFLOP/s"
            if self._peak is not None:
                text += f" ({rate / passed / self._peak:.1%} of the peak)"
        return text


class _Lines:
    """Evaluations and notes, a line each, with the mean loss of the updates between."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def show(self, event: Event) -> None:
        """Take one event."""
        line = self.line(event)
        if line:
            say(line)

    def line(self, event: Event) -> str:
        """What is to be said of an event, if anything."""
        from wav2vec2_core.training.loop import Note, Update

        if isinstance(event, Update):
            self.losses += [] if event.loss is None else [event.loss]
            return ""
        if isinstance(event, Note):
            return f"note: {event.text}"
        loss = f"loss {sum(self.losses) / len(self.losses):.4f}, " if self.losses else ""
        self.losses = []
        best = " (the best so far)" if event.best else ""
        return f"step {event.step}: {loss}{event.scores}{best}"


class _Bar(_Lines):
    """The same above a bar that shows the newest loss and scores."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        super().__init__()
        self._progress, self._task, self._loss, self._scores = progress, task, "", ""
        self._started = False

    def show(self, event: Event) -> None:
        """Take one event."""
        from wav2vec2_core.training.loop import Evaluated, Update

        line = self.line(event)
        if line:
            self._progress.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
        if isinstance(event, Update):
            self._loss = "" if event.loss is None else f"loss {event.loss:.3f}"
            if self._started:
                self._progress.update(self._task, completed=event.step)
            else:  # of a resumed run: the updates before took none of this time
                self._progress.reset(self._task, completed=event.step)
                self._started = True
        if isinstance(event, Evaluated):
            self._scores = f" {event.scores}"
        self._progress.update(self._task, description=self._loss + self._scores)

    def compiling(self, what: str) -> None:
        """Show what a back end compiles, until the next event."""
        self._progress.update(self._task, description=f"{self._loss}{self._scores} ({what})")
