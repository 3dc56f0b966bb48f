"""What trials have taught, as a model reads it: places on axes, with what is guessed in them.

A trial that was stopped early teaches what its last value would have become: that value and the
median of what the finished gained from that epoch on, less surely by the spread of those gains. A
network or recipe that is to blame for its own end is as good as the worst, roughly. Trials that
chance has ended teach nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.front import pareto
from search.front.pareto import Axis
from search.trial import Trial, digest_int

Array = NDArray[np.floating[Any]]
BLAMED = ("diverged", "oom", "host_oom", "timeout", "invalid", "bad_report")
"""Ends that the network or its recipe is to blame for."""
GAINS = 3
"""Finished trials that must have gone on from an epoch before a stopped one's value is guessed."""
LOOKED = 64
"""Finished trials of which gains are read."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One trial: its network's row in the encoding, its costs, and its values on the learnt axes.

    `mark` orders trials by nothing that happened; `seeds` is how many trainings the values are the
    mean of. `values` are NaN where nothing is known.
    """

    trial: Trial
    place: int
    mark: int
    paid: tuple[float, ...]
    values: tuple[float, ...]
    seeds: int
    whole: bool
    """Whether it has finished, with a value on every axis."""


@dataclass
class Lessons:
    """Every trial's lesson, read once: a trial that changed is read again."""

    axes: Sequence[Axis]
    known: dict[int, Lesson] = field(default_factory=dict)

    @property
    def costs(self) -> list[Axis]:
        """The axes that are known before training."""
        return [axis for axis in self.axes if axis.known]

    @property
    def learnt(self) -> list[Axis]:
        """Those that are not."""
        return [axis for axis in self.axes if not axis.known]

    def paid(self, costs: dict[str, float]) -> tuple[float, ...]:
        """Costs on their axes."""
        return tuple(axis.of(costs[axis.name]) for axis in self.costs)

    def read(self, trial: Trial, place: int) -> Lesson:
        """The lesson of a trial whose network stands at `place`."""
        told = pareto.measured(trial)
        values = tuple(
            axis.of(told[axis.name]) if axis.name in told else math.nan for axis in self.learnt
        )
        mark = digest_int(trial.key)
        whole = trial.outcome == "finished" and not any(map(math.isnan, values))
        lesson = Lesson(trial, place, mark, self.paid(trial.costs), values, max(1, trial.n), whole)
        self.known[trial.number] = lesson
        return lesson

    def guessed(
        self, finished: Sequence[Lesson], others: Sequence[Lesson], number: int
    ) -> tuple[list[Lesson], Array, Array]:
        """Trials that did not finish but teach axis `number`, with values and their variances."""
        axis = self.learnt[number]
        ends = np.array([lesson.values[number] for lesson in finished])
        found: list[tuple[Lesson, float, float]] = []
        gains: dict[int, tuple[float, float] | None] = {}
        for lesson in others:
            if not math.isnan(lesson.values[number]):  # a latency is known from the first epoch on
                found.append((lesson, lesson.values[number], 0.0))
            elif lesson.trial.outcome in BLAMED and len(ends):
                found.append((lesson, float(ends.max()), float(ends.var())))
            elif lesson.trial.outcome == "pruned":
                curve = _curve(lesson.trial, axis)
                if curve and len(curve) not in gains:
                    gains[len(curve)] = _gained(finished, axis, len(curve))
                if curve and (gain := gains[len(curve)]) is not None:
                    found.append((lesson, curve[-1] + gain[0], gain[1]))
        lessons, values, variances = zip(*found, strict=True) if found else ((), (), ())
        return list(lessons), np.array(values, dtype=float), np.array(variances, dtype=float)


def _gained(finished: Sequence[Lesson], axis: Axis, epoch: int) -> tuple[float, float] | None:
    """Median and variance of what finished trials gained after an epoch; None of too few."""
    gains = []
    for lesson in sorted(finished, key=lambda lesson: lesson.mark)[:LOOKED]:
        curve = _curve(lesson.trial, axis)
        if len(curve) > epoch:
            gains.append(curve[-1] - curve[epoch - 1])
    if len(gains) < GAINS:
        return None
    return float(np.median(gains)), float(np.var(gains))


def _curve(trial: Trial, axis: Axis) -> list[float]:
    """The first seed's curve on an axis, up to where it ends."""
    curve = trial.replicates[0].curve if trial.replicates else ()
    return [axis.of(epoch[axis.name]) for epoch in curve if axis.name in epoch]
