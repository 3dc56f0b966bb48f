"""What `ParetoPruner` decides, from arrays that grow with the reports.

The pruner itself is a function of `study.get_trials()`: it reads every trial again for each answer,
and compares each with each, which grows with the square of their number. Here the values at every
rung are kept with their deficits, and an answer takes one look at each row. The answers are the
pruner's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from search.pruning.pareto_pruner import (
    Comeback,
    Margin,
    ParetoPruner,
    Verdict,
    comeback,
    deficits,
    margin,
    shortfalls,
)

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
        self._before: dict[int, Ints] = {}  # where its rows stood at an earlier rung
        self.changes = 0
        """How often rows have come and gone."""

    def all(self) -> tuple[Floats, Ints, Floats]:
        """Rows, the trials' numbers, and their deficits."""
        size = len(self._row)
        return self._rows[:size], self._numbers[:size], self._deficits[:size]

    def put(self, number: int, row: tuple[float, ...]) -> None:
        """One more: it is behind who costs no more, and who costs no less may now be behind it."""
        self.changes += 1
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
        self.changes += 1
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

    def rows_at(self, earlier: int, rung: _Rung) -> Ints:
        """Where these rows stand at a rung before, -1 for who is not there; kept as rows come, as
        who has left one (`forget`) has left all.
        """
        known = self._before.get(earlier, np.empty(0, dtype=np.int64))
        if len(known) < (size := len(self._row)):
            new = self._numbers[len(known) : size].tolist()
            found = np.array([rung._row.get(number, -1) for number in new], dtype=np.int64)
            known = self._before[earlier] = np.concatenate([known, found])
        return known

    def forget(self) -> None:
        """Rows of this rung, or of one before, have moved."""
        self._before.clear()


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
        # trial -> the newest rung that it has reached, at which step, and its value there
        self._newest: dict[int, tuple[int, int, float]] = {}
        self._margins: dict[int, tuple[list[int], Margin]] = {}  # by rung, as long as none changes
        self._rungs: dict[int, _Rung] = {}
        self._order: list[int] = []
        self._ends = _Rung(1 + len(pruner.costs))  # of the complete trials, their last values

    def begin(self, number: int, bands: tuple[float, ...]) -> None:
        """A trial starts, with its costs in bands."""
        self._bands[number] = bands

    def report(self, number: int, step: int, value: float) -> None:
        """Its value at a step after those before."""
        before = self._last.get(number, (0, 0.0))[0]
        self._last[number] = step, value
        for rung in self._pruner.rungs(step):
            if rung > before:
                self._newest[number] = rung, step, value
                if math.isfinite(value):
                    self._rung(rung).put(number, (self._sign * value, *self._bands[number]))

    def complete(self, number: int) -> None:
        """It has trained to its end."""
        if number in self._last and math.isfinite(value := self._last[number][1]):
            self._ends.put(number, (self._sign * value, *self._bands[number]))

    def drop(self, number: int) -> None:
        """It has failed, or begins anew: what it has reported counts for nobody."""
        self._last.pop(number, None)
        self._newest.pop(number, None)
        for rung in (*self._rungs.values(), self._ends):
            rung.drop(number)
            rung.forget()

    def stops(self, number: int) -> Verdict | None:
        """Why the trial ends at its newest step; None where it goes on."""
        verdict = self.doomed(number)
        return verdict if verdict is not None and self.ends(number, verdict) else None

    def ends(self, number: int, verdict: Verdict) -> bool:
        """Whether that verdict stops that trial: not where it is of the control arm."""
        return self._pruner.ends(number, verdict)

    def doomed(self, number: int) -> Verdict | None:
        """Why it would end there, were it not of the control arm; None where it would go on."""
        verdict = None if self._ahead(number) else self.judge(number)
        return verdict if verdict is not None and verdict.stops else None

    def _ahead(self, number: int) -> bool:
        """Whether nobody is ahead of it at its newest rung: most are asked about no further."""
        at, _, value = self._newest.get(number, (0, 0, math.nan))
        if not (math.isfinite(value) and math.isfinite(self._last[number][1])):
            return False
        rung = self._rungs[at]
        return bool(rung.all()[2][rung.row(number)] <= 0)

    def judge(self, number: int) -> Verdict | None:
        """How the trial stands at the newest rung it has reached; None before the first."""
        if number not in self._newest:
            return None
        at, step, value = self._newest[number]
        newest, last = self._last[number]
        if not (math.isfinite(last) and math.isfinite(value)):
            return Verdict(newest, value if math.isfinite(last) else last, 0, 0.0, 0, 0, 0.0, ())
        rung = self._rungs[at]
        rows, numbers, behind = rung.all()
        own, mine = rows[rung.row(number)], behind[rung.row(number)]
        seen = self._seen(rows, own)
        rivals = int(seen.sum())
        better = (rows <= own).all(axis=1) & (rows < own).any(axis=1)
        best_first = np.lexsort((numbers[better], rows[better, 0]))
        learnt = self._margin(at, own)
        return Verdict(
            step=step,
            value=value,
            rivals=rivals,
            deficit=float(mine),
            place=int((behind[seen] < mine).sum()),
            kept=0 if learnt.enough else math.ceil(rivals / self._pruner.reduction_factor),
            margin=learnt.margin,
            dominators=tuple(int(n) for n in numbers[better][best_first]),
        )

    def _margin(self, at: int, own: Floats) -> Margin:
        """The margin of a rung for a trial of these costs; remembered where all are rivals."""
        here = self._rungs[at]
        *_, before = (None, *self._pruner.rungs(at - 1))
        hence = [self._rungs[rung] for rung in self._order if rung > at] + [self._ends]
        thence = self._rungs.get(before) if before is not None else None
        changes = [rung.changes for rung in (thence or here, here, *hence)]
        known = self._margins.get(at)
        if not self._cheaper and known is not None and known[0] == changes:
            return known[1]
        hither = None if before is None else Comeback(0, 0.0)
        if before is not None and thence is not None:
            hither = self._came_back(before, here, own)
        learnt = margin([self._came_back(at, later, own) for later in hence], hither)
        self._margins[at] = changes, learnt
        return learnt

    def _came_back(self, at: int, later: _Rung, own: Floats) -> Comeback:
        """What a later front tells of a rung."""
        rung = self._rungs[at]
        rows, _, gaps = later.all()
        before = later.rows_at(at, rung)
        both = np.asarray(self._seen(rows, own) & (before >= 0))
        behind = rung.all()[2][before[both]]
        if (before < 0).any():  # a number here and none there: it is no rival, nor on the front
            return comeback(behind, deficits(rows[both]))
        return comeback(behind, gaps[both])

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
            self._order = sorted(self._rungs)
        return self._rungs[rung]
