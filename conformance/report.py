"""The results of a run of the suite, as tables for a terminal and as JSON."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from conformance.backends import Opened
from conformance.results import FAIL, XFAIL, Result
from conformance.tolerances import TOLERANCES

#: Failures that the terminal shows one by one; the files have all.
SHOWN = 40


@dataclass(frozen=True)
class Run:
    """A finished run.

    environment: what ran where, name -> text.
    own: the user's checkpoint was checked, not the suite's cases.
    seconds: of the whole run.
    """

    results: Sequence[Result]
    environment: Mapping[str, str]
    own: bool
    seconds: float

    @property
    def failures(self) -> list[Result]:
        """What failed and was not expected to."""
        return [result for result in self.results if result.verdict == FAIL]

    @property
    def passed(self) -> bool:
        """Whether everything was as it should; a run that checked nothing has not passed."""
        return bool(self.results) and not self.failures

    @property
    def headline(self) -> str:
        """One line."""
        expected = sum(result.verdict == XFAIL for result in self.results)
        known = f", {expected} failed as expected" if expected else ""
        count = len(self.results)
        if not count:
            return "FAIL: nothing was checked"
        if self.passed:
            return f"pass: {count} checks{known} in {self.seconds:.0f} s"
        return f"FAIL: {len(self.failures)} of {count} checks{known} in {self.seconds:.0f} s"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        tolerances = [
            {"what": what, "size": size, "dtype": dtype, **dataclasses.asdict(row)}
            for (what, size, dtype), row in TOLERANCES.items()
        ]
        return {
            "passed": self.passed,
            "headline": self.headline,
            "environment": dict(self.environment),
            "seconds": round(self.seconds, 1),
            "tolerances": tolerances,
            "results": [result.to_dict() for result in self.results],
        }  # fmt: skip


def environment(backends: Iterable[Opened], device: str, dtype: str) -> dict[str, str]:
    """Versions and devices, as a report shows them."""
    found = {
        "wav2vec2-frameworks": version("wav2vec2-frameworks"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "requested": f"{device}, {dtype}; TF32 and other silent down-casts off",
    }
    if flags := os.environ.get("XLA_FLAGS"):
        found["XLA_FLAGS"] = flags
    for backend in backends:
        versions = backend.versions()
        device_name = versions.pop("device")
        found[f"back end {backend.name}"] = f"{', '.join(f'{k} {v}' for k, v in versions.items())} on {device_name}"
    return found


def grouped(results: Iterable[Result]) -> dict[tuple[str, str], list[Result]]:
    """Results by back end and check, in the order of their first appearance."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.backend, result.check), []).append(result)
    return groups


def worst(results: Sequence[Result]) -> Result:
    """The result to show for many: a failure if there is one, else the one nearest to its limit."""
    return max(results, key=lambda result: (result.verdict == FAIL, _share(result)))


def _share(result: Result) -> float:
    telling = result.telling
    return telling.error / (telling.limit or 1.0)


def verdict_of(results: Sequence[Result]) -> str:
    """The verdict of many results together."""
    verdicts = {result.verdict for result in results}
    return FAIL if FAIL in verdicts else XFAIL if verdicts == {XFAIL} else "pass"


def number(error: float) -> str:
    """An error as text."""
    return f"{error:.1e}" if np.isfinite(error) and error else "0" if error == 0 else "-"


# ---- terminal -----------------------------------------------------------------------------------------------------


def print_run(run: Run) -> None:
    """Tables on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.file.isatty():  # a file, a pipe or a notebook is as wide as its lines
        console = Console(width=160)

    def table(title: str, *columns: str) -> Any:
        made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            made.add_column(column, justify="right" if column in {"cases", "max error", "tolerance"} else "left")
        return made

    if run.own:
        stages = table("Every stage", "back end", "check", "recording", "stage", "max error", "tolerance", "verdict")
        for result in run.results:
            for stage in [result.telling] if result.check == "loading" else result.stages or [result.telling]:
                verdict = FAIL if stage.wrong else "pass"
                cells = (stage.name, number(stage.error), number(stage.limit), _coloured(verdict))
                stages.add_row(result.backend, result.check, result.case, *cells)
        console.print(stages)
    overview = table(
        "Summary",
        "back end",
        "check",
        "cases",
        "nearest to its tolerance",
        "stage",
        "max error",
        "tolerance",
        "verdict",
    )
    for (backend, check), results in grouped(run.results).items():
        shown = worst(results)
        telling = shown.telling
        cells = (shown.case, telling.name, number(telling.error), number(telling.limit), _coloured(verdict_of(results)))
        overview.add_row(backend, check, str(len(results)), *cells)
    console.print(overview)
    if run.failures:
        failed = table(
            "Failed: the first wrong stage of each", "check", "first wrong stage", "max error", "tolerance", "note"
        )
        for result in run.failures[:SHOWN]:
            telling = result.telling
            failed.add_row(result.id, telling.name, number(telling.error), number(telling.limit), result.explanation)
        console.print(failed)
        if len(run.failures) > SHOWN:
            console.print(f"and {len(run.failures) - SHOWN} more: --json or --html writes all")
    console.print(run.headline)


def _coloured(verdict: str) -> str:
    return f"[bold red]{verdict}[/]" if verdict == FAIL else f"[green]{verdict}[/]"
