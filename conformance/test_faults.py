"""The suite detects every parameter fault and code mistake, except those that cannot change a result."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from conformance.backends import named_like
from conformance.bench import Expected
from conformance.cases import find
from conformance.conftest import backend_names
from conformance.faults import Fault, catch, first_wrong_stage, invisible, parameter_faults
from conformance.harness import Laboratory
from conformance.results import equal
from wav2vec2_core.parameters import HEADS

#: Every kind of parameter is in one of these cases.
FAULTY = (
    "ForPreTraining-base-padded", "ForPreTraining-large-padded", "ForCTC-mms-padded", "ForCTC-wide-adapter-padded",
    "ForXVector-weighted-sum-padded", "ForSequenceClassification-large-padded",
    "ForAudioFrameClassification-base-padded", "Model-adapter-even",
)  # fmt: skip
#: What runs a case again and again fastest.
FAST = {"torch": "eager", "tf": "graph", "flax": "jit"}
#: The back ends that compile do so for these.
COMPILED = ("ForCTC-mms-padded",)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Faulty cases for the back ends asked for; mutations where PyTorch is one of them."""
    names = [backend.name for backend in named_like(backend_names(metafunc.config))]
    if "faulty" in metafunc.fixturenames:
        metafunc.parametrize(
            "faulty",
            [
                pytest.param((name, case), id=f"{name}/{case}", marks=pytest.mark.xdist_group(case))
                for name in names
                for case in (FAULTY if name == "torch" else COMPILED)
            ],
        )
    if "mutation" in metafunc.fixturenames:
        found = importlib.import_module("conformance.mutations").MUTATIONS if "torch" in names else ()
        metafunc.parametrize("mutation", [pytest.param(one, id=one.name) for one in found])


def test_every_head_is_faulty_somewhere() -> None:
    assert {find(name).head for name in FAULTY} == set(HEADS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_faults_of_parameters(laboratory: Laboratory, faulty: tuple[str, str]) -> None:
    name, case = faulty
    expected = Expected(find(case))
    backend = laboratory.backends[name]
    model = backend.build(expected.case.config, expected.case.head, expected.parameters, mode=FAST[name])
    healthy = Fault(next(iter(expected.parameters)), "none", next(iter(expected.parameters.values())))
    assert first_wrong_stage(model, expected, healthy) is None
    faults = list(parameter_faults(expected))
    assert {fault.parameter for fault in faults} == set(expected.parameters)
    missed = [fault for fault in faults if first_wrong_stage(model, expected, fault) is None]
    silent = [f"{fault.parameter} {fault.kind}" for fault in missed if not _excused(expected, fault)]
    assert silent == []


def _excused(expected: Expected, fault: Fault) -> bool:
    """Whether a fault cannot change a result, for a stated reason; a swap only if that holds for both parameters."""
    names = [fault.parameter]
    if fault.kind.startswith("swapped with "):
        names.append(fault.kind.removeprefix("swapped with "))
    return all(invisible(expected, name) for name in names)


def test_what_no_number_shows_is_seen_bit_by_bit() -> None:
    expected = Expected(find("ForPreTraining-base-padded"))
    hidden = [name for name in expected.parameters if invisible(expected, name)]
    assert hidden
    for name in hidden:
        changed = {**expected.parameters, name: expected.parameters[name] * 1.01}
        assert [stage.name for stage in equal(expected.parameters, changed) if stage.wrong] == [name]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_mistakes_in_the_code(laboratory: Laboratory, mutation: Any) -> None:
    assert catch(mutation, laboratory).seen, f"no check saw: {mutation.name}"
