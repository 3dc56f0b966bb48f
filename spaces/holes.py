"""Holes: the values a space leaves open, and the parameters a sampler sees in their place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from spaces.parameters import MISSING, Condition, Missing, Parameter
from spaces.reader import Node, Place
from spaces.scalars import Scalar


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a choice: what the sampler calls it and what it stands for."""

    label: Scalar
    node: Node


@dataclass(frozen=True, slots=True)
class Choice:
    """``{choice: [...]}``: one of the options, which may be components with holes of their own."""

    options: tuple[Option, ...]
    default: Scalar | Missing = MISSING


@dataclass(frozen=True, slots=True)
class Int:
    """``{int: [low, high]}``: a whole number of the closed interval, every ``step``-th."""

    low: int
    high: int
    step: int = 1
    log: bool = False
    default: int | Missing = MISSING


@dataclass(frozen=True, slots=True)
class Float:
    """``{float: [low, high]}``: a number of the closed interval, every ``step``-th if given."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    default: float | Missing = MISSING


@dataclass(frozen=True, slots=True)
class Subset:
    """``{subset: [...]}``: any of the elements, or none; a yes or no for each.

    Those in ``always`` are taken whatever is chosen; ``places`` are where the elements stand.
    """

    elements: tuple[Scalar, ...]
    default: tuple[Scalar, ...] | Missing = MISSING
    always: tuple[Scalar, ...] = ()
    places: tuple[Place, ...] = field(default=(), compare=False)

    def open(self) -> tuple[Scalar, ...]:
        """The elements that there is a yes or no for."""
        return tuple(element for element in self.elements if element not in self.always)


class Chosen(list[Node]):
    """The elements taken out of a subset, in the order of the subset."""


Hole = Choice | Int | Float | Subset


def dotted(name: str, step: str | int) -> str:
    """The name of what lies at ``step`` below ``name``; elements of a list count from 1."""
    below = str(step + 1) if isinstance(step, int) else step
    return f"{name}.{below}" if name else below


def spelt(element: Scalar) -> str:
    """An element of a subset as part of a parameter's name."""
    return element if isinstance(element, str) else json.dumps(element)


def parameters(node: Node, name: str = "", condition: Condition = ()) -> Iterator[Parameter]:
    """The parameters below ``node`` in document order, a choice before those of its options."""
    hole = node.value
    if isinstance(hole, dict):
        for key, inner in hole.items():
            yield from parameters(inner, dotted(name, key), condition)
    elif isinstance(hole, list):
        for place, inner in enumerate(hole):
            yield from parameters(inner, dotted(name, place), condition)
    elif isinstance(hole, Choice):
        labels = tuple(option.label for option in hole.options)
        yield Parameter.categorical(name, labels, hole.default, condition)
        for option in hole.options:
            if isinstance(option.node.value, dict):
                label = str(option.label)
                inside = (*condition, (name, label))
                yield from parameters(option.node, dotted(name, label), inside)
    elif isinstance(hole, Subset):
        for element in hole.open():
            default = MISSING if hole.default is MISSING else element in hole.default
            yield Parameter.categorical(
                dotted(name, spelt(element)), (False, True), default, condition
            )
    elif isinstance(hole, Int | Float):
        yield Parameter(
            name=name,
            kind="int" if isinstance(hole, Int) else "float",
            low=hole.low,
            high=hole.high,
            step=hole.step,
            log=hole.log,
            default=hole.default,
            condition=condition,
        )


def filled(node: Node, values: Mapping[str, Any], name: str = "") -> Node:
    """``node`` with every hole replaced by what ``values`` says; places are kept."""
    hole = node.value
    if isinstance(hole, dict):
        value: Any = {k: filled(inner, values, dotted(name, k)) for k, inner in hole.items()}
    elif isinstance(hole, list):
        value = [filled(inner, values, dotted(name, i)) for i, inner in enumerate(hole)]
    elif isinstance(hole, Choice):
        taken = next(option for option in hole.options if option.label == values[name])
        inside = filled(taken.node, values, dotted(name, str(taken.label)))
        return Node(inside.value, inside.place, node.key)
    elif isinstance(hole, Subset):
        value = Chosen(
            Node(element, place)
            for element, place in zip(hole.elements, hole.places, strict=True)
            if element in hole.always or values[dotted(name, spelt(element))]
        )
    elif isinstance(hole, Int | Float):
        value = values[name]
    else:
        return node
    return Node(value, node.place, node.key)


def size(node: Node) -> int | None:
    """The number of ways to fill the holes below ``node``; None where it is not finite."""
    hole = node.value
    combine: Callable[[list[int]], int] = math.prod
    if isinstance(hole, Choice):
        combine, parts = sum, [size(option.node) for option in hole.options]
    elif isinstance(hole, dict | list):
        parts = [size(inner) for inner in (hole.values() if isinstance(hole, dict) else hole)]
    else:
        parts = [parameter.count() for parameter in parameters(node)]
    known = [ways for ways in parts if ways is not None]
    return combine(known) if len(known) == len(parts) else None


def spelled(node: Node) -> Any:
    """The tree as plain values that `find` makes the same tree of."""
    hole = node.value
    if isinstance(hole, dict):
        return {key: spelled(inner) for key, inner in hole.items()}
    if isinstance(hole, list):
        return [spelled(inner) for inner in hole]
    if isinstance(hole, Choice):
        written: dict[str, Any] = {"choice": [spelled(option.node) for option in hole.options]}
    elif isinstance(hole, Subset):
        written = {"subset": list(hole.elements)}
        written |= {"always": list(hole.always)} if hole.always else {}
    elif isinstance(hole, Int | Float):
        written = {"int" if isinstance(hole, Int) else "float": [hole.low, hole.high]}
        written |= {} if hole.step is None else {"step": hole.step}
        written |= {"log": True} if hole.log else {}
    else:
        return hole
    if hole.default is not MISSING:
        default = hole.default
        written["default"] = list(default) if isinstance(default, tuple) else default
    return written
