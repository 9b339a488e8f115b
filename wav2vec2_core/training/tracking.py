"""Curves of a run: event files for TensorBoard in ``DIR/logs``, and a picture of them, ``DIR/curves.png``.

Both are made of what ``train.jsonl`` records; a resumed run begins with the records that it keeps, so every step is
there once. Whatever goes wrong here is one note: training goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wav2vec2_core.files import atomic_path, make_folder, reporting_writes
from wav2vec2_core.training.loop import Evaluated, Event, Loop, Note, Update
from wav2vec2_core.training.processes import is_first, wait_for_all
from wav2vec2_core.training.run_folder import RunFolder
from wav2vec2_core.training.tasks.task import score_name

LOGS, CURVES = "logs", "curves.png"
_DRAWING = 0.02  # of the time of a run, at most, goes into drawing
_SMOOTHING = 50  # the mean loss is drawn over a share of 1 / 50 of the updates

#: What every record of an update holds, or may hold.
_ALWAYS = {"step", "epoch", "loss", "learning_rate", "gradient_norm", "seconds", "refused"}

Record = Mapping[str, Any]


def run_to_the_end(loop: Loop, folder: RunFolder, save: Callable[[Path], Sequence[str]]) -> Generator[Event]:
    """Make the updates of a loop that are left; then the first process writes its best model, or the newest where there
    are no scores, into ``folder.model``, and all leave each other.

    ``save`` writes what belongs to the model into the same folder, and returns notes. A loop that SIGTERM has stopped
    writes no model.
    """
    trainer, first = loop.trainer, is_first(loop.trainer)
    yield from tracked(loop.events(), folder) if first else loop.events()
    if not loop.stopped:
        loop.load_best()
        trainer.save_pretrained(folder.model)
        if first:
            yield from map(Note, save(folder.model))
    wait_for_all(trainer)
    trainer.close()


def tracked(events: Generator[Event], folder: RunFolder) -> Generator[Event]:
    """The events, which TensorBoard's files and the picture follow; notes say where they cannot.

    Args:
        events: of ``Loop.events``: what is not a note has been recorded in the folder when it comes.
        folder: of the run.
    """
    tracks, note = _tracks(folder.path)
    if note:
        yield Note(note)
    begun = False
    with closing(events):
        try:
            for event in events:
                yield event
                if not isinstance(event, Note):
                    new = _just(event) if begun else folder.records
                    begun = True
                    yield from map(Note, _each(tracks, lambda track, new=new: track.add(new())))
        finally:
            notes = _each(tracks, lambda track: track.finish())
        yield from map(Note, notes)


def _just(event: Update | Evaluated) -> Callable[[], Sequence[Record]]:
    return lambda: [event.to_dict()]


class _Track(Protocol):
    """Something that follows a run. name: for messages."""

    name: str

    def add(self, records: Sequence[Record]) -> None:
        """Take what is new; the first time that is all that was recorded so far."""
        ...

    def finish(self) -> None:
        """The run has ended, or was stopped."""
        ...


def _tracks(folder: Path) -> tuple[list[_Track], str]:
    """What can follow a run here, and a note on what cannot, because a package is missing."""
    tracks: list[_Track] = []
    packages: list[str] = []
    files: list[str] = []
    for kind, package, file in (
        (_EventFile, "tensorboard", f"{LOGS} for TensorBoard"),
        (_Picture, "matplotlib", CURVES),
    ):
        try:
            tracks.append(kind(folder))
        except ImportError:
            packages.append(package)
            files.append(file)
    if not packages:
        return tracks, ""
    are = "are" if len(packages) > 1 else "is"
    remedy = 'pip install "wav2vec2-frameworks[train]"; train.jsonl has the same numbers'
    return tracks, f"no {' and no '.join(files)}: {' and '.join(packages)} {are} not installed: {remedy}"


def _each(tracks: list[_Track], do: Callable[[_Track], None]) -> list[str]:
    """Do something with each; one that fails is dropped, with a note."""
    notes: list[str] = []
    for track in list(tracks):
        try:
            do(track)
        except Exception as error:  # a picture must not end a run of days
            tracks.remove(track)
            with suppress(Exception):
                track.finish()
            reason = str(error).partition("\n")[0] or type(error).__name__
            notes.append(f"{track.name} ends here ({reason[:300]}); training goes on")
    return notes


class _EventFile:
    """TensorBoard's file of a run; each start writes a new one, with all records, in place of the others."""

    name, package = f"{LOGS} for TensorBoard", "tensorboard"

    def __init__(self, folder: Path) -> None:
        """Raises ``ImportError``."""
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary, self._writer = event_pb2, summary_pb2, RecordWriter
        self._folder = folder / LOGS
        self._file: Any = None

    def add(self, records: Sequence[Record]) -> None:
        """Write an event for each record. Raises ``OutputError``."""
        with reporting_writes(self._folder):
            if self._file is None:
                self._file = self._new_file()
            for record in records:
                self._write(step=record["step"], summary=self._summary.Summary(value=self._values(record)))
            self._file.flush()

    def finish(self) -> None:
        """Close the file. Raises ``OutputError``."""
        if self._file is not None:
            with reporting_writes(self._folder):
                self._file.close()

    def _new_file(self) -> Any:
        make_folder(self._folder)
        for path in self._folder.glob("events.out.tfevents.*"):
            path.unlink()
        self._file = self._writer((self._folder / f"events.out.tfevents.{time.time_ns()}").open("wb"))
        self._write(file_version="brain.Event:2")
        # A TensorBoard that watches this folder forgets what it has read.
        self._write(step=0, session_log=self._event.SessionLog(status=self._event.SessionLog.START))
        return self._file

    def _write(self, **what: Any) -> None:
        self._file.write(self._event.Event(wall_time=time.time(), **what).SerializeToString())

    def _values(self, record: Record) -> list[Any]:
        if "scores" in record:
            numbers = {f"eval/{name}": value for name, value in record["scores"].items()}
        else:
            numbers = {f"train/{name}": record[name] for name in record if name not in ("step", "refused")}
        value = self._summary.Summary.Value
        return [value(tag=tag, simple_value=number) for tag, number in numbers.items() if number is not None]


