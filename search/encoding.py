"""What a network is, as numbers: the holes it was made by, its kernels, its costs.

Settings of gamma and b that give the same kernels are the same network, so it is the kernels that
count, and a hole that has no effect has no value: two settings of one network look alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.trial import COSTS, Candidate, Trial
from spaces import Space
from spaces.parameters import Parameter

Array = NDArray[np.float64]
HALF = math.sqrt(0.5)
"""One-hot columns of this height lie 1 apart, as the ends of an interval do."""


class Encoding:
    """Networks of a space as the rows of a matrix, every feature from 0 to 1."""

    def __init__(self, space: Space) -> None:
        self._parameters = [parameter for parameter in space.parameters if _varies(parameter)]
        self._known: dict[str, dict[str, float]] = {}  # by run key

    def __call__(self, found: Sequence[Candidate | Trial], values: Sequence[Mapping[str, Any]]) -> Array:
        """One row for each network, made at these values; a column for each feature that differs.

        Columns that say the same are one, so that what a mapping decides for ten blocks at once
        counts once.
        """
        features = [self._features(*pair) for pair in zip(found, values, strict=True)]
        names = sorted({name for known in features for name in known})
        places = {name: column for column, name in enumerate(names)}
        rows = np.zeros((len(features), len(names)))
        for row, known in zip(rows, features, strict=True):
            row[[places[name] for name in known]] = list(known.values())
        return _distinct(rows, [name in COSTS for name in names])

    def _features(self, network: Candidate | Trial, values: Mapping[str, Any]) -> dict[str, float]:
        if network.key not in self._known:
            bare = network.placement == "none"
            features: dict[str, float] = {}
            for parameter in self._parameters:
                name = parameter.name
                attention = name.partition(".")[0] == "attention"
                if name in values and not (bare and attention) and ".mapping" not in name:
                    features |= dict(_coded(parameter, values[name]))
            for site, kernel in network.kernels.items():
                features[f"kernel {site}"] = 0.5 + math.log2(kernel + 1) / 8
            features |= {name: math.log(cost) for name, cost in network.costs.items()}
            self._known[network.key] = features
        return self._known[network.key]


def _varies(parameter: Parameter) -> bool:
    return parameter.count() != 1


def _coded(parameter: Parameter, value: Any) -> Iterable[tuple[str, float]]:
    """A value as features: the place of a number from 0 to 1, a column for each word."""
    name = parameter.name
    inactive = 0.0 if not parameter.condition else 0.5  # a hole that is not there lies at 0
    if parameter.kind == "categorical":
        numbers = [choice for choice in parameter.choices if isinstance(choice, int | float)]
        if len(numbers) < len(parameter.choices):
            return {f"{name}={value}": HALF}.items()
        place = sorted(numbers).index(value) / max(len(numbers) - 1, 1)
    else:
        low, high = parameter.low, parameter.high
        if parameter.log and low > 0:
            place = math.log(value / low) / math.log(high / low)
        else:
            place = (value - low) / (high - low)
    return ((name, inactive + (1 - inactive) * place),)


def _distinct(rows: Array, costs: Sequence[bool]) -> Array:
    """Columns that differ, each once; those of costs from 0 to 1."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    scale = np.where(costs, np.maximum(high - low, 1e-12), 1.0)
    rows = np.where(costs, (rows - low) / scale, rows)
    kept = rows[:, high - low > 1e-9]
    _, places = np.unique(np.round(kept, 9), axis=1, return_index=True)
    return kept[:, np.sort(places)]
