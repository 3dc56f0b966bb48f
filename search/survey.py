"""What a space spans, known before anything trains: settings, networks, the ends of its costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import trainers
from search.trial import COSTS
from spaces import Config, Space, SpaceError
from spaces.errors import Problem
from spaces.parameters import Parameter

Values = dict[str, Any]
LISTED = 5_000
"""Settings that are looked at one by one; a larger space is described by its ends."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a space spans: `networks` and `within` are None where they were not counted.

    `costs` holds (least, most) of each cost, exact where settings were listed, otherwise found by
    `ends`; `within` is the share of settings within the limits; `invalid` holds some reasons why
    settings cannot be built.
    """

    settings: int | None
    networks: int | None
    costs: dict[str, tuple[float, float]]
    within: float | None
    invalid: tuple[str, ...] = ()


def survey(space: Space) -> Survey:
    """Look at every setting of a small space, at the ends of a large one.

    Raises SpaceError where no setting can be built, or none is within the limits.
    """
    size = space.size()
    if size is None or size > LISTED:
        costs = ends(space)
        _refuse_unreachable(space, costs)
        return Survey(size, None, costs, None)
    invalid: dict[str, None] = {}
    found = list(_measured(space, space.settings(), invalid))
    if not found:
        raise _impossible(next(iter(invalid)))
    costs = {
        name: (min(cost[name] for _, cost in found), max(cost[name] for _, cost in found))
        for name in COSTS
    }
    _refuse_unreachable(space, costs)
    limits = space.search.limits.items()
    inside = sum(all(cost[name] <= limit for name, limit in limits) for _, cost in found)
    networks = len({trainers.identity(config) for config, _ in found})
    return Survey(size, networks, costs, inside / size, tuple(invalid)[:3])


def ends(space: Space) -> dict[str, tuple[float, float]]:
    """The least and the most of each cost, found by moving one hole at a time to its ends.

    Costs grow with every size hole whatever the others are, so one hole at a time finds the ends.
    Raises SpaceError where no point tried can be built.
    """
    return {
        name: (-_climb(space, name=name, sign=-1), _climb(space, name=name, sign=1))
        for name in COSTS
    }


def reference(space: Space) -> dict[str, float]:
    """The costs hypervolume is measured from: `search.reference`, else the space's largest.

    The largest within `limits`: where limits cut the space, the limit itself, which no feasible
    network exceeds. Raises SpaceError where no network is within the limits.
    """
    wanted = [name for name in COSTS if name in space.search.objectives]
    found = ends(space)
    _refuse_unreachable(space, found)
    largest = {
        name: min(most, space.search.limits.get(name, math.inf))
        for name, (_, most) in found.items()
    }
    given = space.search.reference or {}
    return {name: float(given.get(name, largest[name])) for name in wanted}


def _refuse_unreachable(space: Space, costs: dict[str, tuple[float, float]]) -> None:
    problems = [
        Problem(
            None,
            f"search.limits.{name}",
            f"no network of this space is that small (got {limit:,.0f}; the smallest has "
            f"{costs[name][0]:,.0f})",
        )
        for name, limit in space.search.limits.items()
        if costs[name][0] > limit
    ]
    if problems:
        raise SpaceError(problems)


def _impossible(why: str) -> SpaceError:
    return SpaceError([Problem(None, "", f"no network of this space can be built: {why}")])


def _measured(
    space: Space, points: Iterable[Values], invalid: dict[str, None]
) -> Iterator[tuple[Config, dict[str, float]]]:
    """Config and costs of each point that can be built; reasons of the others go to `invalid`."""
    for values in points:
        try:
            config = space.at(values)
            cost = trainers.measure(config)
        except ValueError as error:
            invalid[str(error)] = None
            continue
        yield config, {"params": float(cost.params), "macs": float(cost.macs)}


def _climb(space: Space, *, name: str, sign: int) -> float:
    """The most of `sign` times a cost that is found from each hole's first end."""
    invalid: dict[str, None] = {}

    def worth(values: Values) -> float:
        """Minus infinity for a point that cannot be built."""
        costs = [cost for _, cost in _measured(space, [values], invalid)]
        return sign * costs[0][name] if costs else -math.inf

    reached = space.fill(partial(_chosen, {}))
    best = worth(reached)
    for _ in range(3):  # conditional holes appear when their parent has moved
        before = best
        for moved in space.parameters:
            for end in _two_ends(moved):
                values = space.fill(partial(_chosen, {**reached, moved.name: end}))
                if (found := worth(values)) > best:
                    best, reached = found, values
        if best == before:
            break
    if best == -math.inf:
        raise _impossible(next(iter(invalid)))
    return best


def _chosen(values: Values, parameter: Parameter) -> Any:
    return values.get(parameter.name, _two_ends(parameter)[0])


def _two_ends(parameter: Parameter) -> list[Any]:
    """A number's low and high; of a choice, which has no order, every option."""
    if parameter.kind == "categorical":
        return list(parameter.choices)
    return [parameter.low, parameter.high]
