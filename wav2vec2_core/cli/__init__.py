"""The ``wav2vec2`` command: parse arguments, call the library, print. Results go to stdout, all else to stderr."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from wav2vec2_core.cli.align import align
from wav2vec2_core.cli.bulk import bulk
from wav2vec2_core.cli.classify import classify
from wav2vec2_core.cli.conformance import conformance
from wav2vec2_core.cli.console import print_error
from wav2vec2_core.cli.convert import convert
from wav2vec2_core.cli.data import app as data
from wav2vec2_core.cli.doctor import doctor
from wav2vec2_core.cli.embed import embed
from wav2vec2_core.cli.evaluate import evaluate
from wav2vec2_core.cli.export import export
from wav2vec2_core.cli.finetune import app as finetune
from wav2vec2_core.cli.info import info
from wav2vec2_core.cli.listen import listen
from wav2vec2_core.cli.lm import app as lm
from wav2vec2_core.cli.plot import plot
from wav2vec2_core.cli.pretrain import pretrain
from wav2vec2_core.cli.serve import serve
from wav2vec2_core.cli.streams import ResultsLost, standard_streams
from wav2vec2_core.cli.tpu_check import tpu_check
from wav2vec2_core.cli.transcribe import transcribe
from wav2vec2_core.cli.whisper_names import WhisperNames
from wav2vec2_core.errors import OutputError, Wav2Vec2Error

app = typer.Typer(
    name="wav2vec2",
    help="wav2vec 2.0 speech models: transcribe recordings, look into checkpoints, check this installation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command(cls=WhisperNames)(transcribe)
app.command()(align)
app.command()(evaluate)
app.command()(listen)
app.command()(serve)
app.command()(embed)
app.command()(bulk)
app.command()(classify)
app.command()(plot)
app.command()(info)
app.command()(doctor)
app.command()(convert)
app.command()(export)
app.command()(pretrain)
app.command()(conformance)
app.command()(tpu_check)
app.add_typer(finetune)
app.add_typer(lm)
app.add_typer(data)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"wav2vec2-frameworks {version('wav2vec2-frameworks')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: an error that the user can correct is one line on stderr and exit code 1."""
    # Before TensorFlow is imported: fewer of its own notes on stderr.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Before oneDNN computes: it keeps a program for each shape of its last 1,024 calls, and batches of speech differ in
    # length, so that fine-tuning and serving grew by hundreds of megabytes. A forward and a backward pass need fewer.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    with standard_streams():
        code = _run()
    sys.exit(code)


def _run() -> int | str | None:
    """Exit code of the command."""
    try:
        try:
            app()
        except SystemExit as end:
            sys.stdout.flush()
            return end.code
    except (Wav2Vec2Error, ResultsLost) as error:
        print_error(error)
    except OSError as error:  # an unexpected error of the system
        print_error(OutputError(f"{error}: check the path, its permissions and the free space"))
    return 1
