"""Halving that never stops a member of the front: the pruner for accuracy against known costs.

The rule is the stopping form of asynchronous successive halving (Li et al., "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, section 3.2) with two changes that decide whether it
helps or harms a front. Trials are ordered by their *deficit*: the gap to the best that costs no
more, so that who is on the rung's front is never behind anybody (non-dominated sorting, Schmucker
et al., arXiv 2106.12639, section 3, orders by fronts; within a front all have no deficit). And how
many stop is not fixed but learnt: who is no further behind than networks that came back from there
to the front goes on, whoever is further behind stops. The quota serves while that is not known.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.front.pareto import Points, band

_JUDGED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
CHUNK = 256
"""Rows that are compared with all others at a time."""
FEW = 4
"""Trials of which a front is made at least, so that it tells who came back to it."""
ENOUGH = 8
"""Trials that must have gone further before a rung's own comebacks are the margin."""
MORE = 2.0
"""A comeback seen by f members of a front is taken as 1 + MORE / f times as large."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a trial stands among the `rivals` trials that have reached a rung, itself included.

    `step` is the rung's and `value` the trial's there. `deficit` is its gap to the best value among
    the trials that cost no more (0: nobody is ahead of it), `place` the number of trials with a
    smaller one, `kept` how many go on by quota: none where enough have gone further to do without.
    `margin` is what a trial may be behind and still come back, infinite where nothing tells yet.
    `dominators` are the numbers of the trials that cost no more and do better, the best first.
    """

    step: int
    value: float
    rivals: int
    deficit: float
    place: int
    kept: int
    margin: float
    dominators: tuple[int, ...]

    @property
    def stops(self) -> bool:
        """Whether the trial ends here."""
        if not math.isfinite(self.value):
            return True
        return self.place >= self.kept and self.deficit > self.margin

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return f"{self.value} at epoch {self.step}"
        ahead = " ".join(f"#{number}" for number in self.dominators[:5])
        more = f" and {len(self.dominators) - 5} more" if len(self.dominators) > 5 else ""
        quota = f", the best {self.kept} go on" if self.kept else ""
        return (
            f"place {self.place + 1} of {self.rivals} at epoch {self.step} ({self.value:.4g}, "
            f"{self.deficit:.4g} behind){quota}; more than {self.margin:.4g} is too far to come "
            f"back; better at no more cost: {ahead}{more}"
        )


