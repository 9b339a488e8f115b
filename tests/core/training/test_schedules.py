"""Learning rates and temperatures at known steps."""

import pytest

from wav2vec2_core.training.schedules import gumbel_temperature, polynomial, tri_stage

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


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 2 / 80),  # not 0: an update of nothing teaches nothing
        (1, 2 / 80),
        (40, 1.0),
        (79, 2 * 79 / 80),
        (80, 2.0),
        (540, 1.0),  # half of the decay
        (999, 2 / 920),
        (1000, 0.0),
        (5000, 0.0),
    ],
)
def test_warm_up_and_linear_decay(step, rate):
    assert polynomial(step, 1000, 2.0, warm_up=0.08) == pytest.approx(rate, rel=1e-12)


def test_powers_and_last_rates():
    assert polynomial(500, 1000, 2.0, warm_up=0.0, power=2.0) == pytest.approx(0.5)
    assert polynomial(500, 1000, 2.0, warm_up=0.0, final_scale=0.5) == pytest.approx(1.5)
    assert polynomial(1000, 1000, 2.0, warm_up=0.0, final_scale=0.5) == pytest.approx(1.0)
    assert polynomial(3, 4, 2.0, warm_up=1.0) == pytest.approx(1.5)
    assert polynomial(9, 4, 2.0, warm_up=1.0) == 0.0


@pytest.mark.parametrize(("last", "step"), [(0.5, 277_258), (0.1, 599_145)])
def test_temperature_floors(last, step):
    assert gumbel_temperature(0, last=last) == 2.0
    assert gumbel_temperature(1, last=last) == 2.0 * 0.999995
    assert gumbel_temperature(step - 1, last=last) > last
    assert gumbel_temperature(step + 1, last=last) == last
