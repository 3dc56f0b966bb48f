"""Where a document says what a dotted key means, found afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spaces.errors import Place
from spaces.holes import Choice, Subset, spelt
from spaces.reader import Node


def nearest(tree: Node, key: str) -> Place:
    """The place of the value at ``key``, else of what is written nearest above it.

    ``key`` is a parameter's name (``attention.eca.mapping.b``), or a config's, without the options
    (``attention.mapping.b``: the first option that has it). Elements of lists count from 1.
    """
    return _deepest(tree, key.split("."))[1]


def _deepest(node: Node, steps: Sequence[str]) -> tuple[int, Place]:
    """How many of the steps the document can follow, and where that leads."""
    ways = ((taken + depth, place) for taken, (depth, place) in _ways(node, steps))
    return max(ways, key=lambda way: way[0])


def _ways(node: Node, steps: Sequence[str]) -> Iterator[tuple[int, tuple[int, Place]]]:
    """(steps taken, what lies behind) for each way down, staying here being the first."""
    inside = node.value
    yield 0, (0, node.place)
    if not steps:
        return
    step, rest = steps[0], steps[1:]
    if isinstance(inside, dict) and step in inside:
        yield 1, _deepest(inside[step], rest)
    elif isinstance(inside, list) and step.isdecimal() and 1 <= int(step) <= len(inside):
        yield 1, _deepest(inside[int(step) - 1], rest)
    elif isinstance(inside, Choice):
        for option in inside.options:
            if step == str(option.label):
                yield 1, _deepest(option.node, rest)
            yield 0, _deepest(option.node, steps)
    elif isinstance(inside, Subset):
        for element, place in zip(inside.elements, inside.places, strict=True):
            if ".".join(steps) == spelt(element):
                yield len(steps), (0, place)
