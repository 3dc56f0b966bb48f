"""What a network is, as numbers: the holes it was made by, its kernels, its costs.

Settings of gamma and b that give the same kernels are the same network, so it is the kernels that
count, and a hole that has no effect has no value: two settings of one network look alike.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.trial import COSTS, Candidate, Trial
from spaces import Space
from spaces.parameters import Parameter

Array = NDArray[np.floating[Any]]
HALF = math.sqrt(0.5)
"""One-hot columns of this height lie 1 apart, as the ends of an interval do."""
GROWN = 256


@dataclass(frozen=True)
class Frame:
    """Which columns of the table are features, and how they are moved and scaled."""

    columns: NDArray[np.intp]
    start: Array
    scale: Array


class Encoding:
    """Networks of a space as the rows of a matrix, every feature from 0 to 1."""

    def __init__(self, space: Space) -> None:
        self._parameters = [p for p in space.parameters if p.count() != 1]
        # by values, as what is rounded makes one network of several
        self._rows: dict[str, int] = {}
        self._columns: dict[str, int] = {}
        self._table = np.zeros((GROWN, 16))

    def place(self, network: Candidate | Trial, values: Mapping[str, Any]) -> int:
        """Where a network, made at these values, stands among all that were placed."""
        known = json.dumps(values, sort_keys=True)
        row = self._rows.get(known)
        if row is None:
            row = self._rows[known] = len(self._rows)
            features = self._features(network, values)
            for name in features:
                self._columns.setdefault(name, len(self._columns))
            missing = np.maximum([row + 1, len(self._columns)], self._table.shape)
            if (missing > self._table.shape).any():
                grown = np.zeros(
                    [
                        max(n, 2 * m) if n > m else m
                        for n, m in zip(missing, self._table.shape, strict=True)
                    ]
                )
                grown[: len(self._table), : self._table.shape[1]] = self._table
                self._table = grown
            self._table[row, [self._columns[name] for name in features]] = list(features.values())
        return row

    def frame(self, places: Sequence[int]) -> Frame:
        """The features in which these differ, by name, and the range of their costs.

        Of features that say the same one is taken, so that what a mapping decides for ten blocks
        at once counts once.
        """
        names = sorted(self._columns)
        columns = np.array([self._columns[name] for name in names], dtype=np.intp)
        found = self._table[np.asarray(places)[:, None], columns]
        low, high = found.min(axis=0), found.max(axis=0)
        costs = np.array([name in COSTS for name in names])
        differ = high > low
        start = np.where(costs, low, 0.0)
        scale = np.where(costs & differ, high - low, 1.0)
        weights = np.cos(np.arange(len(found)) ** 2.0)  # equal columns have equal sums
        _, first = np.unique(np.round(weights @ ((found - start) / scale), 7), return_index=True)
        kept = np.sort(first[differ[first]])
        return Frame(columns[kept], start[kept], scale[kept])

    def rows(self, places: Sequence[int], frame: Frame | None = None) -> Array:
        """One row for each place; a column for each feature of the frame, their own as a rule."""
        frame = frame or self.frame(places)
        found = self._table[np.asarray(places)[:, None], frame.columns]
        rows: Array = (found - frame.start) / frame.scale
        return rows

    def _features(self, network: Candidate | Trial, values: Mapping[str, Any]) -> dict[str, float]:
        bare = network.placement == "none"
        features: dict[str, float] = {}
        for parameter in self._parameters:
            name = parameter.name
            attention = name.partition(".")[0] == "attention"
            if name in values and not (bare and attention) and ".mapping" not in name:
                features |= _coded(parameter, values[name])
        for site, kernel in network.kernels.items():
            features[f"kernel {site}"] = 0.5 + math.log2(kernel + 1) / 8
        return features | {name: math.log(cost) for name, cost in network.costs.items() if cost > 0}


def _coded(parameter: Parameter, value: Any) -> dict[str, float]:
    """A value as features: the place of a number from 0 to 1, a column for each word.

    A hole that is not there lies at 0, one that may not be from 0.5 on.
    """
    if parameter.kind == "categorical":
        numbers = [choice for choice in parameter.choices if isinstance(choice, int | float)]
        if len(numbers) < len(parameter.choices):
            return {f"{parameter.name}={value}": HALF}
        place = sorted(numbers).index(value) / max(len(numbers) - 1, 1)
    elif parameter.log and parameter.low > 0:
        place = math.log(value / parameter.low) / math.log(parameter.high / parameter.low)
    else:
        place = (value - parameter.low) / (parameter.high - parameter.low)
    return {parameter.name: 0.5 + place / 2 if parameter.condition else place}
