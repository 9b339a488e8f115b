"""A pretraining run in each back end: the same losses."""

from __future__ import annotations

import pytest

from conformance.conftest import backend_names
from conformance.pretraining_losses import TOLERANCE, losses
from conformance.training_losses import largest_difference

STEPS = 4  # python -m conformance.pretraining_losses --steps 50 for more


def test_back_ends_have_the_same_losses(pytestconfig: pytest.Config) -> None:
    first, *others = backend_names(pytestconfig)
    expected = losses(first, STEPS)
    assert expected[-1] < expected[0] - 0.05  # it learns
    for other in others:
        assert largest_difference(expected, losses(other, STEPS)) <= TOLERANCE, other