class _Picture:
    """Loss, learning rate and scores over the updates."""

    name, package = CURVES, "matplotlib"

    def __init__(self, folder: Path) -> None:
        """Raises ``ImportError``."""
        import matplotlib.figure
        import matplotlib.ticker

        self._figure, self._percent = matplotlib.figure.Figure, matplotlib.ticker.PercentFormatter
        self._path = folder / CURVES
        self._updates: list[tuple[int, float, float]] = []  # step, loss, learning rate
        self._scores: list[tuple[int, Mapping[str, float]]] = []
        self._measures: dict[str, list[tuple[int, float]]] = {}  # of runs that measure more, by name
        self._next = 0.0  # when it may be drawn again
        self._is_new = False

    def add(self, records: Sequence[Record]) -> None:
        """Draw after an evaluation, if there are any, unless that was done a moment ago. Raises ``OutputError``."""
        for record in records:
            if "scores" in record:
                self._scores.append((record["step"], record["scores"]))
            else:
                loss = np.nan if record["loss"] is None else record["loss"]
                self._updates.append((record["step"], loss, record["learning_rate"]))
                for name in record.keys() - _ALWAYS:
                    self._measures.setdefault(name, []).append((record["step"], record[name]))
        self._is_new = True
        start = time.monotonic()
        if start >= self._next and ("scores" in records[-1] or not self._scores):
            self._draw()
            self._next = time.monotonic() + (time.monotonic() - start) / _DRAWING

    def finish(self) -> None:
        """Draw what is new. Raises ``OutputError``."""
        if self._is_new:
            self._draw()

    def _draw(self) -> None:
        heights = {"training loss": 3, "learning rate": 1, **({"scores": 3} if self._scores else {})}
        heights |= dict.fromkeys(sorted(self._measures), 1)
        figure = self._figure(figsize=(8, 1 + sum(heights.values())), layout="constrained")
        panels = figure.subplots(len(heights), sharex=True, height_ratios=list(heights.values()))
        for axes, label in zip(panels, heights, strict=True):
            axes.set_ylabel(label.replace("_", "\n"))
            axes.grid(alpha=0.3)
        panels[-1].set_xlabel("updates")
        if self._updates:
            steps, losses, rates = np.array(self._updates).T
            self._draw_losses(panels[0], steps, losses)
            panels[1].plot(steps, rates, color="C2")
            panels[1].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        if self._scores:
            self._draw_scores(panels[2])
        for axes, label in zip(panels, heights, strict=True):
            if label in self._measures:
                axes.plot(*np.array(self._measures[label]).T, color="C0")
        with atomic_path(self._path) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
        self._is_new = False

    def _draw_losses(self, axes: Any, steps: np.ndarray, losses: np.ndarray) -> None:
        axes.plot(steps, losses, color="0.75", linewidth=0.8, label="loss of an update")
        width = max(1, len(losses) // _SMOOTHING)
        axes.plot(*_means(steps, losses, width), color="C0", label=f"mean of the last {width}")
        positive = losses[losses > 0]
        if len(positive) and positive.max() > 20 * positive.min():
            axes.set_yscale("log")
        axes.legend()

    def _draw_scores(self, axes: Any) -> None:
        for name in self._scores[0][1]:
            points = [(step, scores[name]) for step, scores in self._scores if name in scores]
            axes.plot(*np.array(points).T, marker="o", markersize=4, label=score_name(name))
        axes.yaxis.set_major_formatter(self._percent(xmax=1))
        axes.legend()


def _means(steps: np.ndarray, losses: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of ``width`` losses each, at the last one's step, without those that are not finite."""
    finite = np.isfinite(losses)
    steps, losses = steps[finite], losses[finite]
    if len(losses) < width:
        return steps[:0], losses[:0]
    sums = np.cumsum(np.concatenate([[0.0], losses]))
    return steps[width - 1 :], (sums[width:] - sums[:-width]) / width
