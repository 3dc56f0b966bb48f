"""What `ParetoPruner` decides, from arrays that grow with the reports.

The pruner itself is a function of `study.get_trials()`: it reads every trial again for each answer,
and compares each with each, which grows with the square of their number. Here the values at every
rung are kept with their deficits, and an answer takes one look at each row. The answers are the
pruner's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from search.pareto_pruner import LEARNT, ParetoPruner, Verdict, deficits, shortfalls

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class _Rung:
    """Who has reached it: one row a trial, its value (to be minimised) and its costs in bands.

    The deficits of the rows are kept as rows come.
    """

    def __init__(self, columns: int) -> None:
        self._rows: Floats = np.empty((16, columns))
        self._numbers: Ints = np.empty(16, dtype=np.int64)
        self._deficits: Floats = np.empty(16)
        self._row: dict[int, int] = {}

    def all(self) -> tuple[Floats, Ints, Floats]:
        """Rows, the trials' numbers, and their deficits."""
        size = len(self._row)
        return self._rows[:size], self._numbers[:size], self._deficits[:size]

    def put(self, number: int, row: tuple[float, ...]) -> None:
        """One more: it is behind who costs no more, and who costs no less may now be behind it."""
        at = len(self._row)
        if at == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._numbers = np.concatenate([self._numbers, np.empty_like(self._numbers)])
            self._deficits = np.concatenate([self._deficits, np.empty_like(self._deficits)])
        rows, _, known = self.all()
        new = np.array(row)
        affordable = (rows[:, 1:] <= new[1:]).all(axis=1)
        dearer = (rows[:, 1:] >= new[1:]).all(axis=1)
        known[dearer] = np.maximum(known[dearer], rows[dearer, 0] - new[0])
        self._row[number] = at
        self._rows[at], self._numbers[at] = new, number
        self._deficits[at] = new[0] - rows[affordable, 0].min(initial=new[0])

    def drop(self, number: int) -> None:
        """One less, if it is there: only who was behind it alone may now be less behind."""
        at = self._row.pop(number, None)
        if at is None:
            return
        gone = self._rows[at].copy()
        if at < (last := len(self._row)):  # the last one takes its row
            moved = int(self._numbers[last])
            self._rows[at], self._numbers[at] = self._rows[last], moved
            self._deficits[at] = self._deficits[last]
            self._row[moved] = at
        rows, _, known = self.all()
        dearer = (rows[:, 1:] >= gone[1:]).all(axis=1)
        behind = dearer & (known > 0) & (rows[:, 0] - gone[0] == known)
        known[behind] = shortfalls(rows[behind], rows)

    def row(self, number: int) -> int:
        """Where a trial stands."""
        return self._row[number]

    def rows_of(self, numbers: Ints) -> Ints:
        """Where trials stand, -1 for one that is not here."""
        return np.array([self._row.get(number, -1) for number in numbers.tolist()], dtype=np.int64)


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
        self._ends = _Rung(1 + len(pruner.costs))  # of the complete trials, their last values

    def begin(self, number: int, bands: tuple[float, ...]) -> None:
        """A trial starts, with its costs in bands."""
        self._bands[number] = bands

    def report(self, number: int, step: int, value: float) -> None:
        """Its value at a step after those before."""
        before = self._last.get(number, (0, 0.0))[0]
        self._last[number] = step, value
        self._due.pop(number, None)
        for rung in self._pruner.rungs(step):
            if rung > before:
                self._due[number] = rung
                if math.isfinite(value):
                    self._rung(rung).put(number, (self._sign * value, *self._bands[number]))

    def complete(self, number: int) -> None:
        """It has trained to its end."""
        if number in self._last and math.isfinite(value := self._last[number][1]):
            self._ends.put(number, (self._sign * value, *self._bands[number]))

    def drop(self, number: int) -> None:
        """It has failed, or begins anew: what it has reported counts for nobody."""
        self._last.pop(number, None)
        self._due.pop(number, None)
        for rung in self._rungs.values():
            rung.drop(number)

    def stops(self, number: int) -> Verdict | None:
        """Why the trial ends at its newest step; None where it goes on, or is between rungs."""
        verdict = self.judge(number)
        return verdict if verdict is not None and self._pruner.ends(number, verdict) else None

    def judge(self, number: int) -> Verdict | None:
        """How the trial stands at the rung its newest step has reached; None between rungs."""
        at = self._due.get(number)
        if at is None:
            return None
        step, value = self._last[number]
        if not math.isfinite(value):
            return Verdict(step, value, 0, 0.0, 0, 0, 0.0, ())
        rung = self._rungs[at]
        rows, numbers, behind = rung.all()
        own, mine = rows[rung.row(number)], behind[rung.row(number)]
        seen = self._seen(rows, own)
        better = (rows <= own).all(axis=1) & (rows < own).any(axis=1)
        best_first = np.lexsort((numbers[better], rows[better, 0]))
        return Verdict(
            step=step,
            value=value,
            rivals=int(seen.sum()),
            deficit=float(mine),
            place=int((behind[seen] < mine).sum()),
            kept=math.ceil(int(seen.sum()) / self._pruner.reduction_factor),
            comeback=max(self._comebacks(at, own), default=0.0),
            dominators=tuple(int(n) for n in numbers[better][best_first]),
        )

    def _comebacks(self, at: int, own: Floats) -> Iterator[float]:
        """For each later front the largest deficit at a rung of those who are on it."""
        rung = self._rungs[at]
        _, _, behind = rung.all()
        later = self._pruner.after(at)
        while later in self._rungs:
            if (found := self._from_behind(rung, self._rungs[later], own, behind)) is None:
                break
            yield found
            later = self._pruner.after(later)
        if (found := self._from_behind(rung, self._ends, own, behind)) is not None:
            yield found

    def _from_behind(self, rung: _Rung, later: _Rung, own: Floats, behind: Floats) -> float | None:
        """The largest deficit at `rung` of who is on the front of `later`; None where too few are
        known at both.
        """
        rows, numbers, gaps = later.all()
        before = rung.rows_of(numbers)
        both = np.asarray(self._seen(rows, own) & (before >= 0))
        if both.sum() < LEARNT:
            return None
        if (before < 0).any():  # a number here and none there: it is no rival, nor on the front
            gaps = np.zeros_like(gaps)
            gaps[both] = deficits(rows[both])
        return float(behind[before[both & (gaps == 0)]].max())

    def _seen(self, rows: Floats, own: Floats) -> Bools:
        """The rivals among rows. Whoever is ahead of one of them is one of them: with `cheaper`
        their deficits are the same.
        """
        if not self._cheaper:
            return np.ones(len(rows), dtype=np.bool_)
        return np.asarray((rows[:, 1:] <= own[1:]).all(axis=1))

    def _rung(self, rung: int) -> _Rung:
        if rung not in self._rungs:
            self._rungs[rung] = _Rung(1 + len(self._pruner.costs))
        return self._rungs[rung]
