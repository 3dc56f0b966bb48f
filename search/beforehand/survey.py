"""What a space spans, known before anything trains: settings, networks, the ends of its costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import trainers
from search.beforehand.networks import Bin, Network, Networks, histogram, measured
from search.beforehand.options import Unbuilt, drawn, located, refuse_dead
from search.trial import COSTS
from spaces import Config, Space, SpaceError
from spaces.errors import Problem
from spaces.latency import LATENCIES
from spaces.parameters import Parameter
from spaces.site import Site
from trainers.datasets import DatasetError

Values = dict[str, Any]
Costs = Mapping[str, float]
LOOKED = 200
"""Settings looked at for remarks."""
LISTED = 50_000
"""A space of more settings is described by its ends; so many take about 10 seconds."""
BODIES = 200
"""So is one of more settings of backbone and dataset: a network's first count takes 0.1 seconds."""
SPREAD = 16
"""Steps from end to end of a number in which the most within limits is looked for."""
LIGHT = ("attention", "training")
"""Sections whose holes change no backbone."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a space spans: `networks`, `within` and `allowed` are None where they were not counted.

    `costs` holds (least, most) of each cost, exact where settings were listed, otherwise found by
    `ends`, and `histograms` how many networks cost how much, where they were counted; `within` is
    the share of settings within the limits, `allowed` how many networks are, and `beyond` are the
    values of parameters that none of those has; `unbuilt` says how many of the settings looked at
    cannot be built, and why.
    """

    settings: int | None
    networks: int | None
    costs: dict[str, tuple[float, float]]
    within: float | None
    beyond: dict[str, tuple[Any, ...]]
    unbuilt: Unbuilt
    histograms: dict[str, tuple[Bin, ...]] = field(default_factory=dict)
    allowed: int | None = None


def survey(space: Space) -> Survey:
    """Look at every setting of a space that can be listed, at the ends of another.

    Raises SpaceError where no setting can be built, none that takes some option, or none within
    the limits, and DatasetError where the data are missing that a network must suit.
    """

    def built(values: Values) -> object:
        return measured(space.at(values))

    size = space.size()
    if size is None or not listable(space):
        costs = ends(space)
        refuse_dead(space, built)
        _refuse_unreachable(space, costs)
        return Survey(size, None, costs, None, {}, drawn(space, built))
    networks, found, reached = _listed(space)
    if networks.invalid:
        refuse_dead(space, built)
    costs = {
        name: (min(n.costs[name] for n in found), max(n.costs[name] for n in found))
        for name in COSTS
    }
    feasible = _feasible(space, costs, found)
    different = {network.identity: network.costs for network in found}.values()
    histograms = {name: histogram([known[name] for known in different]) for name in COSTS}
    unbuilt = Unbuilt(size, size - len(found), tuple(networks.invalid)[:3])
    beyond = _beyond(space, reached)
    within = len(feasible) / len(found)
    allowed = len({network.identity for network in feasible})
    return Survey(size, len(different), costs, within, beyond, unbuilt, histograms, allowed)


def remarks(space: Space) -> list[str]:
    """What is legal but seldom meant: kernels wider than their channels or of 1, attention nowhere.

    Looks at every setting of a small space, at `LOOKED` random ones of another. Of a space of
    several networks with attention it is also said where the plain one is not among them.
    """
    size = space.size()
    every = size is not None and size <= LOOKED
    points = space.settings() if every else (space.sample(seed=n) for n in range(LOOKED))
    found: dict[str, None] = {}
    attentive = plain = False
    for values in (*_bare(space), *points):
        try:
            config = space.at(values)
            standing, kernels = trainers.active(config), trainers.kernels(config)
        except ValueError:
            continue
        found.update(dict.fromkeys(_odd(config, standing, kernels, values)))
        attentive, plain = attentive or bool(standing), plain or not standing
    control = "no setting is the plain network, which tells what attention adds"
    wanted = attentive and not plain and bool(space.parameters)
    return [*list(found)[:3], *([f"{control} (add {{name: none}} to attention)"] if wanted else [])]


