"""Learning rates at known steps."""

import pytest

from wav2vec2_core.training.schedules import tri_stage

SHARES = {"warm_up": 0.1, "hold": 0.4, "initial_scale": 0.01, "final_scale": 0.05}


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.02),  # the first share of the peak
        (50, 2 * (0.01 + 0.99 * 0.5)),  # half of the warm-up
        (99, 2 * (0.01 + 0.99 * 0.99)),
        (100, 2.0),
        (499, 2.0),
        (500, 2.0),  # decay begins
        (750, 2 * 0.05**0.5),  # half of the decay: exponential
        (999, 2 * 0.05 ** (499 / 500)),
        (1000, 0.1),
        (5000, 0.1),
    ],
)
def test_three_stages(step, rate):
    assert tri_stage(step, 1000, 2.0, **SHARES) == pytest.approx(rate, rel=1e-12)


def test_stages_may_be_missing():
    assert tri_stage(0, 10, 1.0, **{**SHARES, "warm_up": 0.0, "hold": 1.0}) == 1.0
    assert tri_stage(9, 10, 1.0, **{**SHARES, "warm_up": 0.0, "hold": 1.0}) == 1.0
    assert tri_stage(0, 10, 1.0, **{**SHARES, "warm_up": 0.0, "hold": 0.0}) == 1.0
    assert tri_stage(5, 10, 1.0, **{**SHARES, "warm_up": 0.0, "hold": 0.0}) == pytest.approx(0.05**0.5)
