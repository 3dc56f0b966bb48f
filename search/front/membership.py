"""How sure a front is: the probability that each network belongs to it, seeds being noisy.

A front of single trainings is partly luck. Costs are exact, latencies stand for their bands, and
only the objective that is judged by is redrawn: around each network's mean, with the noise that the
study's own replicates show. A second trained objective is taken as it is.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from search.front import pareto
from search.trial import Trial

if TYPE_CHECKING:
    from spaces.settings import Objective

Values: TypeAlias = NDArray[np.float64]

REDRAWS = 2000
"""Fronts drawn; the standard error of a probability is at most 1.1 %."""
SEVERAL = 10
"""Seeds from which a network speaks for itself; fewer say too little of their own spread."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The standard deviation of one training from its seed alone, with its degrees of freedom."""

    sd: float
    df: int


def noise(trials: Iterable[Trial], metric: str) -> Noise | None:
    """Pooled over all that was trained with several seeds; None where nothing was."""
    squares, df = 0.0, 0
    for trial in trials:
        values = finals(trial, metric)
        if len(values) > 1:
            squares += statistics.variance(values) * (len(values) - 1)
            df += len(values) - 1
    return Noise(math.sqrt(squares / df), df) if df else None


def finals(trial: Trial, metric: str) -> list[float]:
    """The last epoch's value of every finished seed."""
    return [
        replicate.curve[-1][metric]
        for replicate in trial.replicates
        if replicate.outcome == "finished" and metric in replicate.curve[-1]
    ]


def membership(
    trials: Iterable[Trial], objectives: Mapping[str, Objective], *, seed: int = 0
) -> dict[int, float] | None:
    """Trial number -> probability that its network is on the true front; None where noise is
    unknown, as no network was trained with two seeds (or nothing is trained for).

    For each of `REDRAWS` redraws a noise level is drawn (the pooled sd, with what its degrees of
    freedom leave open) and every network's mean of n seeds anew, normal with sd / sqrt(n), or from
    `SEVERAL` seeds on by resampling them; the front is taken with costs in their bands. That is the
    posterior under a flat prior: it does not know that the best of many was chosen for being lucky,
    which `confirm` measures. Networks and their trials are those of `pareto.front`. The same study
    gives the same figures.
    """
    trials = list(trials)
    metric = pareto.judged(objectives)
    known = None if metric is None else noise(trials, metric)
    if metric is None or known is None:
        return None
    networks = pareto.networks(trials, objectives)
    others = {name: goal for name, goal in objectives.items() if name != metric}
    costs = pareto.comparable([pareto.measured(trial) for trial in networks], others)
    values = _comparable(_redrawn(networks, metric, known, seed), objectives[metric])
    shares = _members(values, costs).mean(axis=0)
    return {trial.number: float(share) for trial, share in zip(networks, shares, strict=True)}


def _redrawn(networks: Sequence[Trial], metric: str, known: Noise, seed: int) -> Values:
    """Means as they might have come out, (redraws, networks)."""
    means = np.array([pareto.measured(trial)[metric] for trial in networks])
    counts = np.array([trial.n for trial in networks])
    source = np.random.default_rng(seed)
    levels = known.sd * np.sqrt(known.df / source.chisquare(known.df, size=(REDRAWS, 1)))
    errors = levels / np.sqrt(counts) * source.standard_normal((REDRAWS, len(networks)))
    for place, trial in enumerate(networks):
        seen = np.array(finals(trial, metric))
        if len(seen) >= SEVERAL:
            picked = source.choice(seen, size=(REDRAWS, len(seen))).mean(axis=1)
            # The variance of n values about their own mean is (n - 1) / n of what it estimates.
            errors[:, place] = (picked - seen.mean()) * math.sqrt(len(seen) / (len(seen) - 1))
    values: Values = means + errors
    return values


def _comparable(values: Values, goal: Objective) -> Values:
    """As `pareto.comparable`, for many values of one objective; below 0 no band goes on."""
    if goal.goal == "max":
        return -values
    if goal.tolerance < pareto.FINEST:
        return values
    with np.errstate(divide="ignore"):  # 0 lies below all bands, at minus infinity
        return np.round(np.log(np.maximum(values, 0)) / math.log1p(goal.tolerance))


def _members(values: Values, costs: Values) -> NDArray[np.bool_]:
    """Which networks are on the front of each redraw: (redraws, n) from values (redraws, n) and
    costs (n, d), all to be minimised.
    """
    members = np.ones(values.shape, dtype=bool)
    for place in range(values.shape[1]):
        no_more = (costs <= costs[place]).all(axis=1)
        equal = (costs == costs[place]).all(axis=1)
        mine = values[:, [place]]
        members[:, place] &= ~(values[:, no_more & ~equal] <= mine).any(axis=1)
        members[:, place] &= ~(values[:, equal] < mine).any(axis=1)
    return members
