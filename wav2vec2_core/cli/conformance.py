"""``wav2vec2 conformance``: do the back ends compute the same here, on this hardware, with this checkpoint?"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer


def conformance(
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="Back ends: torch tf flax; those installed where left out.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, gpu or tpu.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    model: Annotated[
        str | None, typer.Option(help="Check this model folder or hub id instead of built-in cases.")
    ] = None,
    audio: Annotated[list[Path] | None, typer.Option(help="Recordings for --model; noise where left out.")] = None,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Built-in cases of the size of released models.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a report to look at.")] = None,
) -> None:
    """Compare back ends with a float64 reference, stage by stage. Exit code 1 where one is wrong.

    Several values may follow an option: --backend torch tf --audio a.wav b.wav
    """
    from wav2vec2_core.backend import backend_names
    from wav2vec2_core.errors import InputError

    known = backend_names()
    backends, recordings = list(backend or ()), list(audio or ())
    for word in more or ():  # further values of --backend or --audio
        if word in known and backends:
            backends.append(word)
        elif recordings:
            recordings.append(Path(word))
        else:
            raise InputError(f"{word!r:.100} is no back end: use one or more of {', '.join(known)} after --backend")
    suite = importlib.import_module("conformance.command")  # by name: the core depends on no back end, this on all
    passed = suite.run_command(
        backends=backends,
        device=device,
        dtype=dtype,
        model=model,
        audio=recordings,
        full_size=full_size,
        json_file=json_file,
        html_file=html_file,
    )
    if not passed:
        raise typer.Exit(1)
