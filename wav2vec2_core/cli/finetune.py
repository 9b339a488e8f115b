"""``wav2vec2 finetune``: train a model on recordings with labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from wav2vec2_core.cli.options import DATA, TEXT, Case, Vocabulary
from wav2vec2_core.cli.run_options import RunOptions, with_options
from wav2vec2_core.cli.run_progress import say, say_findings, watching
from wav2vec2_core.cli.running import carry_out

if TYPE_CHECKING:
    from wav2vec2_core.training.finetuning import FineTuning
    from wav2vec2_core.training.run_folder import RunFolder
    from wav2vec2_core.training.tasks import CTC, Task

app = typer.Typer(name="finetune", help="Train a model on recordings with labels.", no_args_is_help=True)
#: Of a language model, where ``--lm`` has no number.
_ORDER = "3"
#: An update of so many times the audio of the preset, or so much less, is worth a warning.
_FAR = 4


def _train(task: Task, options: RunOptions) -> None:
    """Train, or only try. Raises the errors of ``FineTuning``."""
    from wav2vec2_core.training.finetuning import FineTuning

    recipe = options.recipe()

    def make(progress: Callable[[int], None] | None) -> FineTuning:
        return FineTuning(
            task, options.model, options.train, options.evaluation, recipe, test=options.test,
            backend=options.backend, device=options.device, local_files_only=options.offline, progress=progress,
        )  # fmt: skip

    carry_out(
        options,
        make,
        attempt=lambda run: _try(run, options.preset),
        describe=lambda run: _describe(run, options.preset),
        watching=lambda run: watching(recipe.schedule.steps),
        finish=_finish,
    )


def _try(run: FineTuning, preset: str) -> None:
    """What would be done, two updates, and what all of them would need."""
    from wav2vec2_core.training.estimates import spoken_time

    print(run.recipe.to_toml())
    _describe(run, preset)
    say(f"memory: about {run.memory()}; the framework itself comes on top")
    trial = run.try_steps()
    first, updates = trial.first, run.recipe.schedule.steps
    say(
        f"time: about {spoken_time(trial.whole_run)} for {updates} updates, evaluations not included "
        f"(the second one took {spoken_time(trial.seconds)})"
    )
    print(f"one update: loss {first.loss:.4f}, gradient norm {first.gradient_norm:.4f}, {first.seconds:.1f} s")


def _train_ctc(task: CTC, options: RunOptions) -> None:
    """As ``_train``; an adapter learns from the first update, as the head alone is of no use to it."""
    if task.adapter is not None:
        options = replace(options, settings=["schedule.frozen=0", *(options.settings or [])])
    _train(task, options)


class _OrderOrNot(TyperCommand):
    """Accepts ``--lm`` without a number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given: list[str] = []
        for argument, following in zip(args, [*args[1:], ""], strict=True):
            given += [argument] if argument != "--lm" or following.isdecimal() else [argument, _ORDER]
        return super().parse_args(ctx, given)


@app.command(cls=_OrderOrNot)
@with_options(RunOptions, _train_ctc)
def ctc(
    vocabulary: Vocabulary = None,
    case: Case = "keep",
    adapter: Annotated[
        str | None,
        typer.Option(
            metavar="LANGUAGE",
            rich_help_panel=TEXT,
            help="Train only the attention adapters and the head of a language (MMS), with a vocabulary of its own, "
            "and write adapter.LANGUAGE.safetensors too.",
        ),
    ] = None,
    lm: Annotated[
        int | None,
        typer.Option(
            metavar="[ORDER]",
            rich_help_panel=TEXT,
            help=f"Give the result an n-gram language model of the training texts, of order {_ORDER} by default.",
        ),
    ] = None,
) -> Task:
    """Fine-tune a CTC model for speech recognition.

    The convolutional feature encoder stays as it is unless schedule.train_feature_encoder is true. Rows that cannot be
    learned from are found before training starts. The result, DIR/model, is the checkpoint with the lowest word error
    rate.
    """
    from wav2vec2_core.training.tasks import CTC

    return CTC(vocabulary=vocabulary, adapter=adapter, case=case, ngrams=lm)


