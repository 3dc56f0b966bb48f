"""Every constant and the values of every hole, checked by the schema before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from spaces import arms, explain
from spaces.config import Config
from spaces.errors import Place, Problem
from spaces.holes import Chosen, dotted, filled, spelt
from spaces.parameters import Parameter, every
from spaces.reader import Node

ENOUGH = 50
FEW = 256
MANY = 1500
VALUES = 64
Model = TypeVar("Model", bound=BaseModel)


def configs(
    tree: Node, parameters: Sequence[Parameter], problems: list[Problem], size: int | None
) -> Iterator[Config]:
    """The config of every setting where there are few.

    Where there are many: at every hole's default, then with one hole after the other at each of
    its values (an even spread of 64 where a number has more, the ends where it has no step). What
    is wrong with a config is added to ``problems``, once each, until it is enough.
    """
    ends = sum(len(parameter.ends()) for parameter in parameters)
    if ends > MANY:
        said = f"too many options in all holes together (got {ends}; allowed: {MANY})"
        problems.append(Problem(tree.place, "", said))
        return
    seen: set[Problem] = set()
    few = size is not None and size <= FEW
    open_numbers = sum(parameter.kind != "categorical" for parameter in parameters)
    most = min(VALUES, 2 + (MANY - ends) // max(1, open_numbers))
    for values in every(parameters) if few else _points(parameters, most):
        config, found = configured(filled(tree, values))
        problems += [problem for problem in found if problem not in seen]
        seen.update(found)
        if len(seen) >= ENOUGH:
            return
        if config is not None:
            yield config


def _points(parameters: Sequence[Parameter], most: int) -> Iterator[dict[str, Any]]:
    yield _point(parameters, {})
    for parameter in parameters:
        for value in parameter.probes(most):
            yield _point(parameters, {**dict(parameter.condition), parameter.name: value})


def _point(parameters: Sequence[Parameter], fixed: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.active(values):
            values[parameter.name] = fixed.get(parameter.name, parameter.first())
    return values


def configured(tree: Node) -> tuple[Config | None, list[Problem]]:
    """The config that a tree without holes means, or what is wrong with it."""
    return validated(Config, arms.chosen(tree))


def validated(
    model: type[Model], tree: Node, above: str = "", context: Mapping[str, Any] | None = None
) -> tuple[Model | None, list[Problem]]:
    """``tree`` as ``model``, or what is wrong with it, each problem at its place.

    ``context`` is what the model's validators are to know besides.
    """
    plain = tree.plain()
    try:
        return model.model_validate(plain, context=context), []
    except ValidationError as error:
        return None, [
            Problem(
                place(tree, path, of_key=message.startswith(explain.UNKNOWN)),
                _key(above, tree, path),
                message,
            )
            for path, message in explain.problems(error, plain, model)
        ]


def place(tree: Node, path: explain.Path, *, of_key: bool = False) -> Place:
    """Where the document has the value (or its key) at ``path``, else what is nearest above."""
    node = tree
    for step in path:
        if isinstance(node.value, dict) and step in node.value:
            node = node.value[str(step)]
        elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            break
    return node.key if of_key and node.key else node.place


def _key(above: str, tree: Node, path: explain.Path) -> str:
    """``path`` as a person writes it; an element of a subset goes by its value, as always."""
    key = above
    node: Node | None = tree
    for step in path:
        inside = node.value if node else None
        if isinstance(inside, Chosen) and isinstance(step, int) and step < len(inside):
            node = inside[step]
            key = dotted(key, spelt(node.value))
            continue
        key = dotted(key, step)
        if isinstance(inside, dict):
            node = inside.get(str(step))
        elif isinstance(inside, list) and isinstance(step, int) and step < len(inside):
            node = inside[step]
        else:
            node = None
    return key
