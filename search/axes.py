"""Objectives as axes to be minimised, the way hypervolume measures them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from search import pareto
from search.trial import COSTS
from spaces.latency import LATENCIES
from spaces.settings import Objective


@dataclass(frozen=True, slots=True)
class Axis:
    """An objective to be minimised; hypervolume counts what lies below its `origin`."""

    name: str
    objective: Objective
    origin: float

    @property
    def known(self) -> bool:
        """Whether it is known before training."""
        return self.name in COSTS

    def of(self, value: float) -> float:
        """The place of a value; that of a cost or a latency is its logarithm, in bands."""
        if self.name not in (*COSTS, *LATENCIES):
            return -value if self.objective.goal == "max" else value
        tolerance = self.objective.tolerance
        if tolerance < pareto.FINEST:
            return math.log(value) if value > 0 else -math.inf
        return pareto.band(value, tolerance) * math.log1p(tolerance)


def axes(
    objectives: Mapping[str, Objective], chance: float, reference: Mapping[str, float]
) -> list[Axis]:
    """The axes of a study's objectives, with the origins of `pareto.study_hypervolume`."""
    found = []
    for name, objective in objectives.items():
        if name in (*COSTS, *LATENCIES):
            origin = Axis(name, objective, 0.0).of(reference[name])
        elif objective.goal == "max":
            origin = -reference.get(name, chance if name.endswith("accuracy") else 0.0)
        else:
            origin = reference[name] if name in reference else -math.log(chance)
        found.append(Axis(name, objective, origin))
    return found
