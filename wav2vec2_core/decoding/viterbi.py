"""The cheapest way through a chain of states, one step a frame: exact, in memory that does not grow with the chain.

A chain is a row of states. From one frame to the next a path stays, goes on to the next state, or skips up to three
states where the state that it goes to allows it. Every state costs something in every frame, never less than nothing.

What keeps it fast and small:

- The cost of a path only grows. States dearer than a budget are dropped; if a whole path within the budget is found it
  is the cheapest of all, otherwise the budget grows. The better recording and text agree, the fewer states are visited.
- Only the costs of some frames are kept. The way back is found between two of them by computing those frames again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np

from wav2vec2_core.decoding.compilation import COMPILED, compiled

#: Furthest step from one frame to the next, in states.
REACH = 4
_BUDGET = 64.0  # of the first attempt
_LARGEST = float(np.finfo(np.float64).max)  # a budget that everything possible is within
_KEPT = 1 << 28  # bytes of costs that are kept for the way back


@dataclass(frozen=True)
class Chain:
    """States in order; a path starts before the first one.

    columns: (states,) int32, the column of the costs that a state reads.
    steps: (states,) uint8, bit j is set where a path may come from j states before; 0 (stay) and 1 are always allowed.
    ends: states that a path may end in; of equally cheap ones the first counts.
    """

    columns: np.ndarray
    steps: np.ndarray
    ends: tuple[int, ...]


def cheapest_path(costs: np.ndarray, chain: Chain) -> tuple[np.ndarray, float] | None:
    """(frames, columns) float32, 0 or more or infinite -> the state of every frame, (frames,) int64, and the sum.

    Of steps into a state that cost the same, the shortest is taken. ``None`` where no path has a finite cost.
    """
    frames = len(costs)
    # What can stand before the first frame is one more state, which nothing can stay in.
    costs = np.concatenate([costs, np.full((frames, 1), np.inf, np.float32)], axis=1)
    columns = np.concatenate([[costs.shape[1] - 1], chain.columns]).astype(np.int32)
    steps = np.concatenate([[0], chain.steps]).astype(np.uint8)
    budget = _BUDGET
    while True:
        forward = _Forward(costs, columns, steps, budget)
        totals = forward.row[REACH + 1 + np.array(chain.ends)]
        if forward.reached == frames and totals.min() <= budget:
            end = chain.ends[int(totals.argmin())] + 1
            return forward.way_back(end) - 1, float(totals.min())
        if budget == _LARGEST:
            return None
        budget = _next_budget(budget, forward.reached / frames, costs)


def _next_budget(budget: float, share: float, costs: np.ndarray) -> float:
    """A larger budget, judged by the share of the frames that the last one lasted for."""
    budget *= min(max(1.3 / max(share, 1e-9), 2.0), 8.0)
    finite = costs[np.isfinite(costs)]
    most = len(costs) * float(finite.max(initial=0.0))
    return _LARGEST if budget > most else budget


class _Forward:
    """Costs of reaching every state within a budget. reached: frames after which a state is still within it."""

    def __init__(self, costs: np.ndarray, columns: np.ndarray, steps: np.ndarray, budget: float) -> None:
        self.costs, self.columns, self.steps = costs, columns, steps
        self.row = np.full(REACH + len(columns), np.inf)
        self.row[REACH] = 0.0
        self.stride = max(isqrt(len(costs)), 1)
        self.kept: list[tuple[int, int, np.ndarray]] = []  # frame, first state, costs before that frame
        self.reached = 0
        low, high, bytes_kept = 0, 1, 0
        while self.reached < len(costs):
            row = self.row[REACH + low : REACH + high].copy()
            self.kept.append((self.reached, low, row))
            bytes_kept += row.nbytes
            if bytes_kept > _KEPT:
                self.kept, self.stride = self.kept[::2], 2 * self.stride
                bytes_kept = sum(row.nbytes for _, _, row in self.kept)
            stop = min(self.kept[-1][0] + self.stride, len(costs))
            low, high, done = sweep(
                self.row, low, high, costs[self.reached : stop], columns, steps, budget, np.empty((0, 0), np.uint8)
            )
            self.reached += done
            if low == high:
                break

    def way_back(self, end: int) -> np.ndarray:
        """States of every frame of the cheapest path that ends in state ``end``."""
        path = np.empty(len(self.costs), np.int64)
        stop = len(self.costs)
        for start, first, row in reversed(self.kept):
            base = max(first, end - REACH * (stop - start))  # the path cannot have been further back
            again = np.full(REACH + end + 1 - base, np.inf)
            row = row[base - first : end + 1 - first]
            again[REACH : REACH + len(row)] = row
            choices = np.empty((stop - start, end + 1 - base), np.uint8)
            columns, steps = self.columns[base : end + 1], self.steps[base : end + 1]
            sweep(again, 0, len(columns), self.costs[start:stop], columns, steps, np.inf, choices)
            for frame in range(stop - 1, start - 1, -1):
                path[frame] = end
                end -= int(choices[frame - start, end - base])
            stop = start
        return path


def sweep_states(
    row: np.ndarray,
    low: int,
    high: int,
    costs: np.ndarray,
    columns: np.ndarray,
    steps: np.ndarray,
    budget: float,
    choices: np.ndarray,
) -> tuple[int, int, int]:
    """Take ``row`` through the frames of ``costs``, state by state: the form that compiles.

    Args:
        row: (4 + states,) float64, what it costs to be in each state, changed in place; the first four stay infinite.
        low, high: states outside of these are infinite.
        costs: (frames, columns) float32.
        columns, steps: as in ``Chain``.
        budget: states dearer than this are dropped at both ends of what is visited; nothing is where it is infinite.
        choices: (frames, states) uint8, filled with the step that led to each state; (0, 0): not wanted.

    Returns:
        ``low`` and ``high`` after the last frame, and the number of frames done: fewer where no state is left.
    """
    record = choices.shape[0] > 0
    for frame in range(costs.shape[0]):
        high = min(high + 4, len(columns))
        for state in range(high - 1, low - 1, -1):  # downwards: what it reads is still the frame before
            best = row[state + 4]
            step = 0
            if row[state + 3] < best:
                best = row[state + 3]
                step = 1
            allowed = steps[state]
            if allowed:
                if allowed & 4 and row[state + 2] < best:
                    best = row[state + 2]
                    step = 2
                if allowed & 8 and row[state + 1] < best:
                    best = row[state + 1]
                    step = 3
                if allowed & 16 and row[state] < best:
                    best = row[state]
                    step = 4
            row[state + 4] = best + costs[frame, columns[state]]
            if record:
                choices[frame, state] = step
        while low < high and row[low + 4] > budget:
            row[low + 4] = np.inf
            low += 1
        while low < high and row[high + 3] > budget:
            row[high + 3] = np.inf
            high -= 1
        if low == high:
            return low, high, frame
    return low, high, costs.shape[0]


def sweep_rows(
    row: np.ndarray,
    low: int,
    high: int,
    costs: np.ndarray,
    columns: np.ndarray,
    steps: np.ndarray,
    budget: float,
    choices: np.ndarray,
) -> tuple[int, int, int]:
    """The same as ``sweep_states``, all states of a frame at once: the form for numpy."""
    record = len(choices) > 0
    barred = {j: np.where(steps & (1 << j), 0.0, np.inf) for j in (2, 3, 4) if (steps & (1 << j)).any()}
    for frame in range(len(costs)):
        high = min(high + 4, len(columns))
        best = row[low + 4 : high + 4].copy()
        step = np.zeros(high - low, np.uint8)
        for j in (1, *barred):
            other = row[low + 4 - j : high + 4 - j]
            if j > 1:
                other = other + barred[j][low:high]
            if record:
                step[other < best] = j
            np.minimum(best, other, out=best)
        best += costs[frame, columns[low:high]]
        row[low + 4 : high + 4] = best
        if record:
            choices[frame, low:high] = step
        within = np.flatnonzero(best <= budget)
        if len(within) == 0:
            return low, low, frame
        row[low + 4 : low + 4 + within[0]] = np.inf
        row[low + 4 + within[-1] + 1 : high + 4] = np.inf
        low, high = low + int(within[0]), low + int(within[-1]) + 1
    return low, high, len(costs)


sweep = compiled(sweep_states) if COMPILED else sweep_rows
