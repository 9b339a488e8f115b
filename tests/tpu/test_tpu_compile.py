"""Every kind of case of the conformance suite compiles for a TPU; `python -m conformance.tpu` compiles them all."""

import numpy as np
import pytest

from conformance import cases, tpu
from wav2vec2_core.errors import BackendError

HBM = 16 * 2**30


def without_twins():
    """Every body alone and every head on one body; of a case with and one without padding, the one with it."""
    everything = cases.tiny_cases()
    alone = {case.family for case in everything if case.head == "Model" and case.family != "options"}
    return [
        case
        for case in everything
        if not case.name.endswith("-even")
        and (case.head == "Model" or case.family == "base" or case.family not in alone)
    ]


@pytest.mark.parametrize("case", without_twins(), ids=lambda case: case.name)
def test_tiny(case):
    result = tpu.compile_case(case)
    parameters = sum(array.nbytes for array in case.parameters().values())
    assert 2 * parameters < result.memory < HBM  # parameters and gradients


@pytest.mark.parametrize("case", cases.full_size_cases(), ids=lambda case: case.name)
def test_full_size(case):
    parameters = 4 * sum(int(np.prod(shape)) for shape in _shapes(case))
    result = tpu.compile_case(case)
    print(f"{case.name}: {result.memory / 2**30:.2f} GiB")
    assert 2 * parameters < result.memory < HBM


def test_every_head_and_every_family_is_there():
    for field in ("head", "family"):
        assert {getattr(case, field) for case in without_twins()} == {
            getattr(case, field) for case in cases.tiny_cases()
        }


def test_a_case_that_is_too_large_is_refused():
    long = cases.Case(
        name="too-large",
        family="full-size",
        head="Model",
        config=cases.full_size_cases()[0].config.replace(num_hidden_layers=1),
        lengths=(320000,) * 96,
        full_size=True,
    )
    with pytest.raises(BackendError, match="does not fit into a chip of v5e:1x1"):
        tpu.compile_case(long)


def _shapes(case):
    from wav2vec2_core.parameters import parameter_table

    return [row.shape for row in parameter_table(case.config, case.head).values()]
