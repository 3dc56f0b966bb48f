"""Halving that never stops a member of the front: the pruner for accuracy against known costs.

The rule is the stopping form of asynchronous successive halving (Li et al., "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, section 3.2) with the order inside a rung taken from
non-dominated sorting (Schmucker et al., arXiv 2106.12639, section 3), and with one exception that
decides whether it helps or harms: who is on the rung's front goes on, whatever the quota says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.pareto import band, ranks

_JUDGED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a trial stands among the `rivals` trials that have reached a rung, itself included.

    `rank` is its front (0: nobody dominates it), `place` the number of trials ahead of it, `kept`
    how many go on by quota; `dominators` are the numbers of the trials that cost no more and do
    better, the best first. With `at_least` the fronts before its own fill the quota, and `place`
    counts those alone.
    """

    step: int
    value: float
    rivals: int
    rank: int
    place: int
    kept: int
    dominators: tuple[int, ...]
    at_least: bool = False

    @property
    def stops(self) -> bool:
        """Whether the trial ends here."""
        return not math.isfinite(self.value) or (self.rank > 0 and self.place >= self.kept)

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return f"{self.value} at epoch {self.step}"
        ahead = " ".join(f"#{number}" for number in self.dominators[:5])
        more = f" and {len(self.dominators) - 5} more" if len(self.dominators) > 5 else ""
        below = " or below" if self.at_least else ""
        return (
            f"place {self.place + 1}{below} of {self.rivals} (front {self.rank + 1}) at "
            f"epoch {self.step} ({self.value:.4g}), the best {self.kept} go on; "
            f"better at no more cost: {ahead}{more}"
        )


class ParetoPruner(optuna.pruners.BasePruner):
    """Prunes a single-objective study of the accuracy, knowing what every trial costs.

    At the rungs, steps `first_rung * reduction_factor ** i`, a trial is compared with all trials
    that have reported there, running, pruned or complete. They are ranked by non-dominated sorting
    of (value, costs in bands). The trial goes on if it is on the front, or if fewer than
    `ceil(n / reduction_factor)` of the n trials are ahead of it. Inside a rank, ahead is who has
    the smaller *deficit*: the gap to the best value among the trials that cost no more. (The value
    itself would favour the expensive end of a rank, crowding would let a bystander decide.) Trials
    that are equal in both share their place.

    A trial that reports NaN or infinity at a rung is stopped there; such rivals do not count, and
    neither do failed ones. Nothing is stored: a decision is a function of `study.get_trials()`.

    Args:
        costs: the user attributes that hold a trial's costs, to be minimised, each with the
            relative tolerance within which two costs are equal (0: exact).
        reduction_factor: the quota's divisor and the ratio between rungs, at least 2.
        first_rung: the first step at which trials are judged, at least 1.

    Raises:
        ValueError: for an argument out of range; when asked, for a trial without its costs.
    """

    def __init__(
        self,
        *,
        costs: Mapping[str, float] | None = None,
        reduction_factor: int = 3,
        first_rung: int = 1,
    ) -> None:
        self.costs = {"params": 0.01, "macs": 0.01} if costs is None else dict(costs)
        self.reduction_factor = reduction_factor
        self.first_rung = first_rung
        if any(not tolerance >= 0 for tolerance in self.costs.values()):
            raise ValueError(f"the tolerances in costs must not be negative (got {self.costs})")
        if reduction_factor < 2:
            raise ValueError(f"reduction_factor must be at least 2 (got {reduction_factor})")
        if first_rung < 1:
            raise ValueError(f"first_rung must be at least 1 (got {first_rung})")

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial should stop at its last reported step."""
        verdict = self.judge(study, trial)
        return verdict is not None and verdict.stops

    def judge(self, study: optuna.Study, trial: FrozenTrial) -> Verdict | None:
        """How the trial stands at the rung its last step has reached; None between rungs."""
        own = self._bands(trial)
        rung = self._rung(trial)
        if rung is None or trial.last_step is None:
            return None
        value = trial.intermediate_values[trial.last_step]
        if not math.isfinite(value):
            return Verdict(trial.last_step, value, 0, 0, 0, 0, ())
        others = {
            rival.number: (_at(rival, rung), self._bands(rival))
            for rival in study.get_trials(deepcopy=False, states=_JUDGED)
            if rival.number != trial.number and math.isfinite(_at(rival, rung))
        }
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        rows = [(value, own), *others.values()]
        points = np.array([(sign * value, *bands) for value, bands in rows], dtype=np.float64)

        rank, deficit = ranks(points), deficits(points, points)
        ahead = (rank < rank[0]) | ((rank == rank[0]) & (deficit < deficit[0]))
        better = (points <= points[0]).all(axis=1) & (points < points[0]).any(axis=1)
        numbers = np.array([trial.number, *others])
        best_first = np.lexsort((numbers[better], points[better, 0]))
        return Verdict(
            step=trial.last_step,
            value=value,
            rivals=len(rows),
            rank=int(rank[0]),
            place=int(ahead.sum()),
            kept=math.ceil(len(rows) / self.reduction_factor),
            dominators=tuple(int(number) for number in numbers[better][best_first]),
        )

    def _rung(self, trial: FrozenTrial) -> int | None:
        """The highest rung that the last step is the first to reach."""
        steps = sorted(trial.intermediate_values)
        if not steps or steps[-1] < self.first_rung:
            return None
        rung = self.first_rung
        while rung * self.reduction_factor <= steps[-1]:
            rung *= self.reduction_factor
        return rung if len(steps) == 1 or steps[-2] < rung else None

    def _bands(self, trial: FrozenTrial) -> tuple[float, ...]:
        missing = [name for name in self.costs if name not in trial.user_attrs]
        if missing:
            raise ValueError(
                f"ParetoPruner needs the costs of trial {trial.number} in its user attributes: "
                f"{', '.join(missing)} missing (trial.set_user_attr before trial.report)"
            )
        return tuple(band(trial.user_attrs[name], tol) for name, tol in self.costs.items())


def _at(trial: FrozenTrial, rung: int) -> float:
    """The value at the first step that reached the rung; NaN where none has."""
    reached = [step for step in trial.intermediate_values if step >= rung]
    return trial.intermediate_values[min(reached)] if reached else math.nan


def deficits(rows: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each row, one of `points`, the gap in column 0 to the best point that is nowhere dearer;
    at least 0.
    """
    affordable = (points[None, :, 1:] <= rows[:, None, 1:]).all(axis=2)
    best = np.where(affordable, points[None, :, 0], np.inf).min(axis=1)
    gaps: NDArray[np.float64] = rows[:, 0] - best
    return gaps
