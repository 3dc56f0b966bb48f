"""The Pareto front: costs in bands, non-dominated ranks, the front of a study and its hypervolume.

A point is a vector to be minimised. Costs that differ by less than their tolerance are the same
cost: broken by a hundred parameters in millions, a front would list noise as trade-offs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.trial import COSTS
from spaces.latency import LATENCIES
from spaces.objectives import judged_by, tasks
from spaces.settings import TOLERANCES

if TYPE_CHECKING:
    from search.trial import Trial
    from spaces import Space
    from spaces.settings import Objective

Points: TypeAlias = NDArray[np.float64]

FINEST = 1e-12
"""A tolerance below this is none: doubles do not tell such costs apart."""
AT_ONCE = 64
"""Rows that are compared with all others at a time."""


def judged(objectives: Iterable[str]) -> str | None:
    """The first objective that is trained for: the accuracy, say. None where there is none."""
    return next((name for name in objectives if name not in (*COSTS, *LATENCIES)), None)


def foreseen(objectives: Mapping[str, Objective]) -> dict[str, float]:
    """The costs that a pruner goes by, with their tolerances: those known before training.

    No latency is, so MACs stand in for it: by accuracy alone, fast networks would look like bad
    ones.
    """
    costs = {name: goal.tolerance for name, goal in objectives.items() if name in COSTS}
    if "macs" not in costs and any(name in LATENCIES for name in objectives):
        costs["macs"] = TOLERANCES["macs"]
    return costs


def band(cost: float, tolerance: float) -> float:
    """The band a cost lies in: `round(ln cost / ln(1 + tolerance))`, a whole number.

    Equal bands are equal costs. With a tolerance of 0 (or below `FINEST`) there are no bands and
    the cost stands for itself. A cost of 0 lies below all bands; one below 0 raises ValueError, and
    so does NaN.
    """
    if tolerance < FINEST:
        return cost
    if not cost >= 0:
        raise ValueError(f"only a cost of 0 or more lies in a band (got {cost})")
    if cost == 0:
        return -math.inf
    return round(math.log(cost) / math.log1p(tolerance))


@dataclass(frozen=True, slots=True)
class Axis:
    """An objective to be minimised; hypervolume counts how far below its `origin` a value lies."""

    name: str
    objective: Objective
    origin: float

    @property
    def known(self) -> bool:
        """Whether it is known before training."""
        return self.name in COSTS

    def of(self, value: float) -> float:
        """The place of a value; that of a cost or a latency is its logarithm, in bands."""
        return _place(self.name, self.objective, value)


def axes(
    objectives: Mapping[str, Objective], chance: float, reference: Mapping[str, float]
) -> list[Axis]:
    """The objectives as axes. A name in `reference` sets that one's origin; without it an accuracy
    begins at `chance`, a loss at that of guessing, -ln(chance), and anything else that goes up at
    0. Raises ValueError for any other without a reference.
    """
    found = []
    for name, objective in objectives.items():
        if name in reference:
            origin = reference[name]
        elif objective.goal == "max":
            origin = chance if name.endswith("accuracy") else 0.0
        elif name.endswith("loss"):
            origin = -math.log(chance)
        else:
            raise ValueError(f"the hypervolume needs a reference for {name!r}")
        found.append(Axis(name, objective, _place(name, objective, origin)))
    return found


def origins(space: Space, chance: float, reference: Mapping[str, float]) -> dict[str, float]:
    """What hypervolume is measured from in a study: `reference`, and chance for the task's metric.

    `chance` is what guessing scores by that metric.
    """
    metric = judged_by(tasks(space.tree))
    ours = [f"{part}_{metric}" for part in ("val", "test")]
    objectives = space.search.objectives
    guessed = {n: chance for n in ours if n in objectives and objectives[n].goal == "max"}
    return {**guessed, **reference}


def comparable(
    values: Sequence[Mapping[str, float]], objectives: Mapping[str, Objective]
) -> Points:
    """Rows to be minimised, shape (len(values), len(objectives)): what goes up is negated, what
    goes down is replaced by its band.
    """
    rows = [[_down(row[name], goal) for name, goal in objectives.items()] for row in values]
    return np.array(rows, dtype=np.float64).reshape(len(values), len(objectives))


def ranks(points: ArrayLike) -> NDArray[np.int64]:
    """Non-dominated rank of every row of `points` (n, d), to be minimised; 0 is the front.

    A row dominates another when it is nowhere worse and somewhere better, so equal rows share
    their rank. Raises ValueError on NaN, which has no rank. O(d n^2) time, O(n^2) memory.
    """
    rows = _rows(points)
    dominates = _dominates(rows, rows)
    result = np.full(len(rows), -1, dtype=np.int64)
    dominators = dominates.sum(axis=0)
    rank = 0
    while (peel := (dominators == 0) & (result < 0)).any():
        result[peel] = rank
        dominators -= dominates[peel].sum(axis=0)
        rank += 1
    return result


def nondominated(points: ArrayLike) -> NDArray[np.bool_]:
    """Which rows of `points` (n, d), to be minimised, no other dominates; equal rows share that.

    Raises ValueError on NaN. O(n d) for each member of the front.
    """
    given = _rows(points)
    left = np.lexsort(given.T[::-1])  # whoever dominates a row comes before it
    mask = np.zeros(len(given), dtype=bool)
    while len(left):
        first, left = left[:AT_ONCE], left[AT_ONCE:]
        members = first[~_dominates(given[first], given[first]).any(axis=0)]
        mask[members] = True
        left = left[~_dominates(given[members], given[left]).any(axis=0)]
    return mask


def _dominates(some: Points, others: Points) -> NDArray[np.bool_]:
    """Which rows are nowhere worse than which others, and somewhere better; shape (n, m)."""
    no_worse = np.ones((len(some), len(others)), dtype=bool)
    better = np.zeros_like(no_worse)
    for own, its in zip(some.T, others.T, strict=True):
        no_worse &= own[:, None] <= its
        better |= own[:, None] < its
    return no_worse & better


def networks(trials: Iterable[Trial], objectives: Mapping[str, Objective]) -> list[Trial]:
    """Each finished network (an identity) by its trial that is best in the objective it is judged
    by, the lowest number among equals; the best first.
    """
    found: dict[str, Trial] = {}
    for trial in sorted(_finished(trials), key=lambda trial: _merit(trial, objectives)):
        found.setdefault(trial.identity, trial)
    return list(found.values())


def front(trials: Iterable[Trial], objectives: Mapping[str, Objective]) -> list[Trial]:
    """The non-dominated networks among the finished trials, cheapest first.

    A network appears once, as in `networks`; those with equal values are all kept. The order is
    that of the first cost (without one: of the first objective, best first), then of the trial
    numbers.
    """
    best = networks(trials, objectives)
    points = comparable([measured(trial) for trial in best], objectives)
    members = [trial for trial, there in zip(best, nondominated(points), strict=True) if there]
    first, *_ = [name for name, goal in objectives.items() if goal.goal == "min"] or objectives
    sign = 1 if objectives[first].goal == "min" else -1
    return sorted(members, key=lambda trial: (sign * measured(trial)[first], trial.number))


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Exact volume between `points` (n, d), to be minimised, and `reference` (d,).

    What lies at or beyond the reference in any objective adds nothing. By slicing along the last
    objective: O(n log n) for d <= 2, a factor n more for each further one. Raises ValueError on
    NaN, on a point at minus infinity and on a reference that is not finite.
    """
    rows, corner = _rows(points), np.asarray(reference, dtype=np.float64)
    if not np.isfinite(corner).all() or np.isneginf(rows).any():
        raise ValueError("a hypervolume needs a finite reference and no point at -inf")
    if len(rows) == 0:
        return 0.0
    if corner.shape != rows.shape[1:]:
        raise ValueError(f"{rows.shape[1]} objectives against a reference of {len(corner)}")
    return _volume(rows[(rows < corner).all(axis=1)], corner)


