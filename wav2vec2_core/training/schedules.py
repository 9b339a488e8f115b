"""Learning rates and the temperature of pretraining as functions of the step."""

from __future__ import annotations


def tri_stage(
    step: int,
    steps: int,
    peak: float,
    *,
    warm_up: float,
    hold: float,
    initial_scale: float,
    final_scale: float,
) -> float:
    """The learning rate of a step in fairseq's ``tri_stage``: linear warm-up, hold, exponential decay.

    Args:
        step: from 0; after the last one the rate stays where it is.
        steps: of the whole run.
        peak: the highest rate.
        warm_up, hold: shares of the run; the rest is the decay.
        initial_scale, final_scale: the first and the last rate as shares of ``peak``.
    """
    rising, holding = int(steps * warm_up), int(steps * hold)
    falling = steps - rising - holding
    if step < rising:
        return peak * (initial_scale + (1 - initial_scale) * step / rising)
    if step < rising + holding:
        return peak
    if falling == 0:
        return peak
    return peak * final_scale ** min(1.0, (step - rising - holding) / falling)


def polynomial(
    step: int, steps: int, peak: float, *, warm_up: float, power: float = 1.0, final_scale: float = 0.0
) -> float:
    """The learning rate of a step in fairseq's ``polynomial_decay``: linear warm-up, then decay, linear for power 1.

    Args:
        step: from 0; after the last one the rate stays where it is.
        steps: of the whole run.
        peak: the highest rate.
        warm_up: share of the run; the first rate of it is that of its second update, not 0.
        power: of what is left of the decay.
        final_scale: the last rate as a share of ``peak``.
    """
    rising = int(steps * warm_up)
    if step < rising:
        return peak * max(step, 1) / rising
    left = 1 - min(1.0, (step - rising) / max(steps - rising, 1))
    return peak * (final_scale + (1 - final_scale) * left**power)


def gumbel_temperature(step: int, *, first: float = 2.0, factor: float = 0.999995, last: float = 0.5) -> float:
    """The temperature of the quantizer's choice in a step: ``first``, multiplied by ``factor`` at each update down to
    ``last``.

    In the paper (section 4.2) from 2 to 0.5 for BASE, which takes 277,258 updates, and to 0.1 for LARGE, 599,145.
    """
    return max(first * factor**step, last)
