"""The suite as a command, for ``wav2vec2 conformance``: check the arguments, run, print, write reports."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from conformance.backends import (
    ABILITIES,
    PLATFORMS,
    Opened,
    open_backend,
    prepare_for_tiny_models,
    share_memory_of_a_gpu,
)
from conformance.cases import full_size_cases, tiny_cases
from conformance.harness import Laboratory
from conformance.html_report import page
from conformance.own_model import OwnModel, check_own
from conformance.plan import Task, tasks
from conformance.report import Run, environment, print_run
from conformance.results import Result
from wav2vec2_core.backend import is_installed
from wav2vec2_core.errors import BackendError, InputError, OutputError
from wav2vec2_core.files import atomic_path, write_json, write_text

DTYPES = ("float32", "bfloat16")


def run_command(
    *,
    backends: Sequence[str],
    device: str,
    dtype: str,
    model: str | None,
    audio: Sequence[Path],
    full_size: bool,
    json_file: Path | None,
    html_file: Path | None,
) -> bool:
    """Run the suite; tables go to stdout, progress to stderr. True if every check passes.

    Args:
        backends: names; all that are installed where empty. One that was named and is missing is an error.
        device: ``cpu``, ``gpu`` or ``tpu``.
        dtype: ``float32`` or ``bfloat16``.
        model: folder or hub id of a checkpoint to check instead of the suite's own models.
        audio: recordings for it; noise where empty.
        full_size: check models of released sizes instead of tiny ones.
        json_file, html_file: where reports go.

    Raises:
        InputError, BackendError, CheckpointError, AudioError, OutputError: what cannot work, before anything long.
    """
    names = _known(backends, device, dtype)
    if audio and model is None:
        raise InputError("--audio is given without --model: name the checkpoint that is to hear it")
    if full_size and model is not None:
        raise InputError("--full-size chooses the suite's own models, --model yours: give one of them")
    for path in (json_file, html_file):
        if path is not None:
            _check_writable(path)
    own = None if model is None else OwnModel.open(model)
    cases = [] if own is None else own.cases(audio)
    if own is None and not full_size and device == "cpu":
        prepare_for_tiny_models()
    opened = [open_backend(name, device) for name in names]
    shown = environment(opened, device, dtype)
    started = time.perf_counter()
    if own is not None:
        shown["model"] = f"{own.name} (Wav2Vec2{own.head})"
        steps = len(opened) * (1 + len(cases))
        results = _watched(check_own(own, cases, opened, dtype), steps, lambda result: result.id)
    else:
        chosen = list(tasks(full_size_cases() if full_size else tiny_cases(), opened, dtype))
        results = _watched(_carried_out(opened, chosen), len(chosen), lambda result: result.id)
    run = Run(results, shown, own is not None, time.perf_counter() - started)
    print_run(run)
    if json_file is not None:
        write_json(json_file, run.to_dict())
    if html_file is not None:
        write_text(html_file, page(run))
    return run.passed


def _known(backends: Sequence[str], device: str, dtype: str) -> list[str]:
    for name in backends:
        if name not in ABILITIES:
            raise InputError(f"back end {name!r} is unknown: use one or more of {', '.join(ABILITIES)}")
    share_memory_of_a_gpu()
    names = list(dict.fromkeys(backends)) or [name for name in ABILITIES if is_installed(name)]
    if not names:
        raise BackendError(f'no back end is installed: pip install "wav2vec2-frameworks[{next(iter(ABILITIES))}]"')
    for option, value, known in (("--device", device, tuple(PLATFORMS)), ("--dtype", dtype, DTYPES)):
        if value not in known:
            raise InputError(f"{option} {value!r} is unknown: use one of {', '.join(known)}")
    return names


def _check_writable(path: Path) -> None:
    """Raise ``OutputError`` now for a report that could not be written in the end."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file for the report")
    try:
        with atomic_path(path):
            raise _Writable
    except _Writable:
        pass


class _Writable(Exception):  # noqa: N818  it is good news
    """Leaves ``atomic_path`` so that nothing is written."""


def _carried_out(backends: Sequence[Opened], chosen: Iterable[Task]) -> Iterator[Result]:
    laboratory = Laboratory(backends)
    yield from (laboratory.run(task) for task in chosen)


def _watched(results: Iterator[Result], count: int, describe: Callable[[Result], str]) -> list[Result]:
    """All results, with a progress bar on stderr where a person watches."""
    with _progress(count) as advance:
        kept = []
        for result in results:
            kept.append(result)
            advance(describe(result))
    return kept


@contextmanager
def _progress(count: int) -> Iterator[Callable[[str], None]]:
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=count)
        yield lambda text: progress.update(task, advance=1, description=text)