def _bare(space: Space) -> Iterator[Values]:
    """Settings with as little attention as there can be: none of the elements of any subset."""
    heads = [p for p in space.parameters if p.name == "attention"]
    for option in heads[0].choices if heads else (None,):
        yield space.fill(
            lambda p: option if p.name == "attention" else p.ends()[0]  # noqa: B023 - used at once
        )


def _odd(
    config: Config, standing: tuple[Site, ...], kernels: Mapping[str, int], values: Values
) -> Iterator[str]:
    """What is odd about one network."""
    for site in standing:
        kernel = kernels.get(site.name, 0)
        if kernel > site.channels:
            said = f"a kernel of {kernel} at {site.name} is wider than its {site.channels}"
            yield f"{said} channels: the taps beyond them see zeros"
    if kernels and set(kernels.values()) == {1}:
        yield (
            f"every kernel of {config.attention.name} is 1 at some settings: each channel is "
            "scaled by itself alone, and none sees its neighbours"
        )
    attention = config.attention
    if attention.placement is not None and not standing and not _placed_by_choice(values):
        where = f"{attention.name} at position {attention.position}"
        yield f"{where} stands nowhere in this backbone: it is the plain network"


def _placed_by_choice(values: Values) -> bool:
    """Whether the placement was chosen by holes, where none of its sites is a choice like any."""
    return any(".placement" in name for name in values)


def listable(space: Space) -> bool:
    """Whether every setting of the space can be looked at in seconds."""
    size = space.size()
    if size is None or size > LISTED:
        return False
    bodies = (p.count() or 1 for p in space.parameters if not p.name.startswith(LIGHT))
    return math.prod(bodies) <= BODIES


def ends(space: Space) -> dict[str, tuple[float, float]]:
    """The least and the most of each cost, found by moving one hole at a time to its ends.

    Costs grow with every size hole whatever the others are, so one hole at a time finds the ends.
    Raises SpaceError where no point tried can be built.
    """
    return {
        name: (-_climb(space, _worth(space, name, -1))[1], _climb(space, _worth(space, name, 1))[1])
        for name in COSTS
    }


def reference(space: Space) -> dict[str, float]:
    """The costs hypervolume is measured from: `search.reference`, else the space's largest.

    The largest within `limits`: exact where the settings can be listed, else what moving one hole
    at a time reaches among feasible points (where it finds none: the limit, which no feasible
    network exceeds). Raises SpaceError where no network is within the limits.
    """
    found = ends(space)
    _refuse_unreachable(space, found)
    largest = {name: most for name, (_, most) in found.items()}
    limits = space.search.limits
    if any(largest[name] > limit for name, limit in limits.items()):
        if listable(space):
            inside = _feasible(space, found, _listed(space)[1])
            largest = {name: max(network.costs[name] for network in inside) for name in COSTS}
        else:
            largest = {name: _most_within(space, name, most) for name, most in largest.items()}
    known = {**largest, **(space.search.reference or {})}
    wanted = [name for name in (*COSTS, *LATENCIES) if name in space.search.objectives]
    return {name: float(known[name]) for name in wanted}


def _most_within(space: Space, name: str, most: float) -> float:
    """The most of a cost among feasible points, climbing from the cheapest points there are."""
    limits = space.search.limits
    starts = [_climb(space, _worth(space, cost, -1))[0] for cost in limits]
    worth = _worth(space, name, 1, limits)
    reached = max(_climb(space, worth, start, _spread)[1] for start in starts)
    return reached if reached > -math.inf else min(most, limits.get(name, math.inf))


def _within(costs: Costs, limits: Costs) -> bool:
    return all(costs[name] <= limit for name, limit in limits.items())


def _listed(space: Space) -> tuple[Networks, list[Network], dict[str, set[Any]]]:
    """The network of every setting, and each parameter's values within the limits.

    Raises SpaceError where there is no network at all.
    """
    networks, limits = Networks(space), space.search.limits
    found: list[Network] = []
    reached: dict[str, set[Any]] = {parameter.name: set() for parameter in space.parameters}
    for values, network in networks:
        found.append(network)
        if _within(network.costs, limits):
            for name, value in values.items():
                reached[name].add(value)
    if not found:
        assert networks.first is not None
        raise _impossible(space, *networks.first)
    return networks, found, reached