def study_hypervolume(
    trials: Iterable[Trial],
    objectives: Mapping[str, Objective],
    chance: float,
    reference: Mapping[str, float],
) -> float:
    """Volume under the front of the finished trials; unnormalised, natural logarithms.

    Each objective is an axis (`axes`) that grows towards what is better: an accuracy over
    `accuracy - chance`; a cost or a latency over `ln(reference / cost)`, both in bands; a loss over
    `-ln(chance) - loss`, the nats below guessing; any other by the plain difference. Values at or
    beyond their origin add nothing.
    """
    along = axes(objectives, chance, reference)
    rows = [
        [axis.of(value[axis.name]) - axis.origin for axis in along]
        for value in map(measured, front(trials, objectives))
    ]
    points = np.array(rows, dtype=np.float64).reshape(len(rows), len(along))
    return hypervolume(points, np.zeros(len(along)))


def history(
    trials: Iterable[Trial],
    objectives: Mapping[str, Objective],
    chance: float,
    reference: Mapping[str, float],
) -> Iterator[tuple[Trial, float]]:
    """The finished trials in the order they ended, each with the hypervolume reached by then."""
    best: dict[str, Trial] = {}
    members: list[Trial] = []
    volume = 0.0
    for trial in sorted(_finished(trials), key=lambda trial: (trial.ended or 0.0, trial.number)):
        rival = best.get(trial.identity)
        if rival is None or _merit(trial, objectives) < _merit(rival, objectives):
            best[trial.identity] = trial
            # A new network meets only the front; one that replaces its own older trial may also
            # free what that trial had dominated, so then all are asked again.
            pool = [*members, trial] if rival is None else list(best.values())
            members = front(pool, objectives)
            if rival is not None or any(member is trial for member in members):
                volume = study_hypervolume(members, objectives, chance, reference)
        yield trial, volume


