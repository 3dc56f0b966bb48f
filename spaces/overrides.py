"""Overrides: ``key.path=value``, put into the tree before anything else looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spaces.errors import Place, Problem, SpaceError, listed, nearest, shown
from spaces.find import kind, labels
from spaces.holes import spelt
from spaces.reader import Node, located, parse


def applied(tree: Node, texts: Sequence[str]) -> Node:
    """The tree with each override in it; the key is a parameter's name or any other key's path.

    The value is YAML and typed by the same schema as the file. An option of a choice of components
    is taken by its name (``attention=eca``). Raises SpaceError that calls them ``override N``.
    """
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, text in enumerate(texts, 1):
        place = Place(f"override {number}")
        key, equals, written = text.partition("=")
        key = key.strip()
        try:
            if not equals or not all(key.split(".")):
                said = f"not an override (got {text[:60]!r}; allowed: key.path=value)"
                raise SpaceError([Problem(place, "", said)])
            if seen.setdefault(key, number) != number:
                said = f"given twice (got overrides {seen[key]} and {number}; allowed: one)"
                raise SpaceError([Problem(place, key, said)])
            try:
                value = located(parse(written, place.source).plain(), place)
            except SpaceError as error:
                said = "; ".join(problem.message for problem in error.problems)
                raise SpaceError([Problem(place, key, said)]) from None
            tree = put(tree, key, value)
        except SpaceError as error:
            problems += error.problems
    if problems:
        raise SpaceError(problems)
    return tree


def put(tree: Node, key: str, value: Node) -> Node:
    """The tree with ``value`` at a dotted key. Raises SpaceError where there is no such place."""
    if not all(key.split(".")):
        raise _none(value, key, f"not a key (got {shown(key)}; allowed: key.path)")
    return _put(tree, key.split("."), value, "")


def _put(node: Node, steps: list[str], value: Node, above: str) -> Node:
    """``node`` with ``value`` at ``steps`` below it; mappings that are missing are made."""
    if not steps:
        taken = _option(node, value, above)
        return Node(value.value, value.place, value.key) if taken is None else taken
    step, rest = steps[0], steps[1:]
    here = f"{above}.{step}" if above else step
    inside: Any = node.value
    if inside is None:  # what comes below it is the override's
        inside, node = {}, Node({}, value.place, node.key)
    if isinstance(inside, list):
        if not (step.isdigit() and 1 <= int(step) <= len(inside)):
            raise _none(value, here, f"no such element (allowed: 1 to {len(inside)})")
        elements = list(inside)
        elements[int(step) - 1] = _put(elements[int(step) - 1], rest, value, here)
        return Node(elements, node.place, node.key)
    if not isinstance(inside, dict):
        raise _none(value, here, f"{above} is a single value: there is nothing below it")
    hole = kind(inside)
    if hole == "choice" and isinstance(inside["choice"].value, list):
        return _into_option(node, steps, value, above)
    if hole == "subset" and isinstance(inside["subset"].value, list):
        return _element(node, ".".join(steps), value, above)
    if hole:
        raise _none(
            value, here, f"{above} is a hole (allowed: {above}=value, the value as a whole)"
        )
    named = inside.get("name")
    if rest and step not in inside and named is not None and named.value == step:
        said = f"{above} is {step} here, no choice any more (allowed: {above}.{'.'.join(rest)})"
        raise _none(value, here, said)
    below = inside.get(step, Node({} if rest else None, value.place, value.place))
    return Node({**inside, step: _put(below, rest, value, here)}, node.place, node.key)


def _element(node: Node, name: str, value: Node, above: str) -> Node:
    """The subset with one element taken or left out for good; a list once none is open."""
    inside: dict[str, Node] = node.value
    elements: list[Node] = inside["subset"].value
    names = [spelt(element.plain()) for element in elements]
    here = f"{above}.{name}"
    if name not in names:
        near = nearest(name, names)
        raise _none(value, here, f"{above} has no such element{near} (there are: {listed(names)})")
    if not isinstance(value.value, bool):
        got = shown(value.plain())
        raise _none(value, here, f"not allowed here (got {got}; allowed: true, false)")
    element = elements[names.index(name)]
    lists = {key: inner.value for key, inner in inside.items() if isinstance(inner.value, list)}
    if not value.value:
        lists = {key: [e for e in given if e != element] for key, given in lists.items()}
    elif element not in lists.get("always", []):
        lists["always"] = [*lists.get("always", []), element]
    if all(e in lists.get("always", []) for e in lists["subset"]):
        return Node(lists["subset"], value.place, node.key)
    written = {
        key: Node(given, inside[key].place if key in inside else value.place)
        for key, given in lists.items()
    }
    return Node({**inside, **written}, node.place, node.key)


def _into_option(node: Node, steps: list[str], value: Node, above: str) -> Node:
    choice = node.value["choice"]
    names = labels([option.plain() for option in choice.value])
    here = f"{above}.{steps[0]}"
    if steps[0] not in names:
        known = [name for name in names if isinstance(name, str)]
        near = nearest(steps[0], known)
        raise _none(value, here, f"{above} has no such option{near} (there are: {listed(names)})")
    place = names.index(steps[0])
    options = list(choice.value)
    options[place] = _put(options[place], steps[1:], value, here)
    inside = {**node.value, "choice": Node(options, choice.place, choice.key)}
    return Node(inside, node.place, node.key)


def _option(node: Node, value: Node, key: str) -> Node | None:
    """The component that ``value`` names where ``node`` is a choice of components.

    Raises SpaceError for a name that none of them has.
    """
    if kind(node.value) != "choice":
        return None
    options = node.value["choice"].value
    if not isinstance(options, list) or not isinstance(value.value, str):
        return None
    names = labels([o.plain() for o in options])
    for name, option in zip(names, options, strict=True):
        if name == value.value and isinstance(option.value, dict):
            return Node(option.value, option.place, value.key)
    if all(isinstance(option.value, dict) for option in options):
        near = nearest(value.value, [str(name) for name in names])
        said = f"no such option{near} (got {shown(value.value)}; allowed: {listed(names)}, or a"
        raise _none(value, key, f"{said} whole component, {{name: ...}})")
    return None


def _none(value: Node, key: str, message: str) -> SpaceError:
    return SpaceError([Problem(value.place, key, message)])