@app.command()
@with_options(RunOptions, _train)
def classify(
    column: Annotated[
        str, typer.Option(rich_help_panel=DATA, help="Column of the manifest that holds the class.")
    ] = "label",
) -> Task:
    """Fine-tune a model that classifies whole recordings: keyword, emotion, language ...

    The result, DIR/model, is the checkpoint with the highest accuracy.
    """
    from wav2vec2_core.training.tasks import Classification

    return Classification(column)


@app.command()
@with_options(RunOptions, _train)
def frames(
    column: Annotated[
        str,
        typer.Option(
            rich_help_panel=DATA, help="Column of the manifest that holds lists of start, end (in seconds) and class."
        ),
    ] = "segments",
    rest: Annotated[
        str | None,
        typer.Option(rich_help_panel=DATA, help="Class of the time between; without it that time is not learned from."),
    ] = None,
) -> Task:
    """Fine-tune a model that classifies every frame: speech or not, who speaks when ...

    The result, DIR/model, is the checkpoint with the highest accuracy.
    """
    from wav2vec2_core.training.tasks import FrameClassification

    return FrameClassification(column, rest)


@app.command()
@with_options(RunOptions, _train)
def xvector(
    column: Annotated[
        str, typer.Option(rich_help_panel=DATA, help="Column of the manifest that holds the speaker.")
    ] = "speaker",
) -> Task:
    """Fine-tune a model that tells speakers apart by vectors.

    Speakers of --eval may be others than those of --train. The result, DIR/model, is the checkpoint with the lowest
    equal error rate over all pairs of recordings.
    """
    from wav2vec2_core.training.tasks import SpeakerRecognition

    return SpeakerRecognition(column)


def _describe(run: FineTuning, preset: str) -> None:
    """What is about to happen, on stderr."""
    from wav2vec2_core.cli.console import spoken
    from wav2vec2_core.training.recipe import read_recipe

    for name, data in (("train", run.train), ("eval", run.evaluation)):
        say_findings(f"{name} {data.manifest}", data.checked)
    for note in run.job.notes:
        say(note)
    if run.fresh:
        say(f"note: {run.model_name} has no weights: a fresh model starts from seed {run.recipe.seed}")
    rows, seconds = len(run.train.checked.rows), run.train.checked.seconds
    say(f"train: {rows} utterances, {spoken(seconds)}; eval: {len(run.evaluation.checked.scorable)} utterances")
    effective, schedule = run.effective_batch(), run.recipe.schedule
    epochs = schedule.steps * effective / seconds
    say(
        f"an update: {effective:.1f} seconds of audio on average (batch_seconds {run.recipe.data.batch_seconds:g}); "
        f"{schedule.steps} updates are {epochs:.1f} epochs, the first {schedule.frozen_steps} of the head alone"
    )
    usual = read_recipe(preset).data.batch_seconds
    if not usual / _FAR <= effective <= usual * _FAR:
        say(
            f"warning: that is far from the {usual:g} seconds of {preset}. batch_seconds counts seconds of audio, in "
            "all micro-batches and processes together. For another batch, choose another learning rate too"
        )


def _finish(run: FineTuning, folder: RunFolder) -> None:
    """Score the result; then its scores, its folder and the command lines that people want next, on stdout."""
    from wav2vec2_core.cli.console import printable
    from wav2vec2_core.cli.progress import seconds_progress
    from wav2vec2_core.training.card import command_lines

    best = folder.best()
    if best is not None:
        say(f"the best checkpoint is that of {best.step} updates; scoring it on {run.test.manifest}")
    with seconds_progress("scoring", run.test_seconds()) as progress:
        tested = run.finish(folder, progress)
    for found in tested:
        print(printable(f"{found}"))
    utterances, failed = tested[0].utterances, tested[0].failed
    unread = f", {failed:,} could not be read" if failed else ""
    print(printable(f"on {run.test.manifest}, {utterances:,} utterances{unread}"))
    print(printable(f"model: {folder.model}"))
    for line in command_lines(run.task, str(folder.model), data=run.test.manifest, backend=run.backend.name):
        print(printable(f"  {line}"))
