"""What `ParetoPruner` decides, from arrays that grow with the reports.

The pruner itself is a function of `study.get_trials()`: it reads every trial again for each answer,
and sorts all of them, which grows with the square of their number. Here the values at each rung are
kept, and the sorting goes as far as the answer needs. The answers are the pruner's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from search.pareto import nondominated, ranks
from search.pareto_pruner import ParetoPruner, Verdict, deficits

Floats = NDArray[np.float64]


@dataclass
class _Rung:
    """Who has reached it: one row a trial, its value (to be minimised) and its costs in bands."""

    rows: Floats
    numbers: NDArray[np.int64]
    place: dict[int, int] = field(default_factory=dict)  # trial -> row

    def put(self, number: int, row: tuple[float, ...]) -> None:
        if len(self.place) == len(self.rows):
            self.rows = np.concatenate([self.rows, np.empty_like(self.rows)])
            self.numbers = np.concatenate([self.numbers, np.empty_like(self.numbers)])
        at = self.place[number] = len(self.place)
        self.rows[at], self.numbers[at] = row, number

    def drop(self, number: int) -> None:
        at = self.place.pop(number, None)
        if at is not None and at < (last := len(self.place)):  # the last one takes its row
            moved = int(self.numbers[last])
            self.rows[at], self.numbers[at] = self.rows[last], moved
            self.place[moved] = at


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
        known = self._rungs[rung]
        own = known.rows[known.place[number]]
        points, numbers = known.rows[: len(known.place)], known.numbers[: len(known.place)]
        if self._cheaper:
            seen = (points[:, 1:] <= own[1:]).all(axis=1)
            points, numbers = points[seen], numbers[seen]
        better = (points <= own).all(axis=1) & (points < own).any(axis=1)
        kept = math.ceil(len(points) / self._pruner.reduction_factor)
        if not better.any():
            return None
        place = int(better.sum())  # at least: each of them is in an earlier front
        rank = None
        if place < kept:
            rank, place = _standing(points, better, own)
        if place < kept:
            return None
        best_first = np.lexsort((numbers[better], points[better, 0]))
        dominators = tuple(int(n) for n in numbers[better][best_first])
        return Verdict(step, value, len(points), rank, place, kept, dominators)

    def _rung(self, rung: int) -> _Rung:
        if rung not in self._rungs:
            columns = 1 + len(self._pruner.costs)
            self._rungs[rung] = _Rung(np.empty((16, columns)), np.empty(16, dtype=np.int64))
        return self._rungs[rung]


def _standing(points: Floats, better: NDArray[np.bool_], own: Floats) -> tuple[int, int]:
    """The front that `own` is in (0 is the first) and how many of the points are ahead of it.

    `better` are those that dominate it. Whoever dominates one of them dominates it too, so that its
    front is known from them alone, and only the fronts down to there are taken off the others.
    """
    rank = 1 + int(ranks(points[better]).max())
    left = np.arange(len(points))
    ahead = 0
    for _ in range(rank):
        front = nondominated(points[left])
        ahead += int(front.sum())
        left = left[~front]
    peers = points[left][nondominated(points[left])]
    gap = deficits(own[None, :], points)[0]
    return rank, ahead + int((deficits(peers, points) < gap).sum())
