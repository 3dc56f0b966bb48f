"""Baselines: partial configs turned into values, for a sampler to ask for them first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spaces.errors import Problem, listed, nearest, shown
from spaces.find import label
from spaces.holes import Choice, Float, Int, Option, Subset, dotted, parameters, spelt
from spaces.parameters import MISSING, Parameter
from spaces.reader import Node


def values(
    tree: Node, open_parameters: Sequence[Parameter], given: Node, key: str, wrong: list[Problem]
) -> dict[str, Any]:
    """Values for all holes of ``tree`` that are active under ``given``, a partial config.

    A hole that it leaves open takes its default. What does not fit is added to ``wrong``.
    """
    reader = _Reader(key, wrong)
    reader.take(tree, given, "")
    found: dict[str, Any] = {}
    for parameter in open_parameters:
        if parameter.active(found):
            value = reader.wanted.get(parameter.name, parameter.default)
            if value is MISSING and not wrong:
                said = "left open, and the hole has no default (allowed: a value, or a default)"
                reader.refuse(given, parameter.name, said)
            found[parameter.name] = value
    return found


def misfits(tree: Node, given: Node, key: str) -> list[Problem]:
    """What ``given`` asks for and ``tree`` cannot have."""
    reader = _Reader(key, [])
    reader.take(tree, given, "")
    return reader.wrong


class _Reader:
    """Collects in ``wanted`` the values that a partial config asks for."""

    def __init__(self, key: str, wrong: list[Problem]) -> None:
        self.key = key
        self.wrong = wrong
        self.wanted: dict[str, Any] = {}

    def refuse(self, given: Node, name: str, message: str) -> None:
        self.wrong.append(Problem(given.place, dotted(self.key, name), message))

    def take(self, node: Node, given: Node, name: str) -> None:
        hole = node.value
        if isinstance(hole, Choice):
            self.choose(hole, given, name)
        elif isinstance(hole, Subset):
            self.select(hole, given, name)
        elif isinstance(hole, Int | Float):
            try:
                self.wanted[name] = next(parameters(node, name)).legal(given.plain())
            except ValueError as error:
                self.refuse(given, name, str(error))
        elif isinstance(hole, dict) and isinstance(given.value, dict):
            for key, inner in given.value.items():
                if key in hole:
                    self.take(hole[key], inner, dotted(name, key))
                else:
                    said = f"not in this space{nearest(key, list(hole))} (allowed: {listed(hole)})"
                    self.refuse(inner, dotted(name, key), said)
        elif (
            isinstance(hole, list)
            and isinstance(given.value, list)
            and len(hole) == len(given.value)
        ):
            for place, (inner, wanted) in enumerate(zip(hole, given.value, strict=True)):
                self.take(inner, wanted, dotted(name, place))
        elif isinstance(hole, dict | list) or hole != given.plain():
            fixed = "a mapping" if isinstance(hole, dict) else shown(node.plain())
            self.refuse(given, name, f"fixed here (got {shown(given.plain())}; allowed: {fixed})")

    def choose(self, hole: Choice, given: Node, name: str) -> None:
        wanted = label(given.plain())
        fitting = [option for option in hole.options if _called(option) == wanted] or [
            option for option in hole.options if option.label == wanted
        ]
        if not fitting:
            labels = [option.label for option in hole.options]
            near = nearest(wanted, [str(other) for other in labels])
            allowed = listed(map(shown, labels))
            self.refuse(given, name, f"no option{near} (got {shown(wanted)}; allowed: {allowed})")
            return
        option = next((o for o in fitting if self.fits(o, given, name)), fitting[0])
        self.wanted[name] = option.label
        if isinstance(option.node.value, dict) and isinstance(given.value, dict):
            self.take(option.node, given, dotted(name, str(option.label)))

    def fits(self, option: Option, given: Node, name: str) -> bool:
        """Whether the option can be what is meant: of several ``eca``, the one that can."""
        if not (isinstance(option.node.value, dict) and isinstance(given.value, dict)):
            return True
        attempt = _Reader(self.key, [])
        attempt.take(option.node, given, dotted(name, str(option.label)))
        return not attempt.wrong

    def select(self, hole: Subset, given: Node, name: str) -> None:
        chosen = given.plain()
        if not isinstance(chosen, list) or any(element not in hole.elements for element in chosen):
            allowed = listed(map(shown, hole.elements))
            said = f"no subset (got {shown(chosen)}; allowed: a list out of {allowed})"
            self.refuse(given, name, said)
            return
        left = [element for element in hole.always if element not in chosen]
        if left:
            said = f"fixed here (got {shown(chosen)}; allowed: a list with {listed(left)})"
            self.refuse(given, name, said)
        for element in hole.open():
            self.wanted[dotted(name, spelt(element))] = element in chosen


def _called(option: Option) -> Any:
    """What the option's own ``name`` says: ``eca`` also for the one labelled ``eca_2``."""
    if isinstance(option.node.value, dict) and "name" in option.node.value:
        return option.node.value["name"].value
    return option.label
