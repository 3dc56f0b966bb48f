"""What algebra knows of a space's mapping before anything trains: values that mean the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, islice
from typing import Any, cast

import trainers
from search.beforehand.networks import Values, part
from spaces import Config, Space
from spaces.algebra.plane import cells
from spaces.algebra.rules import RELEASED
from spaces.errors import counted, listed, shown
from spaces.kernels import clamped
from spaces.parameters import Parameter, every

MOST = 2_000
"""Settings of backbone, position and mapping that are looked at; a space of more gets no note."""
BODIES = 24
"""Backbones; the first look at one takes 0.1 seconds."""
Profile = tuple[int, ...]
"""A kernel for each stage."""
Point = tuple[float, float]
"""(width, b)."""


@dataclass(frozen=True, slots=True)
class Look:
    """One setting of backbone, position and mapping, with attention wherever it may stand.

    ``stages`` holds (channels, kernel) of each stage where attention stands.
    """

    values: Values
    config: Config
    kernels: tuple[tuple[str, int], ...]
    stages: tuple[tuple[int, int], ...]

    @property
    def backbone(self) -> str:
        """`resnet50`."""
        backbone = self.config.backbone
        return f"{backbone.name}{backbone.params.get('depth', '')}"

    def without(self, *names: str) -> tuple[tuple[str, Any], ...]:
        """The values but those of some parameters."""
        return tuple((name, value) for name, value in self.values.items() if name not in names)


def lint(space: Space) -> list[str]:
    """Notes on the holes of the mapping, five at most; none where it has no hole."""
    concerned = _concerned(space)
    holes = [p for p in concerned if part(p) == "mapping"]
    free = {_last(p): p for p in concerned if p.count() is None}
    looks = _looks(space, concerned) if holes and set(free) <= {"gamma", "b"} else []
    notes: list[str] = []
    if not free:
        widths = any("width" in p.name.split(".") for p in concerned)
        notes += islice(_equal(holes, looks, widths), 3)
        notes += _confounded(concerned, looks)
        notes += _unreleased(looks, {(look.backbone, _profile(look)) for look in looks})
    elif set(free) == {"gamma", "b"} and looks:
        notes += _continuous(free["gamma"], free["b"], looks)
    return notes


def _concerned(space: Space) -> list[Parameter]:
    """The parameters that kernels depend on, and the choices that those lie inside of."""
    own = [p for p in space.parameters if part(p) in ("backbone", "mapping")]
    own += [p for p in space.parameters if part(p) == "attention" and _last(p) == "position"]
    above = {name for p in own for name, _ in p.condition}
    return [p for p in space.parameters if p in own or p.name in above]


def _last(parameter: Parameter) -> str:
    """`b` of `attention.eca.mapping.b`."""
    return parameter.name.rpartition(".")[2]


def _looks(space: Space, concerned: Sequence[Parameter]) -> list[Look]:
    """Every setting of the parameters, continuous ones at one value; none where they are many."""
    finite = [p for p in concerned if p.count() is not None]
    bodies = math.prod(p.count() or 1 for p in finite if part(p) == "backbone")
    settings = list(islice(every(finite), MOST + 1))
    if bodies > BODIES or len(settings) > MOST:
        return []
    return [look for chosen in settings for look in _look(space, chosen)]


def _look(space: Space, chosen: Values) -> Iterator[Look]:
    """What a setting builds; nothing for one without kernels, or that cannot be built."""
    values = space.fill(lambda p: chosen.get(p.name, _widely(p)))
    try:
        config = space.at(values)
        standing, kernels = trainers.active(config), trainers.kernels(config)
    except ValueError:  # said elsewhere: `Survey.unbuilt`
        return
    if kernels:
        stages = {site.stage: (site.channels, kernels[site.name]) for site in standing}
        yield Look(chosen, config, tuple(kernels.items()), tuple(stages.values()))


def _widely(parameter: Parameter) -> Any:
    """Yes to each element of a placement; of anything else the first value."""
    if parameter.choices and part(parameter) == "placement":
        return parameter.choices[-1]
    return parameter.first()


def _equal(holes: Sequence[Parameter], looks: Sequence[Look], width: bool) -> Iterator[str]:
    """Values of one hole that give the same networks, whatever the other holes say."""
    where = "at every width" if width else "whatever else is chosen"
    for hole in holes:
        built: dict[Any, set[object]] = {}
        for look in looks:
            if hole.name in look.values:
                network = (look.without(hole.name), look.kernels)
                built.setdefault(look.values[hole.name], set()).add(network)
        alike: dict[frozenset[object], list[Any]] = {}
        for value, networks in built.items():
            alike.setdefault(frozenset(networks), []).append(value)
        groups = [" and ".join(map(shown, group)) for group in alike.values() if len(group) > 1]
        if groups:
            yield f"{hole.name}: {listed(groups, most=3)} give the same networks {where}"


def _confounded(concerned: Sequence[Parameter], looks: Sequence[Look]) -> Iterator[str]:
    """Pairs of (width, b) that are one mapping: psi(wC; gamma, b) = psi(C; gamma, b + log2 w).

    Only pairs that have the same kernels after the channels were rounded, at every gamma.
    """
    names = {_last(p): p.name for p in concerned if _last(p) in ("width", "b", "gamma")}
    built: dict[object, dict[Point, set[object]]] = {}
    for look in looks:
        point = tuple(look.values.get(names.get(axis, "")) for axis in ("width", "b"))
        if _log2(look) is not None and all(type(number) in (int, float) for number in point):
            network = (look.values.get(names.get("gamma", "")), look.kernels)
            same = built.setdefault(look.without(*names.values()), {})
            same.setdefault(cast("Point", point), set()).add(network)
    points = dict.fromkeys(point for same in built.values() for point in same)
    pairs = [
        (one, other)
        for one, other in combinations(points, 2)
        if _lawful(one, other) and all(same.get(one) == same.get(other) for same in built.values())
    ]
    if pairs:
        count = counted(len(pairs), "pair")
        (w, b), (v, c) = pairs[0]
        yield (
            f"width and b are confounded, as twice the channels is b + 1: {count} of this space "
            f"{'has' if len(pairs) == 1 else 'have'} the same kernels at every gamma, such as "
            f"width {w:g} with b {b:g} and width {v:g} with b {c:g}"
        )


def _lawful(one: Point, other: Point) -> bool:
    """Whether two of (width, b) differ in width, and b makes up for it."""
    (w, b), (v, c) = one, other
    return w != v and math.isclose(b - c, math.log2(v / w), abs_tol=1e-9)


def _unreleased(looks: Sequence[Look], within: set[tuple[str, Profile]]) -> Iterator[str]:
    """The first backbone whose released profile is not ``within`` those that the settings have."""
    for backbone in dict.fromkeys(look.backbone for look in looks):
        profile = RELEASED.get(backbone, {}).get("released")
        if profile is not None and (backbone, profile) not in within:
            name = "-".join(map(str, profile))
            yield (
                f"this space cannot express the authors' released {backbone}, {name} (add "
                f"{{name: per_stage, kernel_sizes: {list(profile)}}} to the choices of mapping)"
            )
            return


def _log2(look: Look) -> dict[str, Any] | None:
    """The parameters of the paper's mapping; None of another."""
    mapping = look.config.attention.mapping
    return mapping.params if mapping is not None and mapping.name == "log2" else None


