"""What `ParetoPruner` decides, from arrays that grow with the reports.

The pruner itself is a function of `study.get_trials()`: it reads every trial again for each answer,
and sorts all of them, which grows with the square of their number. Here the values at each rung are
kept, with the fronts they lie in. The answers are the pruner's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from search.pareto import nondominated
from search.pareto_pruner import ParetoPruner, Verdict, deficits

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class _Rung:
    """Who has reached it: one row a trial, its value (to be minimised) and its costs in bands.

    Each row's front, counted from 0, is kept as rows come: one more than the last front that a row
    dominating it is in.
    """

    def __init__(self, columns: int) -> None:
        self._rows: Floats = np.empty((16, columns))
        self._numbers: Ints = np.empty(16, dtype=np.int64)
        self._fronts: Ints = np.empty(16, dtype=np.int64)
        self._place: dict[int, int] = {}  # trial -> row
        self._whole = True  # whether the fronts are known

    def all(self) -> tuple[Floats, Ints, Ints]:
        """Rows, the trials' numbers, and their fronts."""
        size = len(self._place)
        if not self._whole:
            self._fronts[:size] = _sorted(self._rows[:size])
            self._whole = True
        return self._rows[:size], self._numbers[:size], self._fronts[:size]

    def put(self, number: int, row: tuple[float, ...]) -> None:
        """One more; who is dominated by it, in its own front, moves to the next, and so on."""
        at = len(self._place)
        if at == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._numbers = np.concatenate([self._numbers, np.empty_like(self._numbers)])
            self._fronts = np.concatenate([self._fronts, np.empty_like(self._fronts)])
        rows, _, fronts = self.all()
        new = np.array(row)
        better = (rows <= new).all(axis=1) & (rows < new).any(axis=1)
        front = int(fronts[better].max(initial=-1)) + 1
        self._place[number] = at
        self._rows[at], self._numbers[at], self._fronts[at] = new, number, front
        moved = np.array([at])
        while len(moved):
            others = np.setdiff1d(np.flatnonzero(fronts == front), moved)
            by = self._rows[moved][:, None, :]
            worse = (by <= rows[others]).all(axis=2) & (by < rows[others]).any(axis=2)
            if moved[0] != at:
                fronts[moved] = front
            moved = others[worse.any(axis=0)]
            front += 1

    def drop(self, number: int) -> None:
        """One less, if it is there."""
        at = self._place.pop(number, None)
        if at is None:
            return
        self._whole = False
        if at < (last := len(self._place)):  # the last one takes its row
            moved = int(self._numbers[last])
            self._rows[at], self._numbers[at] = self._rows[last], moved
            self._place[moved] = at

    def row(self, number: int) -> int:
        """Where a trial stands."""
        return self._place[number]


class Rungs:
    """The trials of one curve study as its ParetoPruner sees them; `maximize` their values.

    With `cheaper` a trial is compared only with those whose costs are all no more than its own.
    """

    def __init__(self, pruner: ParetoPruner, *, maximize: bool, cheaper: bool) -> None:
        self._pruner = pruner
        self._sign = -1.0 if maximize else 1.0
        self._cheaper = cheaper
        self._bands: dict[int, tuple[float, ...]] = {}
        self._last: dict[int, tuple[int, float]] = {}  # trial -> its newest step, and the value
        self._due: dict[int, int] = {}  # trial -> the rung that its newest step has reached
        self._rungs: dict[int, _Rung] = {}

    def begin(self, number: int, bands: tuple[float, ...]) -> None:
        """A trial starts, with its costs in bands."""
        self._bands[number] = bands

    def report(self, number: int, step: int, value: float) -> None:
        """Its value at a step after those before."""
        before = self._last.get(number, (0, 0.0))[0]
        self._last[number] = step, value
        self._due.pop(number, None)
        rung = self._pruner.first_rung
        while rung <= step:
            if rung > before:
                self._due[number] = rung
                if math.isfinite(value):
                    self._rung(rung).put(number, (self._sign * value, *self._bands[number]))
            rung *= self._pruner.reduction_factor

    def drop(self, number: int) -> None:
        """It has failed, or begins anew: what it has reported counts for nobody."""
        self._last.pop(number, None)
        self._due.pop(number, None)
        for rung in self._rungs.values():
            rung.drop(number)

    def stops(self, number: int) -> Verdict | None:
        """Why the trial ends at its newest step; None where it goes on, or is between rungs."""
        rung = self._due.get(number)
        if rung is None:
            return None
        step, value = self._last[number]
        if not math.isfinite(value):
            return Verdict(step, value, 0, 0, 0, 0, ())
        rows, numbers, fronts = self._rungs[rung].all()
        at = self._rungs[rung].row(number)
        own, front = rows[at], int(fronts[at])
        if self._cheaper:  # whoever dominates one of them is one of them: the fronts are the same
            seen = (rows[:, 1:] <= own[1:]).all(axis=1)
            rows, numbers, fronts = rows[seen], numbers[seen], fronts[seen]
        kept = math.ceil(len(rows) / self._pruner.reduction_factor)
        place, peers = int((fronts < front).sum()), fronts == front
        if front == 0 or place + int(peers.sum()) - 1 < kept:
            return None
        at_least = place >= kept
        if not at_least:
            gap = deficits(own[None, :], rows)[0]
            place += int((deficits(rows[peers], rows) < gap).sum())
            if place < kept:
                return None
        better = (rows <= own).all(axis=1) & (rows < own).any(axis=1)
        best_first = np.lexsort((numbers[better], rows[better, 0]))
        dominators = tuple(int(n) for n in numbers[better][best_first])
        return Verdict(step, value, len(rows), front, place, kept, dominators, at_least)

    def _rung(self, rung: int) -> _Rung:
        if rung not in self._rungs:
            self._rungs[rung] = _Rung(1 + len(self._pruner.costs))
        return self._rungs[rung]


def _sorted(rows: Floats) -> Ints:
    """The front of every row."""
    fronts, left = np.zeros(len(rows), dtype=np.int64), np.arange(len(rows))
    while len(left):
        left = left[~nondominated(rows[left])]
        fronts[left] += 1
    return fronts
