"""Halving that never stops a member of the front: the pruner for accuracy against known costs.

The rule is the stopping form of asynchronous successive halving (Li et al., "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, section 3.2) with two changes that decide whether it
helps or harms a front. Trials are ordered by their *deficit*: the gap to the best that costs no
more, so that who is on the rung's front is never behind anybody (non-dominated sorting, Schmucker
et al., arXiv 2106.12639, section 3, orders by fronts; within a front all have no deficit). And what
a rung cannot tell yet is learnt: who is no further behind than networks that came back from there
to the front goes on.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.pareto import Points, band

_JUDGED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
CHUNK = 256
"""Rows that are compared with all others at a time."""
LEARNT = 10
"""Trials that must have gone further before their comebacks count: of fewer the front is chance."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a trial stands among the `rivals` trials that have reached a rung, itself included.

    `deficit` is its gap to the best value among the trials that cost no more (0: nobody is ahead of
    it), `place` the number of trials with a smaller one, `kept` how many go on by quota.
    `comeback` is the largest deficit at this rung of a trial that was on the front later; 0 as
    long as too few have gone further. `dominators` are the numbers of the trials that cost no more
    and do better, the best first.
    """

    step: int
    value: float
    rivals: int
    deficit: float
    place: int
    kept: int
    comeback: float
    dominators: tuple[int, ...]

    @property
    def stops(self) -> bool:
        """Whether the trial ends here."""
        if not math.isfinite(self.value):
            return True
        return self.place >= self.kept and self.deficit > self.comeback

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return f"{self.value} at epoch {self.step}"
        ahead = " ".join(f"#{number}" for number in self.dominators[:5])
        more = f" and {len(self.dominators) - 5} more" if len(self.dominators) > 5 else ""
        learnt = f"; none came back from more than {self.comeback:.4g}" if self.comeback else ""
        return (
            f"place {self.place + 1} of {self.rivals} at epoch {self.step} ({self.value:.4g}, "
            f"{self.deficit:.4g} behind), the best {self.kept} go on{learnt}; "
            f"better at no more cost: {ahead}{more}"
        )


class ParetoPruner(optuna.pruners.BasePruner):
    """Prunes a single-objective study of the accuracy, knowing what every trial costs.

    At the rungs, steps from `first_rung` on of which each is `spacing` times the one before, a
    trial is compared with all trials that have reported there, running, pruned or complete. Its
    *deficit* is the gap to the best value among those that cost no more, costs in bands; who has
    none is on the rung's front. The trial goes on if fewer than `ceil(n / reduction_factor)` of the
    n trials have a smaller deficit: always on the front. Trials that are equal in both share their
    place.

    It also goes on where the rung has proved to be too early to tell: as long as its deficit is no
    larger than the largest *comeback*, the deficit here of a trial that is on the front of a later
    rung, or in the end. So the first rung that decides, and by what margin, are learnt from the
    curves, as soon as ten trials have gone further: early values that say little let trials come
    back to the front from far behind, and then few are stopped there. A rival that is dominated
    throughout is on no front, so it moves neither margins nor deficits.

    A trial that reports NaN or infinity at a rung is stopped there; such rivals do not count, and
    neither do failed ones. A decision is a function of `study.get_trials()`: the order of the
    trials changes nothing, and what is remembered here is only how those that are over stand.

    Args:
        costs: the user attributes that hold a trial's costs, to be minimised, each with the
            relative tolerance within which two costs are equal (0: exact).
        reduction_factor: the quota's divisor, at least 2.
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
        """How the trial stands at the rung its last step has reached; None between rungs."""
        own = self._bands(trial)
        rung = self._rung(trial)
        if rung is None or trial.last_step is None:
            return None
        value = trial.intermediate_values[trial.last_step]
        if not math.isfinite(value):
            return Verdict(trial.last_step, value, 0, 0.0, 0, 0, 0.0, ())
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        rivals = [self._standing(trial, own)]
        rivals += [
            standing
            for rival in study.get_trials(deepcopy=False, states=_JUDGED)
            if rival.number != trial.number
            and math.isfinite((standing := self._standing(rival)).at(rung))
        ]
        points = np.array([(sign * r.at(rung), *r.bands) for r in rivals], dtype=np.float64)

        behind = deficits(points)
        better = (points <= points[0]).all(axis=1) & (points < points[0]).any(axis=1)
        numbers = np.array([rival.number for rival in rivals])
        best_first = np.lexsort((numbers[better], points[better, 0]))
        return Verdict(
            step=trial.last_step,
            value=value,
            rivals=len(rivals),
            deficit=float(behind[0]),
            place=int((behind < behind[0]).sum()),
            kept=math.ceil(len(rivals) / self.reduction_factor),
            comeback=self._comeback(rung, rivals, points, behind, sign),
            dominators=tuple(int(number) for number in numbers[better][best_first]),
        )

    def _rung(self, trial: FrozenTrial) -> int | None:
        """The highest rung that the last step is the first to reach."""
        steps = sorted(trial.intermediate_values)
        if not steps or steps[-1] < self.first_rung:
            return None
        rung = max(self.rungs(steps[-1]))
        return rung if len(steps) == 1 or steps[-2] < rung else None

    def rungs(self, step: int) -> Iterator[int]:
        """The rungs up to a step, first to last."""
        rung = self.first_rung
        while rung <= step:
            yield rung
            rung = self.after(rung)

    def after(self, rung: int) -> int:
        """The next rung."""
        return max(rung + 1, round(rung * self.spacing))

    def _comeback(
        self,
        rung: int,
        rivals: Sequence[_Standing],
        points: Points,
        behind: Points,
        sign: float,
    ) -> float:
        """The largest deficit at a rung of a trial that was on a front later.

        That is the front of a later rung which at least `LEARNT` have reached, or of the complete
        ones. `points` and `deficits` are those at the rung; `sign` times a value is to be
        minimised.
        """
        largest = 0.0
        while True:
            rung = self.after(rung)
            there = np.array([rival.at(rung) for rival in rivals])
            if np.isfinite(there).sum() < LEARNT:
                break
            largest = max(largest, _from_behind(sign * there, points, behind))
        ends = np.array([r.values[-1] if r.complete else math.nan for r in rivals])
        if np.isfinite(ends).sum() >= LEARNT:
            largest = max(largest, _from_behind(sign * ends, points, behind))
        return largest

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


def _from_behind(later: Points, points: Points, behind: Points) -> float:
    """The largest deficit (`behind`) of who is on the front of `later`, NaN where unknown."""
    known = np.isfinite(later)
    on_front = deficits(np.column_stack([later[known], points[known, 1:]])) == 0
    return float(behind[known][on_front].max())
