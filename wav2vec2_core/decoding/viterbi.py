"""Viterbi search for the cheapest path through the items of a text: exact, with bounded memory for any length.

How it stays fast and small:

- Costs are never negative, so the cost of a path only grows. Paths above a budget are dropped. If a whole path stays
  within the budget, it is the cheapest one; otherwise the budget is raised. The better text and recording agree, the
  fewer states are visited.
- Only the costs of some frames are stored. Backtracking recomputes the frames between two of them, near the path only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

import numpy as np

from wav2vec2_core.compilation import COMPILED, compiled

_BUDGET = 64.0  # for the first attempt
_LARGEST = float(np.finfo(np.float64).max)  # a budget that excludes no possible path
_GAP, _ITEM = 0, 1
_START = 2  # position of the state before the first frame; two more positions precede it
_SHORT = 256  # backtracking stores the costs of all frames of a block this long or shorter
_KEPT = 1 << 28  # bytes of costs stored at a time


@dataclass(frozen=True)
class Chain:
    """Items in order, with a gap before each and one after the last. An item or gap lasts one or more frames.

    A path begins in the first gap or item and ends in the last gap or item. An item is followed by the gap after it or
    by the next item; a gap is followed by its item.

    items: (items,) int32, the cost column of each item.
    gaps: (items + 1,) int32, the cost column of each gap.
    joined: (items,) bool, whether the item may follow the previous one without a gap.
    optional: (items,) bool, whether the item may be skipped, which merges the gaps around it; never two in a row.
    rejoined: (items,) bool, like ``joined``, but after the item two places before, when the optional one between is
    skipped.
    """

    items: np.ndarray
    gaps: np.ndarray
    joined: np.ndarray
    optional: np.ndarray
    rejoined: np.ndarray


def cheapest_path(costs: np.ndarray, chain: Chain) -> tuple[np.ndarray, float] | None:
    """Find the cheapest path through costs (frames, columns) float32, each 0 or more or infinite.

    Returns the path, (frames,) int64, and its cost, or ``None`` if no path has a finite cost. In the path, 2 i is the
    gap before item i and 2 i + 1 is item i. Ties are broken in this order: stay, come from the gap, come from the
    previous item.
    """
    costs = np.concatenate([costs, np.full((len(costs), 1), np.inf, np.float32)], axis=1)
    lattice = _lattice(chain, costs.shape[1] - 1)
    start = np.full((2, len(lattice.items)), np.inf)
    start[_ITEM, _START] = 0.0
    last = len(lattice.items) - 1
    ends = [(_GAP, last), (_ITEM, last - 1)]
    if chain.optional[-1]:
        ends += [(_GAP, last - 1), (_ITEM, last - 2)]
    budget = _BUDGET
    while True:
        forward = _Forward(costs, lattice, start, _START, _START + 1, budget)
        totals = [float(forward.rows[end]) for end in ends]
        if forward.reached == len(costs) and min(totals) <= budget:
            which, position = forward.way_back(*ends[int(np.argmin(totals))])
            return 2 * (position - _START - 1) + which, min(totals)
        if budget == _LARGEST:
            return None
        budget = _next_budget(budget, forward.reached / len(costs), costs)


def _next_budget(budget: float, share: float, costs: np.ndarray) -> float:
    """A larger budget; ``share``: the part of the frames that the search reached with the last one."""
    budget *= min(max(1.3 / max(share, 1e-9), 2.0), 8.0)
    finite = costs[np.isfinite(costs)]
    most = len(costs) * float(finite.max(initial=0.0))
    return _LARGEST if budget > most else budget


class _Lattice(NamedTuple):
    """A chain in the form that ``sweep`` reads: position p holds item p - 3 and the gap before it.

    Position 2 is the state before the first frame, an item in which no path can stay. The last position has a gap but
    no item.

    items, gaps: (positions,) int32, columns of the costs.
    bars: (positions,), 0 or infinite, the cost of coming from the previous item.
    skips: positions that can be reached by skipping the item before; skip_bars: the cost of doing so.
    """

    items: np.ndarray
    gaps: np.ndarray
    bars: np.ndarray
    skips: np.ndarray
    skip_bars: np.ndarray

    def part(self, start: int, stop: int) -> _Lattice:
        """Positions ``start`` to ``stop``; the first two are predecessors only."""
        inside = slice(*np.searchsorted(self.skips, (start + 2, stop)))
        skips = self.skips[inside] - np.int32(start)
        return _Lattice(
            self.items[start:stop], self.gaps[start:stop], self.bars[start:stop], skips, self.skip_bars[inside]
        )


def _lattice(chain: Chain, never: int) -> _Lattice:
    """``never``: a column of infinite costs."""
    blocked = [np.inf] * (_START + 1)
    skips = np.flatnonzero(chain.optional[:-1]) + 1
    return _Lattice(
        items=np.concatenate([[never] * (_START + 1), chain.items, [never]]).astype(np.int32),
        gaps=np.concatenate([[never] * (_START + 1), chain.gaps]).astype(np.int32),
        bars=np.concatenate([blocked, np.where(chain.joined, 0.0, np.inf), [np.inf]]),
        skips=(skips + _START + 1).astype(np.int32),
        skip_bars=np.where(chain.rejoined[skips], 0.0, np.inf),
    )


class _Forward:
    """Costs of reaching each position, within a budget.

    rows: (2, positions), costs of gaps and of items, after the last frame. reached: number of frames that stayed within
    the budget.
    """

    def __init__(
        self, costs: np.ndarray, lattice: _Lattice, rows: np.ndarray, low: int, high: int, budget: float
    ) -> None:
        self.costs, self.lattice = costs, lattice
        self.rows = rows.copy()
        self.stride = max(isqrt(len(costs)), _SHORT)
        self.kept: list[tuple[int, int, np.ndarray]] = []  # frame, first position, costs before that frame
        self.reached = 0
        other = np.full_like(rows, np.inf)
        while self.reached < len(costs) and low < high:
            self._keep(low, high)
            block = costs[self.reached : self.kept[-1][0] + self.stride]
            low, high, done = sweep(self.rows, other, low, high, block, lattice, budget, np.empty((0, 2, 0)))
            self.reached += done

    def _keep(self, low: int, high: int) -> None:
        """Store the costs before this frame; drop every second stored frame when they take too much memory."""
        self.kept.append((self.reached, low, self.rows[:, low:high].copy()))
        if sum(rows.nbytes for _, _, rows in self.kept) > _KEPT and len(self.kept) > 2:
            self.kept, self.stride = self.kept[::2], 2 * self.stride

    def way_back(self, which: int, position: int) -> np.ndarray:
        """(2, frames): whether gap or item, and position, along the cheapest path that ends there."""
        path = np.empty((2, len(self.costs)), np.int64)
        stop = len(self.costs)
        for start, first, rows in reversed(self.kept):
            base = max(first, position - 2 * (stop - start)) - 2  # a path moves two positions per frame at most
            part = self.lattice.part(base, position + 1)
            before = np.full((2, len(part.items)), np.inf)
            known = rows[:, base + 2 - first : position + 1 - first]
            before[:, 2 : 2 + known.shape[1]] = known
            trace = _trace(self.costs[start:stop], part, before, which, position - base)
            which, position = step_back(before, part, int(trace[0, 0]), int(trace[1, 0]))
            trace[1] += base
            path[:, start:stop] = trace
            position += base
            stop = start
        return path


def _trace(costs: np.ndarray, lattice: _Lattice, before: np.ndarray, which: int, position: int) -> np.ndarray:
    """(2, frames): the path through all of ``costs`` that ends at ``position``; ``before``: costs before the first
    frame.
    """
    if len(costs) > _SHORT:
        return _Forward(costs, lattice, before, 2, len(lattice.items), np.inf).way_back(which, position)
    history = np.empty((len(costs), *before.shape))
    sweep(before.copy(), np.full_like(before, np.inf), 2, len(lattice.items), costs, lattice, np.inf, history)
    return follow(history, lattice, which, position)


@compiled
def follow(history: np.ndarray, lattice: _Lattice, which: int, position: int) -> np.ndarray:
    """(2, frames): the path that ends at ``position``, from stored costs (frames, 2, positions)."""
    path = np.empty((2, len(history)), np.int64)
    for frame in range(len(history) - 1, -1, -1):
        path[0, frame], path[1, frame] = which, position
        if frame > 0:
            which, position = step_back(history[frame - 1], lattice, which, position)
    return path


@compiled
def step_back(rows: np.ndarray, lattice: _Lattice, which: int, position: int) -> tuple[int, int]:
    """The predecessor of a gap or item on its cheapest path, given the costs at the previous frame."""
    gaps, items = rows[0], rows[1]
    if which == 0:
        return (0, position) if gaps[position] <= items[position - 1] else (1, position - 1)
    best, which, came = items[position], 1, position
    if gaps[position] < best:
        best, which = gaps[position], 0
    if items[position - 1] + lattice.bars[position] < best:
        best, which, came = items[position - 1] + lattice.bars[position], 1, position - 1
    skip = np.searchsorted(lattice.skips, position)
    if skip < len(lattice.skips) and lattice.skips[skip] == position:
        if gaps[position - 1] < best:
            best, which, came = gaps[position - 1], 0, position - 1
        if items[position - 2] + lattice.skip_bars[skip] < best:
            which, came = 1, position - 2
    return which, came


def sweep_positions(
    rows: np.ndarray,
    other: np.ndarray,
    low: int,
    high: int,
    costs: np.ndarray,
    lattice: _Lattice,
    budget: float,
    history: np.ndarray,
) -> tuple[int, int, int]:
    """Advance ``rows`` through the frames of ``costs``, position by position: the form that is compiled.

    Args:
        rows: (2, positions) float64, the cost of being in each gap and item; updated in place.
        other: scratch of the same shape, filled with infinity.
        low, high: positions outside this range are infinite; ``low`` is 2 or more.
        costs: (frames, columns) float32.
        lattice: the positions.
        budget: positions at both ends of the range are dropped while they cost more than this.
        history: (frames, 2, positions), receives the rows after each frame; with 0 frames nothing is stored.

    Returns:
        ``low`` and ``high`` after the last frame, and the number of frames done: fewer if no position was left.
    """
    gaps, items, bars, skips = lattice.gaps, lattice.items, lattice.bars, lattice.skips
    before, after = rows, other
    done = 0
    while done < len(costs) and low < high:
        row, first = costs[done], low
        last = high = min(high + 2, len(items))
        old_gaps, old_items, new_gaps, new_items = before[0], before[1], after[0], after[1]
        # All views start at 0: the loop takes twice as long with an offset in every index.
        columns, gap_columns, barred = items[low:high], gaps[low:high], bars[low:high]
        formers, held_gaps, held_items = old_items[low - 1 : high - 1], old_gaps[low:high], old_items[low:high]
        to_gaps, to_items = new_gaps[low:high], new_items[low:high]
        for p in range(high - low):
            former, gap, item = formers[p], held_gaps[p], held_items[p]
            joined = former + barred[p]
            best = item if item <= gap else gap
            to_gaps[p] = (gap if gap <= former else former) + row[gap_columns[p]]
            to_items[p] = (best if best <= joined else joined) + row[columns[p]]
        for i in range(np.searchsorted(skips, low), np.searchsorted(skips, high)):
            p = skips[i]
            new_items[p] = min(
                new_items[p], min(old_gaps[p - 1], old_items[p - 2] + lattice.skip_bars[i]) + row[items[p]]
            )
        while low < high and new_gaps[low] > budget and new_items[low] > budget:
            low += 1
        while low < high and new_gaps[high - 1] > budget and new_items[high - 1] > budget:
            high -= 1
        for array in (before, after):  # keep both infinite outside the range
            array[:, first:low] = np.inf
            array[:, high:last] = np.inf
        if len(history) > 0:
            history[done] = after
        before, after = after, before
        done += 1
    if done % 2 == 1:
        rows[:, :], other[:, :] = other.copy(), np.inf
    return low, high, done


def sweep_rows(
    rows: np.ndarray,
    other: np.ndarray,
    low: int,
    high: int,
    costs: np.ndarray,
    lattice: _Lattice,
    budget: float,
    history: np.ndarray,
) -> tuple[int, int, int]:
    """Like ``sweep_positions``, but vectorized over the positions of a frame: the form for plain numpy."""
    for frame, row in enumerate(costs):
        if low >= high:
            return low, high, frame
        last = high = min(high + 2, len(lattice.items))
        here, former = slice(low, high), slice(low - 1, high - 1)
        gaps, items = rows
        new_items = np.minimum(items[here], gaps[here])
        np.minimum(new_items, items[former] + lattice.bars[here], out=new_items)
        inside = slice(*np.searchsorted(lattice.skips, (low, high)))
        p = lattice.skips[inside]
        if len(p):
            skipping = np.minimum(gaps[p - 1], items[p - 2] + lattice.skip_bars[inside])
            new_items[p - low] = np.minimum(new_items[p - low], skipping)
        gaps[here] = np.minimum(gaps[here], items[former]) + row[lattice.gaps[here]]
        items[here] = new_items + row[lattice.items[here]]
        within = np.flatnonzero(np.minimum(gaps[here], items[here]) <= budget)
        start, low, high = low, *((low + within[0], low + within[-1] + 1) if len(within) else (high, high))
        rows[:, start:low] = np.inf
        rows[:, high:last] = np.inf
        if len(history):
            history[frame] = rows
    return int(low), int(high), len(costs)


sweep = compiled(sweep_positions) if COMPILED else sweep_rows