def _beyond(space: Space, reached: dict[str, set[Any]]) -> dict[str, tuple[Any, ...]]:
    """Values that no network within the limits has, but for those below an option that none has."""
    if not space.search.limits:
        return {}
    beyond = {
        p.name: tuple(value for value in p.values() if value not in reached[p.name])
        for p in space.parameters
        if reached[p.name]
    }
    return {name: values for name, values in beyond.items() if values}


def _feasible(
    space: Space, costs: dict[str, tuple[float, float]], found: list[Network]
) -> list[Network]:
    """The networks within the limits; raises SpaceError where there is none."""
    _refuse_unreachable(space, costs)
    feasible = [network for network in found if _within(network.costs, space.search.limits)]
    if not feasible:
        said = "no network of this space is within all limits at once"
        raise SpaceError([space.problem("search.limits", said)])
    return feasible


def _refuse_unreachable(space: Space, costs: dict[str, tuple[float, float]]) -> None:
    problems = [
        space.problem(
            f"search.limits.{name}",
            f"no network of this space is that small (got {limit:,.0f}; the smallest has "
            f"{costs[name][0]:,.0f})",
        )
        for name, limit in space.search.limits.items()
        if costs[name][0] > limit
    ]
    if problems:
        raise SpaceError(problems)


def _impossible(space: Space, values: Values, error: ValueError) -> SpaceError:
    """No network at all: said with what is wrong at one point."""
    return SpaceError(
        Problem(found.place, found.key, f"no network of this space can be built: {found.message}")
        for found in located(space, error, values)
    )


def _worth(
    space: Space, name: str, sign: int, limits: Costs | None = None
) -> Callable[[Values], float]:
    """`sign` times a point's cost; minus infinity for one that is over a limit.

    Raises ValueError for one that cannot be built.
    """

    def worth(values: Values) -> float:
        costs = measured(space.at(values))
        return sign * costs[name] if _within(costs, limits or {}) else -math.inf

    return worth


def _climb(
    space: Space,
    worth: Callable[[Values], float],
    start: Values | None = None,
    options: Callable[[Parameter], list[Any]] | None = None,
) -> tuple[Values, float]:
    """The point of most worth, and its worth, found from a point by moving one hole at a time.

    A hole moves to each of its `options`, its ends unless told. Raises SpaceError where no point
    tried can be built.
    """
    options = options or _two_ends
    tried: list[float] = []
    failed: list[tuple[Values, ValueError]] = []

    def tell(values: Values) -> float:
        try:
            tried.append(worth(values))
        except DatasetError:
            raise
        except ValueError as error:
            failed.append((values, error))
            return -math.inf
        return tried[-1]

    reached = _moved(space, start or {})
    best = tell(reached)
    for _ in range(3):  # conditional holes appear when their parent has moved
        before = best
        for hole in space.parameters:
            for option in options(hole):
                for end in (0, -1):  # holes that appear with it: attention nowhere adds nothing
                    values = _moved(space, {**reached, hole.name: option}, end)
                    if (found := tell(values)) > best:
                        best, reached = found, values
        if best == before:
            break
    if not tried:
        raise _impossible(space, *failed[0])
    return reached, best


def _moved(space: Space, values: Values, end: int = 0) -> Values:
    """The values, what is missing at its first end or its last, what is not active left out."""
    return space.fill(lambda hole: values.get(hole.name, _two_ends(hole)[end]))


def _two_ends(hole: Parameter) -> list[Any]:
    """A number's low and high; of a choice, which has no order, every option."""
    if hole.kind == "categorical":
        return list(hole.choices)
    return [hole.low, hole.high]


def _spread(hole: Parameter) -> list[Any]:
    """Some values of a number from end to end: what a limit allows may lie between the ends."""
    if hole.kind == "categorical":
        return list(hole.choices)
    count = hole.count()
    if count is None:
        return [hole.low + (hole.high - hole.low) * part / SPREAD for part in range(SPREAD + 1)]
    return [
        hole.at(place) for place in sorted({(count - 1) * i // SPREAD for i in range(SPREAD + 1)})
    ]
