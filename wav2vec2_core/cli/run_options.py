"""Options that all commands which train have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from wav2vec2_core.cli.options import DATA, MODEL, RUN, TRAINING, BackendName, DeviceName, Offline

if TYPE_CHECKING:
    from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe
    from wav2vec2_core.training.recipe import Recipe

_DATA = (
    "Recordings with their labels: a manifest (.jsonl, .csv, .tsv), a folder, or tar shards (a path, {00..12} or *)."
)


Options = TypeVar("Options", bound="CommonOptions")


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every run on the command line has, whatever is learned in it."""

    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="A new folder for checkpoints and the result.", rich_help_panel=RUN
        ),
    ] = None
    backend: BackendName = "torch"
    device: DeviceName = "auto"
    steps: Annotated[
        int | None, typer.Option(help="Updates; the shares of the schedule stay.", rich_help_panel=TRAINING)
    ] = None
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest rate of the schedule.", rich_help_panel=TRAINING)
    ] = None
    seed: Annotated[
        int | None, typer.Option(help="Of first values, the order, the masks and dropout.", rich_help_panel=TRAINING)
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.KEY=VALUE", help="Anything else in the recipe.", rich_help_panel=TRAINING
        ),
    ] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in DIR from its newest sound checkpoint, if any.", rich_help_panel=RUN
        ),
    ] = False
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the recipe, check the data, make one update; write nothing.", rich_help_panel=RUN
        ),
    ] = False
    offline: Offline = False

    def changes(self, batch_seconds: float | None) -> list[str]:
        """What the command line changes in a recipe, as ``--set`` has it; ``batch_seconds``: of an update."""
        named = {
            "schedule.steps": self.steps,
            "data.batch_seconds": batch_seconds,
            "schedule.learning_rate": self.learning_rate,
            "seed": self.seed,
        }
        return [*(f"{name}={value}" for name, value in named.items() if value is not None), *(self.settings or [])]


@dataclass(frozen=True, kw_only=True)
class RunOptions(CommonOptions):
    """A fine-tuning run."""

    model: Annotated[
        str, typer.Option(help="Model folder or hub id; a folder without weights starts fresh.", rich_help_panel=MODEL)
    ]
    train: Annotated[str, typer.Option(metavar="DATA", help=_DATA, rich_help_panel=DATA)]
    evaluation: Annotated[
        str, typer.Option("--eval", metavar="DATA", help="The same, to measure on.", rich_help_panel=DATA)
    ]
    preset: Annotated[
        str,
        typer.Option(
            help="10min, 1h, 10h, 100h, 960h: by the size of the data; or a .toml file.", rich_help_panel=TRAINING
        ),
    ]
    test: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="The same, to score the result on at the end; that of --eval by default.",
            rich_help_panel=DATA,
        ),
    ] = None
    batch_seconds: Annotated[
        float | None, typer.Option(help="Seconds of audio in an update.", rich_help_panel=TRAINING)
    ] = None

    def recipe(self) -> Recipe:
        """The preset with what the command line changes. Raises ``InputError``."""
        from wav2vec2_core.training.recipe import read_recipe

        return read_recipe(self.preset).changed(self.changes(self.batch_seconds))


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(CommonOptions):
    """A pretraining run."""

    train: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="Recordings: a manifest, a folder, or tar shards; texts are not needed.",
            rich_help_panel=DATA,
        ),
    ]
    preset: Annotated[
        str,
        typer.Option(
            help="tiny, base-librispeech, large-librispeech, large-librivox, xls-r-300m, xls-r-1b; or a .toml file.",
            rich_help_panel=TRAINING,
        ),
    ]
    model: Annotated[
        str | None,
        typer.Option(
            help="Pretrained model to go on from, a folder or hub id; a fresh one without it.", rich_help_panel=MODEL
        ),
    ] = None
    batch_hours: Annotated[
        float | None, typer.Option(help="Hours of audio in an update.", rich_help_panel=TRAINING)
    ] = None

    def recipe(self) -> PretrainingRecipe:
        """The preset with what the command line changes. Raises ``InputError``."""
        from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe

        seconds = None if self.batch_hours is None else 3600 * self.batch_hours
        return PretrainingRecipe.read(self.preset).changed(self.changes(seconds))


def with_options(
    kind: type[Options], train: Callable[[Any, Options], None]
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """A decorator for functions that turn a command's own options into what is to be learned.

    The command has those options and all of ``kind``; it calls ``train`` with what the function returns.
    """

    def decorate(choose: Callable[..., Any]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            options = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            train(choose(**given), options)

        choose.__annotations__.pop("return", None)  # a name that is imported for type checkers alone
        its = inspect.signature(choose, eval_str=True).parameters.values()
        own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in its]
        parameters = [*_parameters(kind, required=True), *own, *_parameters(kind, required=False)]
        command.__name__, command.__doc__ = choose.__name__, choose.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def _parameters(kind: type[CommonOptions], *, required: bool) -> list[inspect.Parameter]:
    """The fields of a kind of options as parameters of a function: those that a command must be given, or the others,
    those of its own first."""
    types = get_type_hints(kind, include_extras=True)
    common = {field.name for field in fields(CommonOptions)}
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if required else field.default,
            annotation=types[field.name],
        )
        for field in sorted(fields(kind), key=lambda field: field.name in common)
        if (field.default is MISSING) == required
    ]
