"""``wav2vec2 transcribe``: recordings to text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class OutputFormat(StrEnum):
    """What a result looks like."""

    txt = "txt"
    json = "json"


def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings of up to a minute, any format.")],
    model: Annotated[
        str | None, typer.Option(help="Model folder or hub id. Without it: a small embedded model that hears digits.")
    ] = None,
    backend: Annotated[str, typer.Option(help="Framework that runs the model: torch, tf or flax.")] = "torch",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes the best one.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    language: Annotated[str | None, typer.Option(help="Language of an MMS model, such as fra.")] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Write <stem>.<format> there instead of to stdout.")
    ] = None,
    output_format: Annotated[OutputFormat, typer.Option("--output-format", "-f")] = OutputFormat.txt,
    offline: Annotated[bool, typer.Option("--offline", help="Use local files only, never the hub.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say on stderr what ran where.")] = False,
) -> None:
    """Transcribe recordings. A file that cannot be read does not stop the others; the exit code is then 1."""
    from wav2vec2_core.cli.console import print_error
    from wav2vec2_core.errors import Wav2Vec2Error
    from wav2vec2_core.files import make_folder, write_text
    from wav2vec2_core.transcription import EMBEDDED_MODEL, Transcriber

    targets = _targets(files, output_dir, output_format.value)
    if output_dir is not None:
        make_folder(output_dir)
    if model is None:
        print(
            "note: no --model given, using the embedded one: it hears English digits (zero to nine) and nothing else. "
            "For real speech: --model facebook/wav2vec2-base-960h, or --model facebook/mms-1b-all --language fra",
            file=sys.stderr,
        )
    transcriber = Transcriber(
        model or EMBEDDED_MODEL,
        backend=backend,
        device=device,
        dtype=dtype,
        language=language,
        local_files_only=offline,
    )
    failed = 0
    for path in _with_progress(files):
        try:
            result = transcriber.transcribe(path)
            target = targets.get(path)
            if target is not None:
                write_text(target, result.render(output_format.value) + "\n")
            elif output_format is OutputFormat.json:
                print(json.dumps({"file": str(path), **result.to_dict()}, ensure_ascii=False), flush=True)
            else:
                print(result.text if len(files) == 1 else f"{path}\t{result.text}", flush=True)
        except Wav2Vec2Error as error:
            failed += 1
            print_error(error)
    if verbose:
        print(f"note: {transcriber.model.summary()}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _targets(files: list[Path], output_dir: Path | None, suffix: str) -> dict[Path, Path]:
    """Where each file's result goes; empty for stdout. Two recordings never share a result."""
    from wav2vec2_core.errors import InputError

    if output_dir is None:
        return {}
    targets: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for path in files:
        target = output_dir / f"{path.stem}.{suffix}"
        other = taken.setdefault(target, path)
        if other != path:
            raise InputError(f"{other} and {path} would both be written to {target}: use two output folders")
        targets[path] = target
    return targets


def _with_progress(files: list[Path]) -> Iterable[Path]:
    """The files, with a progress bar on stderr where a person watches and there is something to wait for."""
    if len(files) < 2 or not sys.stderr.isatty() or sys.stdout.isatty():
        return files
    from rich.console import Console
    from rich.progress import track

    return track(files, description="Transcribing", console=Console(stderr=True))
