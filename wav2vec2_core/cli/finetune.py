"""``wav2vec2 finetune``: train a model on recordings with labels."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wav2vec2_core.cli.options import BackendName, DeviceName, Offline

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from wav2vec2_core.data.checking import Checked
    from wav2vec2_core.training.finetuning import Event, FineTuning
    from wav2vec2_core.training.recipe import Recipe
    from wav2vec2_core.training.tasks import Task

app = typer.Typer(name="finetune", help="Train a model on recordings with labels.", no_args_is_help=True)
_MANIFEST = "Recordings with their labels: .jsonl, .csv, .tsv, fairseq's .tsv."

Model = Annotated[str, typer.Option(help="Model folder or hub id to start from.")]
Train = Annotated[Path, typer.Option(metavar="MANIFEST", help=_MANIFEST)]
Evaluation = Annotated[Path, typer.Option("--eval", metavar="MANIFEST", help="The same, to measure on.")]
Preset = Annotated[str, typer.Option(help="10min, 1h, 10h, 100h, 960h: by the size of the data; or a .toml file.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="A new folder for checkpoints and the result.")
]
Steps = Annotated[int | None, typer.Option(help="Updates; the shares of the schedule stay.")]
BatchSeconds = Annotated[float | None, typer.Option(help="Seconds of audio in an update.")]
LearningRate = Annotated[float | None, typer.Option(help="The highest rate of the schedule.")]
Seed = Annotated[int | None, typer.Option(help="Of the order, the masks and dropout.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Anything else in the recipe.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in DIR from its newest sound checkpoint, if any.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the recipe, check the data, make one update; write nothing.")
]


@app.command()
def ctc(
    model: Model,
    train: Train,
    evaluation: Evaluation,
    preset: Preset,
    output: Output = None,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    steps: Steps = None,
    batch_seconds: BatchSeconds = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    settings: Settings = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    offline: Offline = False,
) -> None:
    """Fine-tune a CTC model for speech recognition.

    The convolutional feature encoder stays as it is. Rows that cannot be learned from are found before training
    starts. The result, DIR/model, is the checkpoint with the lowest word error rate.
    """
    from wav2vec2_core.training.tasks import CTC

    recipe = _recipe(preset, steps, batch_seconds, learning_rate, seed, settings)
    _run(CTC(), model, train, evaluation, recipe, output, backend, device, resume, dry_run, offline)


@app.command()
def classify(
    model: Model,
    train: Train,
    evaluation: Evaluation,
    preset: Preset,
    column: Annotated[str, typer.Option(help="Column of the manifest that holds the class.")] = "label",
    output: Output = None,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    steps: Steps = None,
    batch_seconds: BatchSeconds = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    settings: Settings = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    offline: Offline = False,
) -> None:
    """Fine-tune a model that classifies whole recordings: keyword, emotion, language ...

    The result, DIR/model, is the checkpoint with the highest accuracy.
    """
    from wav2vec2_core.training.tasks import Classification

    recipe = _recipe(preset, steps, batch_seconds, learning_rate, seed, settings)
    _run(Classification(column), model, train, evaluation, recipe, output, backend, device, resume, dry_run, offline)


@app.command()
def frames(
    model: Model,
    train: Train,
    evaluation: Evaluation,
    preset: Preset,
    column: Annotated[
        str, typer.Option(help="Column of the manifest that holds [[start, end, label], ...] in seconds.")
    ] = "segments",
    rest: Annotated[
        str | None, typer.Option(help="Class of the time between; without it that time is not learned from.")
    ] = None,
    output: Output = None,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    steps: Steps = None,
    batch_seconds: BatchSeconds = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    settings: Settings = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    offline: Offline = False,
) -> None:
    """Fine-tune a model that classifies every frame: speech or not, who speaks when ...

    The result, DIR/model, is the checkpoint with the highest accuracy.
    """
    from wav2vec2_core.training.tasks import FrameClassification

    recipe = _recipe(preset, steps, batch_seconds, learning_rate, seed, settings)
    task = FrameClassification(column, rest)
    _run(task, model, train, evaluation, recipe, output, backend, device, resume, dry_run, offline)


@app.command()
def xvector(
    model: Model,
    train: Train,
    evaluation: Evaluation,
    preset: Preset,
    column: Annotated[str, typer.Option(help="Column of the manifest that holds the speaker.")] = "speaker",
    output: Output = None,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    steps: Steps = None,
    batch_seconds: BatchSeconds = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    settings: Settings = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    offline: Offline = False,
) -> None:
    """Fine-tune a model that tells speakers apart by vectors.

    Speakers of --eval may be others than those of --train. The result, DIR/model, is the checkpoint with the lowest
    equal error rate over all pairs of recordings.
    """
    from wav2vec2_core.training.tasks import SpeakerRecognition

    recipe = _recipe(preset, steps, batch_seconds, learning_rate, seed, settings)
    task = SpeakerRecognition(column)
    _run(task, model, train, evaluation, recipe, output, backend, device, resume, dry_run, offline)


def _run(
    task: Task,
    model: str,
    train: Path,
    evaluation: Path,
    recipe: Recipe,
    output: Path | None,
    backend: str,
    device: str,
    resume: bool,
    dry_run: bool,
    offline: bool,
) -> None:
    """Train, or only try. Raises the errors of ``FineTuning``."""
    from wav2vec2_core.cli.console import printable, stoppable
    from wav2vec2_core.cli.progress import row_progress
    from wav2vec2_core.errors import InputError
    from wav2vec2_core.training.finetuning import FineTuning
    from wav2vec2_core.training.run_folder import RunFolder
    from wav2vec2_core.training.tasks import Scores

    if output is None and not dry_run:
        raise InputError("there is no --output: name a folder for checkpoints and the result, or use --dry-run")
    if dry_run:
        print(recipe.to_toml())
    with stoppable("the same command with --resume goes on"):
        with row_progress("reading the data") as progress:
            run = FineTuning(
                task, model, train, evaluation, recipe,
                backend=backend, device=device, local_files_only=offline, progress=progress,
            )  # fmt: skip
        _describe(run)
        if output is None or dry_run:
            update = run.try_one_step()
            print(
                f"one update: loss {update.loss:.4f}, gradient norm {update.gradient_norm:.4f}, {update.seconds:.1f} s"
            )
            return
        make = RunFolder.resume if resume else RunFolder.start
        folder = make(output, run.configuration())
        with _watching(recipe.schedule.steps) as show:
            for event in run.run(folder):
                show(event)
    best = folder.best()
    if best is not None and best.scores is not None:
        print(f"{Scores(best.scores, best.ranking or ())} on {evaluation} after {best.step} updates")
    for line in _next(task.name, folder.model, evaluation, backend):
        print(printable(line))


def _recipe(
    preset: str,
    steps: int | None,
    batch_seconds: float | None,
    learning_rate: float | None,
    seed: int | None,
    settings: list[str] | None,
) -> Recipe:
    """The preset with what the command line changes. Raises ``InputError``."""
    from wav2vec2_core.training.recipe import read_recipe

    named = {
        "schedule.steps": steps,
        "data.batch_seconds": batch_seconds,
        "schedule.learning_rate": learning_rate,
        "seed": seed,
    }
    return read_recipe(preset).changed(
        [*(f"{name}={value}" for name, value in named.items() if value is not None), *(settings or [])]
    )


def _describe(run: FineTuning) -> None:
    """What is about to happen, on stderr."""
    from wav2vec2_core.cli.console import spoken

    for name, data in (("train", run.train), ("eval", run.evaluation)):
        _say_findings(name, data.manifest, data.checked)
    rows, seconds = len(run.train.checked.rows), run.train.checked.seconds
    _say(f"train: {rows} utterances, {spoken(seconds)}; eval: {len(run.evaluation.checked.scorable)} utterances")
    effective, schedule = run.effective_batch(), run.recipe.schedule
    epochs = schedule.steps * effective / seconds
    _say(
        f"an update: {effective:.1f} seconds of audio on average (batch_seconds {run.recipe.data.batch_seconds:g}); "
        f"{schedule.steps} updates are {epochs:.1f} epochs, the first {schedule.frozen_steps} of the head alone"
    )


def _say_findings(name: str, manifest: str, checked: Checked) -> None:
    if checked.findings:
        _say(f"warning: {name} {manifest} has {len(checked.findings)} rows that cannot be learned from")
        for line in checked.lines():
            _say(f"  {line}")


@contextmanager
def _watching(steps: int) -> Iterator[Any]:
    """A function that shows events: a bar with loss, scores and the time left on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines().show
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    eta = (TextColumn("ETA"), TimeRemainingColumn())
    with Progress(*columns, *eta, console=Console(stderr=True), redirect_stdout=False) as progress:
        yield _Bar(progress, progress.add_task("", total=steps)).show


