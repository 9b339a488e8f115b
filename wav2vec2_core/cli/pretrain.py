"""``wav2vec2 pretrain``: train a model on recordings alone."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wav2vec2_core.cli.run_options import PretrainOptions, with_options
from wav2vec2_core.cli.run_progress import Speed, say, say_findings
from wav2vec2_core.cli.running import carry_out

if TYPE_CHECKING:
    from wav2vec2_core.training.loop import Event, Update
    from wav2vec2_core.training.pretraining import Pretraining
    from wav2vec2_core.training.run_folder import RunFolder

_BETWEEN = 10.0  # seconds between lines of updates


def _train(_: None, options: PretrainOptions) -> None:
    """Train, or only try. Raises the errors of ``Pretraining``."""
    from wav2vec2_core.training.pretraining import Pretraining

    recipe = options.recipe()

    def make(progress: Callable[[int], None] | None) -> Pretraining:
        return Pretraining(
            options.train, recipe, model=options.model, backend=options.backend, device=options.device,
            local_files_only=options.offline, progress=progress,
        )  # fmt: skip

    carry_out(options, make, attempt=_try, describe=_describe, watching=_watching, finish=_finish)


@with_options(PretrainOptions, _train)
def pretrain() -> None:
    """Pretrain a model on recordings without texts, for fine-tuning.

    The result, DIR/model, is the model after the last update. Signs of a codebook that collapses are named with what
    helps, and a collapse that lasts ends the run.
    """


def _try(run: Pretraining) -> None:
    """What would be done, and an update."""
    print(run.recipe.to_toml())
    _describe(run)
    update = run.try_one_step()
    print(f"one update: {_measured(update)}, {update.seconds:.1f} s")


def _finish(run: Pretraining, folder: RunFolder) -> None:
    """The result and what comes next, on stdout."""
    from wav2vec2_core.cli.console import printable

    model = shlex.quote(str(folder.model))
    print(printable(f"model: {folder.model}"))
    print(printable(f"  wav2vec2 finetune ctc --model {model} --vocabulary text --train DATA --eval DATA --preset 10h"))


def _describe(run: Pretraining) -> None:
    """What is about to happen, on stderr."""
    from wav2vec2_core.cli.console import spoken
    from wav2vec2_core.parameters import parameter_table
    from wav2vec2_core.training.pretraining_start import HEAD

    checked, effective, recipe = run.data, run.effective_batch(), run.recipe
    say_findings(run.manifest, checked)
    for note in run.notes:
        say(note)
    parameters = sum(row.size for row in parameter_table(run.config, HEAD).values())
    start = "a fresh model" if run.model_name is None else f"going on from {run.model_name}, a model"
    say(f"{start} of {parameters / 1e6:.1f} million parameters; {len(checked.rows)} utterances, "
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


@contextmanager
def _watching(run: Pretraining) -> Iterator[Callable[[Event], None]]:
    """A line for the first update, the last one, and one every few seconds, with the speed since the one before."""
    from wav2vec2_core.training.loop import Note, Update

    speed, begun = Speed(), False

    def show(event: Event) -> None:
        nonlocal begun
        if isinstance(event, Note):
            say(f"note: {event.text}")
        elif isinstance(event, Update):
            speed.add(event)
            if not begun or speed.passed >= _BETWEEN or event.step == run.recipe.schedule.steps:
                say(f"step {event.step}: {_measured(event)}{speed.take()}")
                begun = True

    yield show
