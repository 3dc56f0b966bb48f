"""Where spaces and the files that they name lie."""

from __future__ import annotations

import os
from pathlib import Path

from spaces.errors import Place, Problem, SpaceError, listed, nearest
from spaces.find import kind
from spaces.reader import Node

READY = Path(__file__).resolve().parent
PATHS = (
    ("dataset", "root"),
    ("backbone", "pretrained"),
    ("search", "checkpoints", "uri"),
    ("search", "tracking", "uri"),
)
SQLITE = "sqlite:///"


def ready() -> list[str]:
    """The names of the ready spaces."""
    return sorted(file.stem for file in READY.glob("*.yaml"))


def locate(source: str | Path) -> Path:
    """The file that ``source`` means: a path, or the bare name of a ready space.

    Raises SpaceError where there is neither.
    """
    text = os.fspath(source)
    path = Path(text).expanduser()
    if os.path.lexists(path) and not (path.is_dir() and text in ready()):
        return path
    if text in ready():
        return READY / f"{text}.yaml"
    near = nearest(path.stem, ready())
    said = f"no such file, nor a ready space of that name{near} (ready: {listed(ready())})"
    raise SpaceError([Problem(Place(text, 1, 1), "", said)])


def absolute(tree: Node, folder: Path) -> Node:
    """The tree with absolute paths: the file's from ``folder``, those of overrides from here.

    ``~`` is expanded; URIs stay as they are, except SQLite's, which hold paths too.
    """
    for steps in PATHS:
        tree = _absolute(tree, steps, folder.resolve())
    arms = tree.value.get("arms")
    if arms is None or not isinstance(arms.value, dict):
        return tree
    inside = {name: _absolute_arm(arm, folder.resolve()) for name, arm in arms.value.items()}
    return Node({**tree.value, "arms": Node(inside, arms.place, arms.key)}, tree.place, tree.key)


def _absolute_arm(arm: Node, folder: Path) -> Node:
    """An arm, ``{key.path: value}``, with absolute paths."""
    if not isinstance(arm.value, dict):
        return arm
    inside = dict(arm.value)
    for key in inside:
        taken = tuple(key.split("."))
        for steps in PATHS:
            if steps[: len(taken)] == taken:
                inside[key] = _absolute(inside[key], steps[len(taken) :], folder)
    return Node(inside, arm.place, arm.key)


def _absolute(node: Node, steps: tuple[str, ...], folder: Path) -> Node:
    if isinstance(node.value, dict):
        hole = kind(node.value)
        step, rest = (hole, steps) if hole else (steps[0] if steps else "", steps[1:])
        if step not in node.value:
            return node
        inside = {**node.value, step: _absolute(node.value[step], rest, folder)}
        if hole and "default" in inside:
            inside["default"] = _absolute(inside["default"], steps, folder)
        return Node(inside, node.place, node.key)
    if isinstance(node.value, list):
        elements = [_absolute(inner, steps, folder) for inner in node.value]
        return Node(elements, node.place, node.key)
    if steps or not isinstance(node.value, str):
        return node
    base = Path.cwd() if node.place.line is None else folder
    return Node(_path(node.value, base), node.place, node.key)


def _path(text: str, base: Path) -> str:
    if text.startswith(SQLITE):
        return SQLITE + _path(text.removeprefix(SQLITE), base)
    if "://" in text or not text:
        return text
    return os.path.normpath(base / Path(text).expanduser())
