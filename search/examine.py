"""What is known of a point before it is trained: its network, its costs, its name, its run key."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import trainers
from search.trial import Candidate
from spaces import Config, Space
from spaces.parameters import Parameter
from trainers.data import digest

Values = dict[str, Any]
LISTED = 5_000
"""Settings that are looked at one by one; a larger space is described by its extremes."""


def examiner(space: Space) -> Callable[[Values], Candidate]:
    """A function from values to what is known of them.

    It raises `ValueError` for a point that cannot be built, with the reason in its message. Content
    digests of datasets are asked for once, so that only the first call reads data.
    """
    digests: dict[str, str] = {}

    def examine(values: Values) -> Candidate:
        config = space.at(values)
        dataset = config.dataset.model_dump_json()
        if dataset not in digests:
            digests[dataset] = digest(config.dataset)
        cost = trainers.measure(config)
        kernels = trainers.kernels(config)
        return Candidate(
            config=config.model_dump(mode="json"),
            identity=trainers.identity(config),
            key=trainers.run_key(config, digests[dataset]),
            costs={"params": float(cost.params), "macs": float(cost.macs)},
            kernels=kernels,
            placement=placement(config),
            label=label(config, kernels, values),
        )

    return examine


def placement(config: Config) -> str:
    """Where attention stands: `none`, `everywhere`, `stages 2,3`, `blocks stage1.block1`."""
    if config.attention.placement is None:
        return "none"
    answer = config.attention.placement
    chosen = answer.params.get(answer.name)
    if answer.name in {"stages", "blocks"} and isinstance(chosen, list):
        return f"{answer.name} {','.join(map(str, chosen))}" if chosen else "none"
    return answer.name


def label(config: Config, kernels: Mapping[str, int], values: Values) -> str:
    """The trial's name without its number: `w0.75 eca s2,3 k3-5-5`, then any training values."""
    words = []
    width = config.backbone.params.get("width")
    if width is not None:
        words.append(
            "w" + "-".join(f"{w:g}" for w in (width if isinstance(width, list) else [width]))
        )
    where = placement(config)
    words.append(config.attention.name if where != "none" else "none")
    kind, _, chosen = where.partition(" ")
    if kind == "stages":
        words.append(f"s{chosen}")
    elif kind == "blocks":
        words.append(f"b{len(chosen.split(','))}")
    if kernels:
        words.append("k" + "-".join(_by_stage(kernels)))
    if config.attention.position not in (None, "final"):
        words.append(str(config.attention.position))
    told = ("backbone.width", "attention")
    words += [
        f"{name.rpartition('.')[2]}{value:g}"
        if isinstance(value, float)
        else f"{name.rpartition('.')[2]}={value}"
        for name, value in values.items()
        if not name.startswith(told)
    ]
    return " ".join(words)


def _by_stage(kernels: Mapping[str, int]) -> Iterator[str]:
    """One word a stage: its kernel, or all of its kernels where blocks differ."""
    stages: dict[str, dict[int, None]] = {}
    for site, kernel in kernels.items():
        stages.setdefault(site.partition(".")[0], {})[kernel] = None
    return ("/".join(map(str, found)) for found in stages.values())


@dataclass(frozen=True, slots=True)
class Survey:
    """What a space spans: `networks` is None where they were not counted.

    `costs` holds (least, most) of each cost, exact where `settings` were listed, otherwise found by
    moving one hole at a time; `within` is the share of settings within the limits.
    """

    settings: int | None
    networks: int | None
    costs: dict[str, tuple[float, float]]
    within: float | None
    invalid: tuple[str, ...] = ()


def survey(space: Space) -> Survey:
    """Look at every setting of a small space, at the extremes of a large one; trains nothing."""
    size = space.size()
    invalid: dict[str, None] = {}

    def measured(points: Iterable[Values]) -> Iterator[tuple[Config, dict[str, float]]]:
        for values in points:
            try:
                config = space.at(values)
                cost = trainers.measure(config)
            except ValueError as error:
                invalid[str(error)] = None
                continue
            yield config, {"params": float(cost.params), "macs": float(cost.macs)}

    limits = space.search.limits
    if size is not None and size <= LISTED:
        found = list(measured(space.settings()))
        networks: int | None = len({trainers.identity(config) for config, _ in found})
        inside = [all(c[name] <= limit for name, limit in limits.items()) for _, c in found]
        within = sum(inside) / size if size else None
    else:
        found = list(measured(_extremes(space)))
        networks, within = None, None
    if not found:
        raise ValueError(f"no point of this space can be built: {next(iter(invalid), 'empty')}")
    costs = {
        name: (min(cost[name] for _, cost in found), max(cost[name] for _, cost in found))
        for name in ("params", "macs")
    }
    return Survey(size, networks, costs, within, tuple(invalid)[:3])


def reference(space: Space) -> dict[str, float]:
    """The costs hypervolume is measured from: `search.reference`, else the space's largest.

    The largest within `limits`: where limits cut a space too large to list, the limit itself, which
    no feasible network exceeds.
    """
    wanted = [name for name in ("params", "macs") if name in space.search.objectives]
    given = dict(space.search.reference or {})
    if all(name in given for name in wanted):
        return {name: float(given[name]) for name in wanted}
    most = {name: pair[1] for name, pair in survey(space).costs.items()}
    limits = space.search.limits
    return {
        name: float(given.get(name, min(most[name], limits.get(name, math.inf)))) for name in wanted
    }


def _extremes(space: Space) -> Iterator[Values]:
    """Points that reach the least and the most of each cost: from both ends, one hole at a time.

    Costs grow with every size hole whatever the others are, so one hole at a time finds the ends.
    """
    for cost in ("params", "macs"):
        for sign in (1, -1):
            yield _climb(space, partial(_cost, space, name=cost, sign=sign))


def _climb(space: Space, worth: Callable[[Values], float]) -> Values:
    """The best point found by moving one hole at a time, from each hole's first end."""
    reached = space.fill(lambda parameter: _ends(parameter)[0])
    best = max(-math.inf, worth(reached))  # of minus infinity and NaN, max keeps the first
    for _ in range(3):  # conditional holes appear when their parent has moved
        before = best
        for moved in space.parameters:
            for end in _ends(moved):
                values = space.fill(_choose({**reached, moved.name: end}))
                if worth(values) > best:
                    best, reached = worth(values), values
        if best == before:
            break
    return reached


def _choose(values: Values) -> Callable[[Parameter], Any]:
    return lambda parameter: values.get(parameter.name, _ends(parameter)[0])


def _cost(space: Space, values: Values, *, name: str, sign: int) -> float:
    """One cost of a point, times `sign`; NaN where it cannot be built."""
    try:
        return float(sign * getattr(trainers.measure(space.at(values)), name))
    except ValueError:
        return math.nan  # no comparison with it holds: such a point is never taken


def _ends(parameter: Parameter) -> list[Any]:
    if parameter.kind == "categorical":
        return list(parameter.choices)
    return [parameter.low, parameter.high]
