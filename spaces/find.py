"""Holes found in a tree: ``{choice: [...]}`` and its three relatives, checked in themselves."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

from spaces.errors import Problem, SpaceError, listed, nearest, shown
from spaces.holes import Choice, Float, Hole, Int, Option, Subset, dotted, parameters
from spaces.parameters import MISSING, Missing
from spaces.reader import Node
from spaces.scalars import Scalar
from spaces.scan import refuse

KINDS = ("choice", "int", "float", "subset")
BESIDE = {
    "choice": ("default",),
    "subset": ("always", "default"),
    "int": ("step", "log", "default"),
    "float": ("step", "log", "default"),
}
MAX_OPTIONS = 500
MAX_ELEMENTS = 100
MAX_NUMBER = 2**53
ELEMENT = re.compile(r"[A-Za-z0-9_.:/ -]{1,80}")


def find(node: Node, problems: list[Problem], name: str = "") -> Node:
    """The tree with holes in the place of the mappings that spell them.

    What is wrong with a hole is added to ``problems``; None then stands in its place.
    """
    value = node.value
    if isinstance(value, list):
        value = [find(inner, problems, dotted(name, i)) for i, inner in enumerate(value)]
    elif kind(value):
        try:
            value = _hole(node, problems, name)
        except SpaceError as error:
            problems += error.problems
            value = None
    elif isinstance(value, dict):
        value = {
            key: _closed(inner, problems, name)
            if key == "name"
            else find(inner, problems, dotted(name, key))
            for key, inner in value.items()
        }
    return Node(value, node.place, node.key)


def kind(value: Any) -> str | None:
    """Which hole a mapping spells, if any; with a ``name`` it is a component (dataset's subset)."""
    if not isinstance(value, dict) or "name" in value:
        return None
    return next((kind for kind in KINDS if kind in value), None)


def labels(options: list[Any]) -> list[Scalar]:
    """What the options are called, all different: the second ``eca`` is ``eca_2``."""
    found: list[Scalar] = []
    for plain in options:
        called = unique = label(plain)
        number = 1
        while unique in found and isinstance(called, str):
            number += 1
            unique = f"{called}_{number}"
        found.append(unique)
    return found


def label(plain: Any) -> Scalar:
    """What an option is called: a component by its name, a list as JSON, a value as itself."""
    if isinstance(plain, dict) and isinstance(plain.get("name"), str):
        return str(plain["name"])
    if isinstance(plain, dict | list):
        return json.dumps(plain)
    return plain  # type: ignore[no-any-return]


def _closed(node: Node, problems: list[Problem], name: str) -> Node:
    """A component's name, which cannot be a hole: its other keys depend on it."""
    if not isinstance(node.value, dict):
        return node
    said = "a name cannot be open (allowed: a choice of whole components, each with a name)"
    problems.append(Problem(node.place, dotted(name, "name"), said))
    return Node("", node.place, node.key)


def _hole(node: Node, problems: list[Problem], name: str) -> Hole:
    given: dict[str, Node] = node.value
    kinds = [kind for kind in KINDS if kind in given]
    if len(kinds) > 1:
        refuse(node.place, f"a hole of two kinds (got {listed(kinds)}; allowed: one)", name)
    hole = kinds[0]
    for key, inner in given.items():
        if key != hole and key not in BESIDE[hole]:
            near = nearest(key, BESIDE[hole])
            said = f"unknown key {key!r} in a hole{near} (allowed: {hole}, {listed(BESIDE[hole])})"
            refuse(inner.key or inner.place, said, name)
    written = given[hole]
    if not isinstance(written.value, list):
        wanted = "a list [low, high]" if hole in ("int", "float") else "a list"
        got = shown(written.plain())
        refuse(written.place, f"not a hole (got {got}; allowed: {wanted})", name)
    if hole == "choice":
        return _choice(written, given.get("default"), problems, name)
    if hole == "subset":
        return _subset(written, given.get("always"), given.get("default"), name)
    return _interval(given, name, whole=hole == "int")


def _choice(written: Node, default: Node | None, problems: list[Problem], name: str) -> Choice:
    nodes = written.value
    if not 1 <= len(nodes) <= MAX_OPTIONS:
        said = f"no choice (got {len(nodes)} options; allowed: 1 to {MAX_OPTIONS})"
        refuse(written.place, said, name)
    plains = [node.plain() for node in nodes]
    seen: dict[Any, int] = {}
    for number, (node, plain) in enumerate(zip(nodes, plains, strict=True), 1):
        first = seen.setdefault(_comparable(plain), number)
        if first != number:
            got = shown(label(plain))
            said = f"options {first} and {number} are equal (got {got}; allowed: each once)"
            refuse(node.place, said, name)
    options = tuple(
        _option(node, plain, called, problems, name)
        for node, plain, called in zip(nodes, plains, labels(plains), strict=True)
    )
    if default is None:
        return Choice(options)
    wanted = label(default.plain())
    if not any(_same(wanted, option.label) for option in options):
        _no_option(default, wanted, [option.label for option in options], name)
    return Choice(options, next(o.label for o in options if _same(wanted, o.label)))


def _option(node: Node, plain: Any, called: Scalar, problems: list[Problem], name: str) -> Option:
    if kind(plain):
        said = "a hole as an option (allowed: values, or components with holes of their own)"
        refuse(node.place, said, name)
    inside = find(node, problems, dotted(name, called) if isinstance(called, str) else name)
    if _has_hole(inside) and not (isinstance(plain, dict) and "name" in plain):
        said = "an option with holes needs a name (allowed: {name: ..., ...})"
        refuse(node.place, said, name)
    return Option(called, inside)


def _subset(written: Node, always: Node | None, default: Node | None, name: str) -> Subset:
    elements = [node.value for node in written.value]
    if not 1 <= len(elements) <= MAX_ELEMENTS:
        said = f"no subset (got {len(elements)} elements; allowed: 1 to {MAX_ELEMENTS})"
        refuse(written.place, said, name)
    for number, (node, element) in enumerate(zip(written.value, elements, strict=True)):
        if isinstance(element, dict | list):
            got = shown(node.plain())
            refuse(node.place, f"not an element (got {got}; allowed: texts and numbers)", name)
        if isinstance(element, str) and not ELEMENT.fullmatch(element):
            said = f"it would be part of a parameter's name (got {shown(element)}"
            refuse(node.place, f"{said}; allowed: letters, digits and _ - . : / in it)", name)
        if element in elements[:number]:
            said = f"named twice (got {shown(element)}; allowed: each once)"
            refuse(node.place, said, name)
    fixed = () if always is None else _some(always, "always", elements, name)
    chosen = MISSING if default is None else _some(default, "default", elements, name)
    if chosen is not MISSING:
        chosen = tuple(element for element in elements if element in (*chosen, *fixed))
    return Subset(tuple(elements), chosen, fixed, tuple(node.place for node in written.value))


def _some(given: Node, key: str, elements: list[Any], name: str) -> tuple[Scalar, ...]:
    """The elements that ``default`` or ``always`` lists, in the order of the subset."""
    some = given.plain()
    if not isinstance(some, list):
        refuse(given.place, f"no {key} (got {shown(some)}; allowed: a list)", name)
    for element in some:
        if not any(_same(element, other) for other in elements) or some.count(element) > 1:
            _no_option(given, element, elements, name, key)
    return tuple(element for element in elements if element in some)


def _no_option(given: Node, got: Any, allowed: list[Any], name: str, key: str = "default") -> None:
    near = nearest(got, [str(other) for other in allowed])
    names = listed(map(shown, allowed))
    said = f"the {key} is no option{near} (got {shown(got)}; allowed: {names}, each once)"
    refuse(given.place, said, name)


def _interval(given: dict[str, Node], name: str, *, whole: bool) -> Int | Float:
    written = given["int" if whole else "float"]
    if len(written.value) != 2:
        said = f"no interval (got {len(written.value)} numbers; allowed: [low, high])"
        refuse(written.place, said, name)
    low, high = (_number(node, whole, name) for node in written.value)
    if low > high:
        said = f"low is above high (got [{low}, {high}]; allowed: low <= high)"
        refuse(written.place, said, name)
    log = given["log"].plain() if "log" in given else False
    if not isinstance(log, bool):
        said = f"log is a yes or no (got {shown(log)}; allowed: true, false)"
        refuse(given["log"].place, said, name)
    if log and low <= 0:
        wanted = "low of 1 or more" if whole else "low above 0"
        said = f"log needs positive numbers (got low {low}; allowed: {wanted})"
        refuse(written.place, said, name)
    step = _step(given.get("step"), low, high, log, whole, name)
    hole: Int | Float = (
        Int(int(low), int(high), int(step or 1), log) if whole else Float(low, high, step, log)
    )
    return replace(hole, default=_default(hole, given.get("default"), name))


def _number(node: Node, whole: bool, name: str) -> float:
    value = node.plain()
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not fits or abs(value) > MAX_NUMBER:
        wanted = f"{'whole numbers' if whole else 'numbers'} between -2^53 and 2^53"
        said = f"not a number here (got {shown(value)}; allowed: {wanted})"
        refuse(node.place, said, name)
    return value if whole else float(value)


def _step(
    node: Node | None, low: float, high: float, log: bool, whole: bool, name: str
) -> float | None:
    """The step, which leads from low to high: a sampler would silently lower high otherwise."""
    if node is None or node.value is None:
        return None
    step = _number(node, whole, name)
    if step <= 0:
        refuse(node.place, f"step out of range (got {step}; allowed: more than 0)", name)
    if log and not (whole and step == 1):
        said = f"step and log exclude each other (got step {step}; allowed: one of them)"
        refuse(node.place, said, name)
    exact, start = Fraction(str(step)), Fraction(str(low))
    steps = (Fraction(str(high)) - start) / exact
    if steps.denominator != 1:
        below, above = (f"{float(start + n * exact):.12g}" for n in (int(steps), int(steps) + 1))
        said = f"step {step} does not lead from {low} to {high}"
        refuse(node.place, f"{said} (got high {high}; allowed: high {below} or {above})", name)
    return step


def _default(hole: Int | Float, node: Node | None, name: str) -> Any | Missing:
    if node is None:
        return MISSING
    try:
        return next(parameters(Node(hole, node.place), name)).legal(node.plain())
    except ValueError as error:
        refuse(node.place, f"the default is {error}", name)


def _has_hole(node: Node) -> bool:
    if isinstance(node.value, dict | list):
        inside = node.value.values() if isinstance(node.value, dict) else node.value
        return any(map(_has_hole, inside))
    return isinstance(node.value, Hole)


def _comparable(plain: Any) -> Any:
    """Equal for equal values, 1, 1.0 and true among them, as samplers compare them."""
    if isinstance(plain, dict | list):
        return "JSON", json.dumps(plain, sort_keys=True)
    return plain


def _same(one: Any, other: Any) -> bool:
    """Equal, and not merely as true equals 1."""
    return bool(one == other and isinstance(one, bool) == isinstance(other, bool))
