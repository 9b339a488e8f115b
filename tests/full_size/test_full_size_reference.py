"""The reference at full size against what transformers computed: minutes and 2 GB, so in a session of its own."""

import numpy as np
import pytest

from conformance import cases, golden, reference
from conformance.tolerances import relative_error, tolerance


@pytest.mark.slow
@pytest.mark.parametrize("case", cases.full_size_cases(), ids=lambda case: case.name)
def test_recorded_results(case):
    recorded = golden.load(case).inference
    stages = reference.forward(case.config, case.head, case.parameters(), **case.inputs())
    limit = tolerance("golden arrays", dtype="float64").limit
    assert set(recorded) == {"logits"}
    assert relative_error(stages["logits"], recorded["logits"].astype(np.float64)) <= limit
