"""A training run in each back end: the same losses."""

from __future__ import annotations

import pytest

from conformance.conftest import backend_names
from conformance.training_losses import TOLERANCES, largest_difference, losses

STEPS = 10  # python -m conformance.training_losses --steps 100 for more


@pytest.mark.parametrize("start", ["embedded", pytest.param("fresh", marks=pytest.mark.rare)])
def test_back_ends_have_the_same_losses(start: str, pytestconfig: pytest.Config) -> None:
    first, *others = backend_names(pytestconfig)
    expected = losses(first, start, STEPS)
    assert min(expected) < 0.8 * expected[0]  # it learns
    for other in others:
        assert largest_difference(expected, losses(other, start, STEPS)) <= TOLERANCES[start], other
