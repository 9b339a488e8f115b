"""The result of a check, with the first wrong stage, and the comparison of stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from conformance.tolerances import relative_error
from conformance.xfails import XFAILS

PASS, FAIL, XFAIL = "pass", "FAIL", "xfail"
INFINITE = float("inf")


@dataclass(frozen=True)
class StageError:
    """One compared array. ``note`` says what kept it from being compared, where something did."""

    name: str
    error: float
    limit: float
    note: str = ""

    @property
    def wrong(self) -> bool:
        """Whether the error is above the limit or not a number."""
        return not (np.isfinite(self.error) and self.error <= self.limit)


@dataclass(frozen=True)
class Result:
    """One check of one case on one back end.

    backend: back end, or two joined by ``-``.
    stages: every array that was compared, in the order of the computation.
    note: why it failed, where that is no difference of numbers; the reason of an expected failure.
    seconds: it took.
    """

    backend: str
    check: str
    case: str
    stages: tuple[StageError, ...]
    note: str = ""
    seconds: float = field(default=0.0, compare=False)

    @property
    def id(self) -> str:
        """What ``xfails.py`` calls it."""
        return f"{self.backend}/{self.check}/{self.case}"

    @property
    def telling(self) -> StageError:
        """The first wrong stage or, where all are right, the one nearest to its limit."""
        wrong = next((stage for stage in self.stages if stage.wrong), None)
        nothing = StageError("-", INFINITE, 0.0, "nothing was compared")
        return wrong or max(self.stages, key=lambda stage: stage.error / (stage.limit or 1.0), default=nothing)

    @property
    def verdict(self) -> str:
        """``PASS``, ``FAIL`` or ``XFAIL``. Nothing compared is a failure, as is an expected failure that passes."""
        failed = bool(self.note) or not self.stages or any(stage.wrong for stage in self.stages)
        if self.id in XFAILS:
            return XFAIL if failed else FAIL
        return FAIL if failed else PASS

    @property
    def explanation(self) -> str:
        """Additional information for the reader."""
        if self.id in XFAILS:
            return XFAILS[self.id] if self.verdict == XFAIL else "expected to fail and passes: remove it from xfails.py"
        return self.note or self.telling.note

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what is infinite is null: the error of what is missing, the limit of what has none."""
        telling = self.telling
        stages = [
            {**asdict(stage), "error": _finite(stage.error), "limit": _finite(stage.limit)} for stage in self.stages
        ]
        return {
            "id": self.id, "backend": self.backend, "check": self.check, "case": self.case, "stage": telling.name,
            "error": _finite(telling.error), "tolerance": _finite(telling.limit), "verdict": self.verdict,
            "note": self.explanation, "seconds": round(self.seconds, 3), "stages": stages,
        }  # fmt: skip


def _finite(error: float) -> float | None:
    return error if np.isfinite(error) else None


def compare(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], limits: Mapping[str, float] | float
) -> tuple[StageError, ...]:
    """Every expected array against the one found under its name, in the order expected.

    ``limits``: one for all, or by name. A missing array and one of another shape have infinite error.
    """
    compared = []
    for name, array in expected.items():
        limit = limits[name] if isinstance(limits, Mapping) else limits
        if name not in found:
            compared.append(StageError(name, INFINITE, limit, "missing"))
            continue
        try:
            compared.append(StageError(name, relative_error(np.asarray(found[name]), array), limit))
        except ValueError as error:
            compared.append(StageError(name, INFINITE, limit, str(error)))
    return tuple(compared)


def equal(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> tuple[StageError, ...]:
    """Like ``compare``, but bit for bit and including names: an unexpected array is wrong. Errors count values."""
    compared = []
    for name in {**expected, **found}:
        if name not in found or name not in expected:
            compared.append(StageError(name, INFINITE, 0.0, "missing" if name in expected else "unexpected"))
            continue
        ours, theirs = found[name], expected[name]
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            note = f"{ours.dtype} {ours.shape} instead of {theirs.dtype} {theirs.shape}"
            compared.append(StageError(name, INFINITE, 0.0, note))
            continue
        compared.append(StageError(name, float(np.count_nonzero(ours != theirs)), 0.0))
    return tuple(compared)


def describe(error: Exception) -> str:
    """The first line of an exception, with its type."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