class ParetoPruner(optuna.pruners.BasePruner):
    """Prunes a single-objective study of the accuracy, knowing what every trial costs.

    The rungs are steps from `first_rung` on, each `spacing` times the one before. From there on a
    trial is asked about at every step: how it stood at the newest rung that it has reached, among
    all that have reached it by now, running, pruned or complete. So who came early is judged by the
    same rivals as who comes late. Its *deficit* is the gap to the best value among those that cost
    no more, costs in bands; who has none is on the rung's front and goes on.

    So does who is no further behind than a *margin*, which is learnt: the largest *comeback*, the
    deficit here of a trial that is on the front of a later rung, or in the end. A front of f
    members has shown f of them, and the next is the largest yet with probability 1 / (f + 1), so it
    is taken as 1 + 2 / f times as large. As long as fewer than `ENOUGH` trials have gone further,
    the margin is also no less than what came back from the rung before to this one, and at the
    first rung it has no end: no trial stops before some others have shown what that epoch tells.
    Then, too, a trial goes on if fewer than `ceil(n / reduction_factor)` of the n there have a
    smaller deficit. A rival that is dominated throughout is on no front, so it moves neither
    margins nor deficits once enough are known.

    A trial that reports NaN or infinity at a rung is stopped there; such rivals do not count, and
    neither do failed ones. A decision is a function of `study.get_trials()`: the order of the
    trials changes nothing, and what is remembered here is only how those that are over stand.

    Args:
        costs: the user attributes that hold a trial's costs, to be minimised, each with the
            relative tolerance within which two costs are equal (0: exact).
        reduction_factor: the divisor of the quota among few, at least 2.
        first_rung: the first step at which trials are judged, at least 1.
        spacing: the ratio between rungs, above 1; they are at least a step apart.
        control: the share of the trials to be stopped that run on all the same, so that a study
            measures what its stopping costs; which, is a function of a trial's number alone.

    Raises:
        ValueError: for an argument out of range; when asked, for a trial without its costs.
    """

    def __init__(
        self,
        *,
        costs: Mapping[str, float] | None = None,
        reduction_factor: int = 3,
        first_rung: int = 1,
        spacing: float = 1.5,
        control: float = 0.0,
    ) -> None:
        self.costs = {"params": 0.01, "macs": 0.01} if costs is None else dict(costs)
        self.reduction_factor = reduction_factor
        self.first_rung = first_rung
        self.spacing = spacing
        self.control = control
        if any(not tolerance >= 0 for tolerance in self.costs.values()):
            raise ValueError(f"the tolerances in costs must not be negative (got {self.costs})")
        if reduction_factor < 2:
            raise ValueError(f"reduction_factor must be at least 2 (got {reduction_factor})")
        if first_rung < 1:
            raise ValueError(f"first_rung must be at least 1 (got {first_rung})")
        if not 1 < spacing < math.inf:
            raise ValueError(f"spacing must be above 1 (got {spacing})")
        if not 0 <= control < 1:
            raise ValueError(f"control must be a share, from 0 to below 1 (got {control})")
        self._over: dict[int, tuple[FrozenTrial, _Standing]] = {}

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial should stop at its last reported step."""
        verdict = self.judge(study, trial)
        return verdict is not None and self.ends(trial.number, verdict)

    def ends(self, number: int, verdict: Verdict) -> bool:
        """Whether a verdict stops that trial: not where it is of the control arm."""
        return verdict.stops and not (math.isfinite(verdict.value) and self.runs_on(number))

    def runs_on(self, number: int) -> bool:
        """Whether that trial is of the control arm: no rival stops it."""
        return self.control > 0 and np.random.default_rng([number, 7]).random() < self.control

    def judge(self, study: optuna.Study, trial: FrozenTrial) -> Verdict | None:
        """How the trial stands at the newest rung it has reached; None before the first."""
        mine = self._standing(trial, self._bands(trial))
        if trial.last_step is None or trial.last_step < self.first_rung:
            return None
        last = trial.intermediate_values[trial.last_step]
        *before, rung = self.rungs(trial.last_step)
        value = mine.at(rung)
        if not (math.isfinite(last) and math.isfinite(value)):
            said = value if math.isfinite(last) else last
            return Verdict(trial.last_step, said, 0, 0.0, 0, 0, 0.0, ())
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        everyone = [mine]
        everyone += [
            self._standing(rival)
            for rival in study.get_trials(deepcopy=False, states=_JUDGED)
            if rival.number != trial.number and rival.intermediate_values
        ]
        points, rivals = _there(rung, everyone, sign)
        behind = deficits(points)
        better = (points <= points[0]).all(axis=1) & (points < points[0]).any(axis=1)
        numbers = np.array([rival.number for rival in rivals])
        best_first = np.lexsort((numbers[better], points[better, 0]))
        ends = np.array([r.values[-1] if r.complete else math.nan for r in rivals])
        later = [came_back(sign * values, points, behind) for values in self._later(rung, rivals)]
        later.append(came_back(sign * ends, points, behind))
        hither = None
        if before:
            earlier, there = _there(before[-1], everyone, sign)
            now = np.array([rival.at(rung) for rival in there])
            hither = came_back(sign * now, earlier, deficits(earlier))
        learnt = margin(later, hither)
        return Verdict(
            step=mine.steps[bisect.bisect_left(mine.steps, rung)],
            value=value,
            rivals=len(rivals),
            deficit=float(behind[0]),
            place=int((behind < behind[0]).sum()),
            kept=0 if learnt.enough else math.ceil(len(rivals) / self.reduction_factor),
            margin=learnt.margin,
            dominators=tuple(int(number) for number in numbers[better][best_first]),
        )

    def _later(self, rung: int, rivals: Sequence[_Standing]) -> Iterator[Points]:
        """The rivals' values at the rungs after one, NaN where they have not come so far."""
        furthest = max(rival.steps[-1] for rival in rivals)
        while (rung := self.after(rung)) <= furthest:
            yield np.array([rival.at(rung) for rival in rivals])

    def rungs(self, step: int) -> Iterator[int]:
        """The rungs up to a step, first to last."""
        rung = self.first_rung
        while rung <= step:
            yield rung
            rung = self.after(rung)

    def after(self, rung: int) -> int:
        """The next rung."""
        return max(rung + 1, round(rung * self.spacing))

    def _standing(self, trial: FrozenTrial, bands: tuple[float, ...] | None = None) -> _Standing:
        """A trial's bands and curve; one that is over is looked at once."""
        known, standing = self._over.get(trial.number, (None, None))
        if standing is None or known is not trial:
            curve = sorted(trial.intermediate_values.items())
            standing = _Standing(
                number=trial.number,
                bands=self._bands(trial) if bands is None else bands,
                steps=[step for step, _ in curve],
                values=[value for _, value in curve],
                complete=trial.state == TrialState.COMPLETE,
            )
            if trial.state.is_finished():
                self._over[trial.number] = trial, standing
        return standing

    def _bands(self, trial: FrozenTrial) -> tuple[float, ...]:
        missing = [name for name in self.costs if name not in trial.user_attrs]
        if missing:
            raise ValueError(
                f"ParetoPruner needs the costs of trial {trial.number} in its user attributes: "
                f"{', '.join(missing)} missing (trial.set_user_attr before trial.report)"
            )
        return tuple(band(trial.user_attrs[name], tol) for name, tol in self.costs.items())


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a comparison needs of a trial: the bands of its costs, and its curve in order."""

    number: int
    bands: tuple[float, ...]
    steps: Sequence[int]
    values: Sequence[float]
    complete: bool

    def at(self, rung: int) -> float:
        """The value at the first step that reached the rung; NaN where none has."""
        place = bisect.bisect_left(self.steps, rung)
        return self.values[place] if place < len(self.values) else math.nan


def _there(rung: int, everyone: Sequence[_Standing], sign: float) -> tuple[Points, list[_Standing]]:
    """Who has come to a rung, as points to be minimised; `sign` times a value is."""
    rivals = [one for one in everyone if math.isfinite(one.at(rung))]
    rows = [(sign * one.at(rung), *one.bands) for one in rivals]
    return np.array(rows, dtype=np.float64), rivals


def deficits(points: Points) -> Points:
    """For each row the gap in column 0 to the best row that is nowhere dearer; at least 0."""
    return shortfalls(points, points)


def shortfalls(those: Points, points: Points) -> Points:
    """The same of `those` rows, which are some of `points`.

    All pairs at once would take hundreds of megabytes where there are thousands of rows.
    """
    gaps = np.empty(len(those))
    for start in range(0, len(those), CHUNK):
        some = those[start : start + CHUNK]
        affordable = np.ones((len(some), len(points)), dtype=bool)
        for own, cost in zip(some[:, 1:].T, points[:, 1:].T, strict=True):
            affordable &= cost[None, :] <= own[:, None]
        best = np.where(affordable, points[None, :, 0], np.inf).min(axis=1, initial=np.inf)
        gaps[start : start + CHUNK] = some[:, 0] - best
    return gaps


class Comeback(NamedTuple):
    """What a later front tells of a rung: of how many `known` at both it is made, and by how much
    they were behind who came `furthest` to it, one more to come allowed for.
    """

    known: int
    furthest: float


class Margin(NamedTuple):
    """What a trial may be behind at a rung, and whether `enough` have gone further to say it."""

    margin: float
    enough: bool


def margin(later: Sequence[Comeback], hither: Comeback | None) -> Margin:
    """The margin of a rung from what came back to each front after it, and what came back `hither`
    from the rung before (None: this is the first).
    """
    told = max((one.furthest for one in later if one.known >= FEW), default=0.0)
    if max((one.known for one in later), default=0) >= ENOUGH:
        return Margin(told, True)
    if hither is None or hither.known < FEW:
        return Margin(math.inf, False)
    return Margin(max(told, hither.furthest), False)


def comeback(behind: Points, gaps: Points) -> Comeback:
    """From the deficits (n,) of the same trials at a rung and on a later front (`gaps`)."""
    members = behind[gaps == 0]
    if not len(members):
        return Comeback(0, 0.0)
    return Comeback(len(behind), float(members.max()) * (1 + MORE / len(members)))


def came_back(later: Points, points: Points, behind: Points) -> Comeback:
    """The same from `later` values (n,), NaN where unknown, and the `points` of the rung."""
    known = np.isfinite(later)
    return comeback(behind[known], deficits(np.column_stack([later[known], points[known, 1:]])))