def measured(trial: Trial) -> dict[str, float]:
    """All that is known of a trial under the names of objectives: costs, latencies, results."""
    return {**trial.untrained, **(trial.objectives or {})}


def _finished(trials: Iterable[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.outcome == "finished" and trial.objectives]


def _merit(trial: Trial, objectives: Mapping[str, Objective]) -> tuple[float, int]:
    """Order among trials of one network, whose costs are equal: its result, then the number."""
    name = judged(objectives)
    result = 0.0 if name is None else _down(measured(trial)[name], objectives[name])
    return result, trial.number


def _down(value: float, goal: Objective) -> float:
    """The value as one to be minimised."""
    return -value if goal.goal == "max" else band(value, goal.tolerance)


def _place(name: str, objective: Objective, value: float) -> float:
    """A value on its axis, to be minimised."""
    if name not in (*COSTS, *LATENCIES):
        return -value if objective.goal == "max" else value
    if objective.tolerance < FINEST:
        return math.log(value) if value > 0 else -math.inf
    return band(value, objective.tolerance) * math.log1p(objective.tolerance)


def _rows(points: ArrayLike) -> Points:
    rows = np.asarray(points, dtype=np.float64)
    if rows.size == 0:
        return rows.reshape(0, rows.shape[-1] if rows.ndim == 2 else 0)
    if rows.ndim != 2:
        raise ValueError(f"points are the rows of a matrix (got shape {rows.shape})")
    if np.isnan(rows).any():
        raise ValueError("NaN cannot be ranked")
    return rows


def _volume(rows: Points, corner: Points) -> float:
    """Hypervolume of rows that all lie below the corner."""
    if len(rows) == 0:
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - rows[:, 0].min())
    rows = rows[np.argsort(rows[:, -1], kind="stable")]
    if len(corner) == 2:
        lowest = np.minimum.accumulate(rows[:, 0])
        ceilings = np.append(rows[1:, 1], corner[1])
        return float(((corner[0] - lowest) * (ceilings - rows[:, 1])).sum())
    ceilings = np.append(rows[1:, -1], corner[-1])
    return sum(
        float(ceiling - row[-1]) * _volume(rows[: index + 1, :-1], corner[:-1])
        for index, (row, ceiling) in enumerate(zip(rows, ceilings, strict=True))
        if ceiling > row[-1]
    )
