"""Learning rates as functions of the step."""

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
