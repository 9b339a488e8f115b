"""What the scripts here share: runs that take turns in one process, and the ratios of their processor times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def take_turns(runs: Mapping[str, Callable[[], object]], rounds: int, warmups: int = 1) -> dict[str, list[float]]:
    """Processor seconds of each run in every round; the runs of a round are neighbours in time."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(rounds + warmups):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if round_number >= warmups:
                times[name].append(time.process_time() - start)
    return times


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Median and quartiles of theirs / ours, round by round: above 1 ours is faster."""
    ratios = [right / left for left, right in zip(ours, theirs, strict=True)]
    if len(ratios) < 2:
        return f"{ratios[0]:.2f}"
    low, _, high = statistics.quantiles(ratios, n=4)
    return f"{statistics.median(ratios):.2f} (quartiles {low:.2f} to {high:.2f})"