def _profile(look: Look) -> Profile:
    """The kernels by stage, where attention stands where the authors have it; else none."""
    here = look.config.attention.position == "final"
    return tuple(kernel for _, kernel in look.stages) if here else ()


def _continuous(gamma: Parameter, b: Parameter, looks: Sequence[Look]) -> Iterator[str]:
    """How few networks a rectangle of the plane holds; whether the released one is among them."""
    window = [(Fraction(str(p.low)), Fraction(str(p.high))) for p in (gamma, b)]
    within: set[tuple[str, Profile]] = set()
    counts = []
    for look in looks:
        mapping = _log2(look)
        if mapping is None or not gamma.active(look.values):
            within.add((look.backbone, _profile(look)))
            continue
        channels = [count for count, _ in look.stages]
        try:
            found = cells(channels, mapping["rounding"], window[0], window[1])
        except ValueError:  # more than can be drawn, and more than need a note
            return
        bounds = mapping["k_min"], mapping["k_max"]
        profiles = {tuple(clamped(k, *bounds) for k in cell.kernels) for cell in found}
        counts.append(len(profiles))
        if look.config.attention.position == "final":
            within |= {(look.backbone, profile) for profile in profiles}
    if counts:
        ends = " to ".join(map(str, sorted({min(counts), max(counts)})))
        yield (
            f"{gamma.name} and b are continuous, but on one backbone all their values are "
            f"{ends} network{'s'[: max(counts) != 1]}: most proposals are duplicates"
        )
    yield from _unreleased(looks, within)