class _Lines:
    """Evaluations and notes, a line each, with the mean loss of the updates between."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def show(self, event: Event) -> None:
        """Take one event."""
        line = self.line(event)
        if line:
            _say(line)

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

    def show(self, event: Event) -> None:
        """Take one event."""
        from wav2vec2_core.training.loop import Evaluated, Update

        line = self.line(event)
        if line:
            self._progress.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
        if isinstance(event, Update):
            self._loss = "" if event.loss is None else f"loss {event.loss:.3f}"
            self._progress.update(self._task, completed=event.step)
        if isinstance(event, Evaluated):
            self._scores = f" {event.scores}"
        self._progress.update(self._task, description=self._loss + self._scores)


def _next(task: str, model: Path, evaluation: Path, backend: str) -> Iterator[str]:
    """The command lines that people want next."""
    folder, manifest = shlex.quote(str(model)), shlex.quote(str(evaluation))
    yield f"model: {model}"
    if task != "ctc":
        yield f"  wav2vec2 classify RECORDING --model {folder} --backend {backend}"
        return
    yield f"  wav2vec2 evaluate {manifest} --model {folder} --backend {backend}"
    yield f"  wav2vec2 transcribe RECORDING --model {folder} --backend {backend}"
    yield f"  wav2vec2 lm build TEXT --output lm.arpa && wav2vec2 lm attach {folder} lm.arpa"


def _say(line: str) -> None:
    from wav2vec2_core.cli.console import shown

    print(shown(line), file=sys.stderr, flush=True)
