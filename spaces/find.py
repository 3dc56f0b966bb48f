"""Holes found in a tree: ``{choice: [...]}`` and its three relatives, checked in themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

from spaces.errors import Place, Problem, listed, nearest, shown
from spaces.holes import Choice, Float, Hole, Int, Option, Subset, dotted, parameters
from spaces.parameters import MISSING
from spaces.reader import Node
from spaces.scalars import Scalar

KINDS = ("choice", "int", "float", "subset")
BESIDE = {
    "choice": ("default",),
    "subset": ("default",),
    "int": ("step", "log", "default"),
    "float": ("step", "log", "default"),
}
MAX_OPTIONS = 1000
MAX_ELEMENTS = 100
MAX_NUMBER = 2**53


def find(node: Node, problems: list[Problem], name: str = "") -> Node:
    """The tree with holes in the place of the mappings that spell them.

    What is wrong with a hole is added to ``problems``; a hole that cannot be is left out (None).
    """
    value = node.value
    if isinstance(value, list):
        value = [find(inner, problems, dotted(name, i)) for i, inner in enumerate(value)]
    elif isinstance(value, dict):
        if _is_hole(value):
            return Node(_Finder(node, name, problems).hole(), node.place, node.key)
        if "name" in value and isinstance(value["name"].value, dict):
            place, key = value["name"].place, dotted(name, "name")
            said = "a name cannot be open (allowed: a choice of whole components, each with a name)"
            problems.append(Problem(place, key, said))
            return Node(None, node.place, node.key)
        value = {key: find(inner, problems, dotted(name, key)) for key, inner in value.items()}
    return Node(value, node.place, node.key)


def _is_hole(mapping: dict[str, Any]) -> bool:
    """Whether a mapping spells a hole; one with a name is a component (a dataset has a `subset`)."""
    return "name" not in mapping and any(kind in mapping for kind in KINDS)


class _Finder:
    """One hole: the mapping that spells it, its name, and where to complain."""

    def __init__(self, node: Node, name: str, problems: list[Problem]) -> None:
        self.node = node
        self.name = name
        self.problems = problems
        self.given: dict[str, Node] = node.value

    def hole(self) -> Hole | None:
        kinds = [kind for kind in KINDS if kind in self.given]
        if len(kinds) > 1:
            return self.wrong(self.node, f"a hole of two kinds (got {listed(kinds)}; allowed: one)")
        kind = kinds[0]
        before = len(self.problems)
        for key, node in self.given.items():
            if key != kind and key not in BESIDE[kind]:
                near = nearest(key, BESIDE[kind])
                allowed = f"{kind}, {listed(BESIDE[kind])}"
                said = f"unknown key {key!r} in a hole{near} (allowed: {allowed})"
                self.wrong(Node(None, node.key or node.place), said)
        written = self.given[kind]
        if not isinstance(written.value, list):
            wanted = "a list [low, high]" if kind in ("int", "float") else "a list"
            said = f"not a hole (got {shown(written.plain())}; allowed: {wanted})"
            return self.wrong(written, said)
        if len(self.problems) > before:
            return None
        if kind == "choice":
            return self.choice(written)
        if kind == "subset":
            return self.subset(written)
        return self.interval(kind, written)

    def wrong(self, node: Node | Place, message: str) -> None:
        place = node.place if isinstance(node, Node) else node
        self.problems.append(Problem(place, self.name, message))

    def choice(self, written: Node) -> Choice | None:
        nodes = written.value
        if not 1 <= len(nodes) <= MAX_OPTIONS:
            got = f"got {len(nodes)} options; allowed: 1 to {MAX_OPTIONS}"
            return self.wrong(written, f"no choice ({got})")
        plains = [node.plain() for node in nodes]
        before = len(self.problems)
        seen: dict[Any, int] = {}
        for place, (node, plain) in enumerate(zip(nodes, plains, strict=True), 1):
            same = seen.setdefault(_key(plain), place)
            if same != place:
                got = shown(label(plain))
                self.wrong(node, f"options {same} and {place} are equal (got {got}; allowed: once)")
        if len(self.problems) > before:
            return None
        options = [
            self.option(node, plain, called)
            for node, plain, called in zip(nodes, plains, labels(plains), strict=True)
        ]
        if len(self.problems) > before:
            return None
        default = self.given.get("default")
        if default is None:
            return Choice(tuple(options))
        wanted = label(default.plain())
        for option in options:
            if option.label == wanted and isinstance(wanted, bool) == isinstance(option.label, bool):
                return Choice(tuple(options), option.label)
        return self.not_among(default, wanted, [option.label for option in options])

    def option(self, node: Node, plain: Any, called: Scalar) -> Option:
        if isinstance(plain, dict) and _is_hole(plain):
            self.wrong(node, "a hole as an option (allowed: values, or components with holes)")
        below = dotted(self.name, called) if isinstance(called, str) else self.name
        inside = find(node, self.problems, below)
        if _has_hole(inside) and not (isinstance(plain, dict) and "name" in plain):
            self.wrong(node, "an option with holes needs a name (allowed: {name: ..., ...})")
        return Option(called, inside)

    def subset(self, written: Node) -> Subset | None:
        elements = [node.value for node in written.value]
        if not 1 <= len(elements) <= MAX_ELEMENTS:
            got = f"got {len(elements)} elements; allowed: 1 to {MAX_ELEMENTS}"
            return self.wrong(written, f"no subset ({got})")
        for place, (node, element) in enumerate(zip(written.value, elements, strict=True)):
            if isinstance(element, dict | list):
                got = shown(node.plain())
                return self.wrong(node, f"not an element (got {got}; allowed: texts and numbers)")
            if element in elements[:place]:
                return self.wrong(node, f"named twice (got {shown(element)}; allowed: each once)")
        default = self.given.get("default")
        if default is None:
            return Subset(tuple(elements))
        chosen = default.plain()
        if not isinstance(chosen, list):
            return self.wrong(default, f"no default (got {shown(chosen)}; allowed: a list)")
        for element in chosen:
            if _key(element) not in map(_key, elements) or chosen.count(element) > 1:
                return self.not_among(default, element, elements)
        return Subset(tuple(elements), tuple(e for e in elements if e in chosen))

    def not_among(self, default: Node, got: Any, allowed: list[Any]) -> None:
        near = nearest(got, [str(name) for name in allowed])
        names = listed(map(shown, allowed))
        self.wrong(default, f"the default is no option{near} (got {shown(got)}; allowed: {names})")

    def interval(self, kind: str, written: Node) -> Int | Float | None:
        whole = kind == "int"
        before = len(self.problems)
        if len(written.value) != 2:
            got = f"got {len(written.value)} numbers; allowed: [low, high]"
            return self.wrong(written, f"no interval ({got})")
        low, high = (self.number(node, whole) for node in written.value)
        step = self.number(self.given["step"], whole) if self._has("step") else None
        log = self.given["log"].value if "log" in self.given else False
        if not isinstance(log, bool):
            got = shown(self.given["log"].plain())
            self.wrong(self.given["log"], f"log is a yes or no (got {got}; allowed: true, false)")
        if len(self.problems) > before:
            return None
        for node, said in self.crossed(written, low, high, step, log, whole):
            self.wrong(node, said)
        if len(self.problems) > before:
            return None
        hole: Int | Float = (
            Int(int(low), int(high), int(step or 1), log) if whole else Float(low, high, step, log)
        )
        return self.with_default(hole)

    def _has(self, key: str) -> bool:
        return key in self.given and self.given[key].value is not None

    def number(self, node: Node, whole: bool) -> float:
        value = node.plain()
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not fits or abs(value) > MAX_NUMBER:
            wanted = f"{'whole numbers' if whole else 'numbers'} between -2^53 and 2^53"
            self.wrong(node, f"not a number here (got {shown(value)}; allowed: {wanted})")
            return 0
        return value if whole else float(value)

    def crossed(
        self, written: Node, low: float, high: float, step: float | None, log: bool, whole: bool
    ) -> Iterator[tuple[Node, str]]:
        """What is wrong between the numbers of an interval."""
        if low > high:
            yield written, f"low is above high (got [{low}, {high}]; allowed: low <= high)"
            return
        if log and low < (1 if whole else 5e-324):
            wanted = "low >= 1" if whole else "low > 0"
            yield written, f"log needs positive numbers (got low {low}; allowed: {wanted})"
        if step is None:
            return
        node = self.given["step"]
        if step <= 0:
            yield node, f"step out of range (got {step}; allowed: more than 0)"
        elif log and not (whole and step == 1):
            yield node, f"step and log exclude each other (got step {step}; allowed: one of them)"
        else:
            exact, start = Fraction(str(step)), Fraction(str(low))
            steps = (Fraction(str(high)) - start) / exact
            if steps.denominator != 1:
                ends = [float(start + n * exact) for n in (int(steps), int(steps) + 1)]
                near = " or ".join(f"{end:.12g}" for end in ends)
                yield node, (
                    f"step {step} does not lead from {low} to {high} "
                    f"(got high {high}; allowed: high {near})"
                )

    def with_default(self, hole: Int | Float) -> Int | Float | None:
        default = self.given.get("default")
        if default is None:
            return hole
        parameter = next(parameters(Node(hole, self.node.place), self.name))
        try:
            return replace(hole, default=parameter.legal(default.plain()))
        except ValueError as error:
            return self.wrong(default, f"the default: {error}")


def label(plain: Any) -> Scalar:
    """What an option is called: a component by its name, a list as JSON, a value as itself."""
    if isinstance(plain, dict) and isinstance(plain.get("name"), str):
        return str(plain["name"])
    if isinstance(plain, dict | list):
        return json.dumps(plain)
    return plain  # type: ignore[no-any-return]


def labels(options: list[Any]) -> list[Scalar]:
    """The options' labels, all different: the second ``eca`` is ``eca_2``."""
    found: list[Scalar] = []
    for plain in options:
        called = unique = label(plain)
        number = 1
        while unique in found and isinstance(called, str):
            number += 1
            unique = f"{called}_{number}"
        found.append(unique)
    return found


def _has_hole(node: Node) -> bool:
    if isinstance(node.value, dict):
        return any(map(_has_hole, node.value.values()))
    if isinstance(node.value, list):
        return any(map(_has_hole, node.value))
    return isinstance(node.value, Hole)


def _key(plain: Any) -> Any:
    """Equal for equal values, 1, 1.0 and true among them, as samplers compare them."""
    if isinstance(plain, dict | list):
        return "JSON", json.dumps(plain, sort_keys=True)
    return plain
