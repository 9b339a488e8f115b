"""The cheapest way through the items of a text, frame by frame: exact, with little memory for any length.

What keeps it fast and small:

- Costs are never negative, so that of a path only grows. What is dearer than a budget is dropped; if a whole path
  within the budget is found it is the cheapest of all, otherwise the budget grows. The better recording and text agree,
  the less is visited.
- Only the costs of some frames are kept. The way back is found between two of them by computing those frames again,
  near the path alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

import numpy as np

from wav2vec2_core.compilation import COMPILED, compiled

_BUDGET = 64.0  # of the first attempt
_LARGEST = float(np.finfo(np.float64).max)  # a budget that everything possible is within
_GAP, _ITEM = 0, 1
_START = 2  # position of what stands before the first frame, so that every position has two before it
_SHORT = 256  # frames whose costs are all kept on the way back
_KEPT = 1 << 28  # bytes of costs kept at a time


@dataclass(frozen=True)
class Chain:
    """Items in order, each with a gap before it, and a gap after the last one; both last one or more frames.

    A path begins in the first gap or item and ends in the last gap or item. An item is followed by the gap after it or
    by the next item, a gap by its item.

    items: (items,) int32, the column of the costs that each item reads.
    gaps: (items + 1,) int32, the same for the gaps.
    joined: (items,) bool, whether the item may follow the one before without a gap between them.
    optional: (items,) bool, whether the item may be left out; never two in a row. The gaps around it are then one.
    rejoined: (items,) bool, as ``joined``, for the item two before where the one before is left out.
    """

    items: np.ndarray
    gaps: np.ndarray
    joined: np.ndarray
    optional: np.ndarray
    rejoined: np.ndarray


def cheapest_path(costs: np.ndarray, chain: Chain) -> tuple[np.ndarray, float] | None:
    """(frames, columns) float32, 0 or more or infinite -> the path, (frames,) int64, and its cost.

    In the path 2 i stands for the gap before item i, 2 i + 1 for the item. Of equally cheap ways into one of them the
    shortest step is taken: stay, come from the gap, from the item before. ``None`` where no path has a finite cost.
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
    """A larger budget, judged by the share of the frames that the last one lasted for."""
    budget *= min(max(1.3 / max(share, 1e-9), 2.0), 8.0)
    finite = costs[np.isfinite(costs)]
    most = len(costs) * float(finite.max(initial=0.0))
    return _LARGEST if budget > most else budget


class _Lattice(NamedTuple):
    """A chain as ``sweep`` reads it: position p holds item p - 3 and the gap before it.

    Position 2 is what stands before the first frame, an item that nothing can stay in; the last has a gap and no item.

    items, gaps: (positions,) int32, columns of the costs.
    bars: (positions,), 0 or infinite, what coming from the item before costs.
    skips: positions whose item may come from beyond the one before; skip_bars: what coming from the item there costs.
    """

    items: np.ndarray
    gaps: np.ndarray
    bars: np.ndarray
    skips: np.ndarray
    skip_bars: np.ndarray

    def part(self, start: int, stop: int) -> _Lattice:
        """Positions ``start`` to ``stop``; the first two of them are there to be looked back at."""
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
    """Costs of reaching every position within a budget.

    rows: (2, positions), of gaps and items, after the last frame. reached: frames after which something was within the
    budget.
    """

    def __init__(
        self, costs: np.ndarray, lattice: _Lattice, rows: np.ndarray, low: int, high: int, budget: float
    ) -> None:
        self.costs, self.lattice = costs, lattice
        self.rows = rows.copy()
        self.stride = max(isqrt(len(costs)), _SHORT)
        self.kept: list[tuple[int, int, np.ndarray]] = []  # frame, first position, rows before that frame
        self.reached = 0
        other = np.full_like(rows, np.inf)
        while self.reached < len(costs) and low < high:
            self._keep(low, high)
            block = costs[self.reached : self.kept[-1][0] + self.stride]
            low, high, done = sweep(self.rows, other, low, high, block, lattice, budget, np.empty((0, 2, 0)))
            self.reached += done

    def _keep(self, low: int, high: int) -> None:
        """Remember the rows of this frame; forget every second one where they become too many."""
        self.kept.append((self.reached, low, self.rows[:, low:high].copy()))
        if sum(rows.nbytes for _, _, rows in self.kept) > _KEPT and len(self.kept) > 2:
            self.kept, self.stride = self.kept[::2], 2 * self.stride

    def way_back(self, which: int, position: int) -> np.ndarray:
        """(2, frames): gap or item, and position, of the cheapest path that ends there."""
        path = np.empty((2, len(self.costs)), np.int64)
        stop = len(self.costs)
        for start, first, rows in reversed(self.kept):
            base = max(first, position - 2 * (stop - start)) - 2  # the path cannot have been further back
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
    """(2, frames): the way through all of ``costs`` to ``position``, from the rows before the first frame."""
    if len(costs) > _SHORT:
        return _Forward(costs, lattice, before, 2, len(lattice.items), np.inf).way_back(which, position)
    history = np.empty((len(costs), *before.shape))
    sweep(before.copy(), np.full_like(before, np.inf), 2, len(lattice.items), costs, lattice, np.inf, history)
    return follow(history, lattice, which, position)


@compiled
def follow(history: np.ndarray, lattice: _Lattice, which: int, position: int) -> np.ndarray:
    """(2, frames): the way to ``position`` in the last of the rows (frames, 2, positions)."""
    path = np.empty((2, len(history)), np.int64)
    for frame in range(len(history) - 1, -1, -1):
        path[0, frame], path[1, frame] = which, position
        if frame > 0:
            which, position = step_back(history[frame - 1], lattice, which, position)
    return path


@compiled
def step_back(rows: np.ndarray, lattice: _Lattice, which: int, position: int) -> tuple[int, int]:
    """Where the cheapest way into a gap or item came from, by the rows of the frame before."""
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
    """Take ``rows`` through the frames of ``costs``, position by position: the form that compiles.

    Args:
        rows: (2, positions) float64, what it costs to be in each gap and item; changed in place.
        other: the same shape, infinite, to work in.
        low, high: positions outside of these are infinite; ``low`` is 2 or more.
        costs: (frames, columns) float32.
        lattice: the positions.
        budget: what is dearer is dropped at both ends of what is visited.
        history: (frames, 2, positions), filled with the rows after each frame; of no frames: not wanted.

    Returns:
        ``low`` and ``high`` after the last frame, and the number of frames done: fewer where nothing is left.
    """
    gaps, items, bars, skips = lattice.gaps, lattice.items, lattice.bars, lattice.skips
    before, after = rows, other
    done = 0
    while done < len(costs) and low < high:
        row, first = costs[done], low
        last = high = min(high + 2, len(items))
        old_gaps, old_items, new_gaps, new_items = before[0], before[1], after[0], after[1]
        # Views that all begin at 0: with an offset in every index the loop takes twice as long.
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
        for array in (before, after):  # both stay infinite outside
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
    """The same as ``sweep_positions``, all positions of a frame at once: the form for numpy."""
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
