"""Arms as a command line says them: texts put into a space's document."""

from __future__ import annotations

from collections.abc import Sequence

from spaces.arms import NOT_SEARCHED
from spaces.errors import Place, Problem, SpaceError, clipped
from spaces.overrides import put
from spaces.reader import Node, located, parse


def added(document: Node, said: Sequence[str], blocks: Sequence[str]) -> Node:
    """A search's document made a comparison's: what says how it is searched is left out.

    An arm is said as ``NAME=key.path=VALUE; key.path=VALUE``, values in YAML's flow style; a block
    as the name of a hole, or ``key.path=[VALUE, VALUE]``, which opens one. Arms and blocks of the
    document stay where none are said. Raises SpaceError.
    """
    problems: list[Problem] = []
    tree = document
    if not said and "arms" not in document.value:
        wanted = "nothing to compare (allowed: --arm NAME='KEY=VALUE; ...', twice or more)"
        raise SpaceError([Problem(None, "arms", wanted)])
    if (search := tree.value.get("search")) and isinstance(search.value, dict):
        kept = {key: node for key, node in search.value.items() if key not in NOT_SEARCHED}
        tree = Node({**tree.value, "search": Node(kept, search.place, search.key)}, tree.place)
    arms: dict[str, Node] = {}
    names: list[Node] = []
    for text in said:
        name, equals, pairs = text.partition("=")
        place = Place(f"--arm {clipped(name.strip(), 40)}")
        try:
            if not name.strip():
                raise SpaceError([Problem(place, "", "an arm without a name (allowed: NAME=...)")])
            if name.strip() in arms:
                raise SpaceError([Problem(place, "", "given twice (allowed: one of each name)")])
            arms[name.strip()] = Node(_pairs(pairs, place), place, place)
        except SpaceError as error:
            problems += error.problems
    for text in blocks:
        key, equals, written = text.partition("=")
        place = Place(f"--block {clipped(key.strip(), 60)}")
        names.append(Node(key.strip(), place, place))
        try:
            if equals:
                hole = {"choice": _value(written, place)}
                tree = put(tree, key.strip(), Node(hole, place, place))
        except SpaceError as error:
            problems += error.problems
    if problems:
        raise SpaceError(problems)
    extra: dict[str, Node] = {}
    if arms:
        extra["arms"] = Node(arms, Place("--arm"), Place("--arm"))
    if names:
        extra["blocks"] = Node(names, Place("--block"), Place("--block"))
    return Node({**tree.value, **extra}, tree.place, tree.key)


def _pairs(text: str, place: Place) -> dict[str, Node]:
    """``key=VALUE; key=VALUE`` as nodes; a ``;`` inside brackets or quotes parts nothing."""
    pairs: dict[str, Node] = {}
    for part in filter(str.strip, _parted(text)):
        key, equals, written = part.partition("=")
        key = key.strip()
        if not equals or not key:
            said = f"no replacement (got {clipped(part.strip(), 60)}; allowed: key.path=value)"
            raise SpaceError([Problem(place, "", said)])
        if key in pairs:
            raise SpaceError([Problem(place, key, "given twice (allowed: once)")])
        pairs[key] = _value(written, place)
    return pairs


def _parted(text: str) -> list[str]:
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "[{") - (character in "]}")
        if character == ";" and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _value(text: str, place: Place) -> Node:
    try:
        return located(parse(text, place.source).plain(), place)
    except SpaceError as error:
        said = "; ".join(problem.message for problem in error.problems)
        raise SpaceError([Problem(place, "", said)]) from None
