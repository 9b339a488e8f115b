"""Every task of the plan, one test each: back end / check / case."""

from __future__ import annotations

import pytest

from conformance.backends import named_like
from conformance.cases import full_size_cases, tiny_cases
from conformance.conftest import backend_names
from conformance.harness import Laboratory
from conformance.plan import Task, tasks
from conformance.results import FAIL
from conformance.xfails import check_known


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The plan for the back ends asked for, made without importing them."""
    if "task" in metafunc.fixturenames:
        cases = full_size_cases() if metafunc.config.getoption("--full-size") else tiny_cases()
        planned = list(tasks(cases, named_like(backend_names(metafunc.config))))
        # One case after the other, on one worker: its numbers are computed once.
        marked = [pytest.param(task, marks=pytest.mark.xdist_group(task.case.name), id=task.id) for task in planned]
        metafunc.parametrize("task", marked)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of the frameworks, about themselves
def test_task(laboratory: Laboratory, task: Task) -> None:
    result = laboratory.run(task)
    telling = result.telling
    assert result.verdict != FAIL, (
        f"{result.id}: first wrong stage {telling.name}, error {telling.error:.2e} of {telling.limit:.0e} "
        f"{result.explanation}"
    )


def test_expected_failures_name_checks() -> None:
    planned = tasks([*tiny_cases(), *full_size_cases()], named_like(["torch", "tf", "flax"]))
    check_known({task.id for task in planned})
