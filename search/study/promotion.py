"""Second chances: a stopped trial that may reach the front after all goes on to its last epoch.

A pruner judges a trial when little is known: its own curve has just begun, and few others have come
to their end. Once all trials are proposed (with a budget: are over) more is known. Where those that
finished stood at the epoch at which one was stopped, and where they came to, is a line with an
error (least squares); its prediction interval (Student's t) gives the probability that the stopped
trial would have beaten whatever costs no more. The likeliest goes on from its checkpoint,
`training.epochs` being its last rung, and what it comes to counts for the next.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search.front import pareto

if TYPE_CHECKING:
    from search.trial import Trial
    from spaces.settings import Objective

FEW = 4
"""Finished trials that a line is drawn through at least."""
EXACT = 1e-20
"""The share of a sum of squares that is rounding and no spread: 1e-10 of each value, whose own
rounding is 1e-16."""


class Promotion(NamedTuple):
    """A trial's number, and its `chance`: the probability to reach the front, 0..1."""

    trial: int
    chance: float


@dataclass(frozen=True, slots=True)
class Line:
    """Last values of `n` trainings over their values at an earlier epoch, by least squares.

    `centre` is the mean of both, `spread` the sum of squares of the earlier values about theirs,
    `error` the variance of the last ones about the line, with n - 2 degrees of freedom.
    """

    n: int
    centre: tuple[float, float]
    slope: float
    spread: float
    error: float

    @classmethod
    def through(cls, early: Sequence[float], last: Sequence[float]) -> Line | None:
        """The line through `FEW` points at least; None where they are fewer, all begin alike, or
        lie on a line exactly: that so few do is chance, and no certainty follows from it.
        """
        if len(early) < FEW:
            return None
        x, y = np.array(early), np.array(last)
        dx, dy = x - x.mean(), y - y.mean()
        spread = float(dx @ dx)
        if spread <= EXACT * float(x @ x):
            return None
        slope = float(dx @ dy) / spread
        left = dy - slope * dx
        error = float(left @ left) / (len(x) - 2)
        if error <= EXACT * float(y @ y):
            return None
        return cls(len(x), (float(x.mean()), float(y.mean())), slope, spread, error)

    def below(self, limit: float, value: float) -> float:
        """The probability that a training at `value` ends below `limit` (infinite: 1)."""
        from scipy.special import stdtr  # most studies promote nothing, and its import takes time

        if math.isinf(limit):
            return float(limit > 0)
        off = value - self.centre[0]
        deviation = math.sqrt(self.error * (1 + 1 / self.n + off * off / self.spread))
        ahead = limit - (self.centre[1] + self.slope * off)
        return float(stdtr(self.n - 2, ahead / deviation))


def following(
    trials: Iterable[Trial],
    objectives: Mapping[str, Objective],
    *,
    least: float,
    dismissed: Collection[int] = (),
) -> Promotion | None:
    """The stopped trial that is likeliest to reach the front; None where none comes to `least`.

    What it may become is read from the finished trials of as many epochs, `FEW` at least; what it
    has to beat are those that cost no more, in bands. Both are told by first seeds alone, of which
    every trial has one. Trials whose numbers are `dismissed`, which a
    person has stopped, stay stopped, and so does one whose last value is not finite. Among equals
    the lower number goes first.
    """
    metric, costs = pareto.judged(objectives), pareto.foreseen(objectives)
    if metric is None:
        return None
    sign = -1.0 if objectives[metric].goal == "max" else 1.0

    def bands(trial: Trial) -> tuple[float, ...]:
        return tuple(pareto.band(trial.costs[name], tol) for name, tol in costs.items())

    def curve(trial: Trial) -> list[float]:
        return [sign * metrics[metric] for metrics in trial.replicates[0].curve]

    ends, spent, curves = [], [], []
    stopped = []
    for trial in trials:
        if trial.outcome == "finished" and trial.objectives is not None:
            curves.append(curve(trial))
            ends.append(curves[-1][-1])
            spent.append(bands(trial))
        elif trial.outcome == "pruned" and trial.number not in dismissed:
            stopped.append(trial)
    if len(ends) < FEW:
        return None
    values, paid = np.array(ends), np.array(spent).reshape(len(ends), len(costs))
    lines: dict[tuple[int, int], Line | None] = {}
    found: Promotion | None = None
    for trial in stopped:
        known, epochs = curve(trial), trial.config["training"]["epochs"]
        if not (known and math.isfinite(known[-1])):
            continue
        reached = (len(known), epochs)
        if reached not in lines:
            peers = [each for each in curves if len(each) == epochs]
            early, last = [each[len(known) - 1] for each in peers], [each[-1] for each in peers]
            lines[reached] = Line.through(early, last)
        line = lines[reached]
        if line is None:
            continue
        affordable = (paid <= np.array(bands(trial))).all(axis=1)
        chance = line.below(float(values[affordable].min(initial=math.inf)), known[-1])
        if chance >= least and (found is None or chance > found.chance):
            found = Promotion(trial.number, chance)
    return found
