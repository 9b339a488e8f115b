"""Runs tasks and collects their results. Nothing is skipped: a task that cannot run has failed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from conformance.backends import Opened, open_backend
from conformance.bench import Bench, Expected
from conformance.cases import Case
from conformance.checks import check_agreement, check_mode
from conformance.file_checks import check_files
from conformance.plan import PLAIN, Task
from conformance.results import Result, StageError, describe


class Laboratory:
    """Benches of the back ends and the reference, shared by all checks; made for tasks that come case after case."""

    def __init__(self, backends: Sequence[Opened]) -> None:
        self.backends = {backend.name: backend for backend in backends}
        self.benches = {name: Bench(backend) for name, backend in self.backends.items()}
        self._expected: Expected | None = None

    @classmethod
    def of(cls, names: Iterable[str], device: str = "cpu") -> Laboratory:
        """With these back ends. Raises what ``open_backend`` raises for one that is missing."""
        return cls([open_backend(name, device) for name in names])

    def expected(self, case: Case) -> Expected:
        """The reference for a case; the latest one's is kept."""
        if self._expected is None or self._expected.case != case:
            self._expected = Expected(case)
        return self._expected

    def run(self, task: Task) -> Result:
        """Carry out a task. An exception of a back end is a failure of the task, not of the run."""
        started = time.perf_counter()
        note, compared = "", ()
        try:
            compared = self._compared(task)
        except Exception as error:
            note = describe(error)
        seconds = time.perf_counter() - started
        return Result("-".join(task.backends), task.check, task.case.name, compared, note, seconds)

    def _compared(self, task: Task) -> tuple[StageError, ...]:
        expected = self.expected(task.case)
        if task.check == "agreement":
            one, other = (self.benches[name] for name in task.backends)
            return check_agreement(one, other, expected)
        if len(task.backends) == 2:
            saver, loader = (self.backends[name] for name in task.backends)
            return check_files(saver, loader, task.check, expected)
        check = PLAIN.get(task.check) or check_mode(task.check)
        return check(self.benches[task.backends[0]], expected)
