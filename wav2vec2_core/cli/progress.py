"""A progress bar in seconds of audio, on stderr, if that is a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wav2vec2_core.cli.console import print_error, print_notes
from wav2vec2_core.errors import Wav2Vec2Error

if TYPE_CHECKING:
    from rich.progress import Progress, Task

    from wav2vec2_core.audio import Recording


class Quiet:
    """No progress bar: only results on stdout and errors on stderr."""

    def advance(self, seconds: float) -> None:
        """Count ``seconds`` of audio as done."""

    def say(self, line: str) -> None:
        """Print one line of the result."""
        print(line, flush=True)

    def note(self, notes: Iterable[str]) -> None:
        """Print notes about how a recording was read."""
        print_notes(notes)

    def complain(self, error: Wav2Vec2Error, name: tuple[str, str] | None = None) -> None:
        """Print one line about an error; see ``print_error``."""
        print_error(error, name)


class Bar(Quiet):
    """A progress bar; other output is printed above it."""

    def __init__(self, progress: Progress, advance: Callable[[float], None]) -> None:
        self._progress, self._advance = progress, advance

    def advance(self, seconds: float) -> None:
        """Count ``seconds`` of audio as done."""
        self._advance(seconds)

    def say(self, line: str) -> None:
        """Print one line of the result to stdout, through the bar if both are on one terminal."""
        if sys.stdout.isatty():
            self._progress.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            super().say(line)


@contextmanager
def audio_progress(
    title: str, recordings: Iterable[Callable[[], Recording]], *, split: bool = False
) -> Iterator[Quiet]:
    """A bar over recordings, each opened by a function; no bar if stderr is not a terminal.

    ``split``: every channel counts.
    """
    if not sys.stderr.isatty():
        yield Quiet()
        return
    with _audio_bar(title, sum(_seconds(one, split) for one in recordings)) as (progress, advance):
        yield Bar(progress, advance)


@contextmanager
def seconds_progress(title: str, total: float) -> Iterator[Callable[[float], None] | None]:
    """A bar of so many seconds of audio: yields a function to call with further ones; ``None`` if not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with _audio_bar(title, total) as (_, advance):
        yield advance


@contextmanager
def _audio_bar(title: str, total: float) -> Iterator[tuple[Progress, Callable[[float], None]]]:
    """The bar, and a function that counts further seconds. While a back end compiles, the title says so."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Audio(ProgressColumn):
        """Audio done of all, and how many times faster than it plays."""

        def render(self, task: Task) -> Text:
            done = f"{_clock(task.completed)} / {_clock(task.total or 0)}"
            return Text(f"{done}  {task.speed:.1f}x" if task.speed else done)

    columns = (TextColumn("{task.description}"), BarColumn(), Audio(), TextColumn("ETA"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False, speed_estimate_period=60) as progress:
        task = progress.add_task(title, total=total)

        def advance(seconds: float) -> None:
            progress.update(task, advance=seconds, description=title)

        with compilations(lambda what: progress.update(task, description=f"{title} ({what})")):
            yield progress, advance


@contextmanager
def compilations(show: Callable[[str], None]) -> Iterator[None]:
    """Call ``show`` with what a back end compiles meanwhile."""
    from wav2vec2_core.backend import COMPILING

    handler = logging.Handler()
    handler.emit = lambda record: show(record.getMessage())
    level = COMPILING.level
    COMPILING.addHandler(handler)
    COMPILING.setLevel(logging.INFO)
    try:
        yield
    finally:
        COMPILING.setLevel(level)
        COMPILING.removeHandler(handler)


def _seconds(open_recording: Callable[[], Recording], split: bool) -> float:
    """Duration from the header; 0 for a recording that cannot be opened, which fails later."""
    try:
        recording = open_recording()
        return recording.duration * (recording.channels if split else 1)
    except Wav2Vec2Error:
        return 0.0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


@contextmanager
def row_progress(title: str, total: int | None = None) -> Iterator[Callable[[int], None] | None]:
    """A count of rows on stderr, with a bar where their ``total`` is known: yields a function to call with the number
    of further rows; ``None`` if not a terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}"), SpinnerColumn(), TextColumn("{task.completed} rows")]
    if total is not None:
        columns += [TextColumn("of {task.total}"), BarColumn(), TextColumn("ETA"), TimeRemainingColumn()]
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)
