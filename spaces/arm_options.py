"""Arms as a command line says them: texts put into a space's document."""

from __future__ import annotations

from collections.abc import Sequence

from spaces.arms import NOT_SEARCHED
from spaces.errors import Place, Problem, SpaceError, clipped, shown
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
        judged = _judged(search, bool(said), problems)
        tree = Node({**tree.value, "search": judged}, tree.place)
    arms: dict[str, Node] = {}
    names: list[Node] = []
    for text in said:
        name, equals, pairs = text.partition("=")
        place = Place(f"--arm {clipped(name.strip(), 40)}")
        try:
            if not name.strip():
                raise SpaceError([Problem(place, "", "an arm without a name (allowed: NAME=...)")])
            if not equals:
                as_is = f"{name.strip()}=KEY=VALUE, or {name.strip()}= for the space as it is"
                raise SpaceError([Problem(place, "", f"it replaces nothing (allowed: {as_is})")])
            if name.strip() in arms:
                raise SpaceError([Problem(place, "", "given twice (allowed: one of each name)")])
            arms[name.strip()] = Node(_pairs(pairs, place), place, place)
        except SpaceError as error:
            problems += error.problems
    for text in blocks:
        key, equals, written = text.partition("=")
        key, place = key.strip(), Place(f"--block {clipped(key.strip(), 60)}")
        try:
            if any(node.value == key for node in names):
                raise SpaceError([Problem(place, "", "given twice (allowed: once, as KEY=[...])")])
            names.append(Node(key, place, place))
            if equals:
                tree = put(tree, key, Node({"choice": _values(written, place)}, place, place))
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


def _judged(search: Node, other_arms: bool, problems: list[Problem]) -> Node:
    """The search's section without what arms leave no room for; a problem where that was asked for.

    With other arms than the file's it is without the one that all were to be compared with, too.
    """
    kept = {key: node for key, node in search.value.items() if key not in NOT_SEARCHED}
    for key in NOT_SEARCHED:
        if key in search.value and search.value[key].place.line is None:
            asked = "a comparison trains each of its arms, whole (allowed: leave it out)"
            problems.append(Problem(search.value[key].place, f"search.{key}", asked))
    compare = kept.get("compare")
    if other_arms and compare is not None and isinstance(compare.value, dict):
        inside = {
            key: node
            for key, node in compare.value.items()
            if key != "against" or node.place.line is None
        }
        kept["compare"] = Node(inside, compare.place, compare.key)
    return Node(kept, search.place, search.key)


def _pairs(text: str, place: Place) -> dict[str, Node]:
    """``key=VALUE; key=VALUE`` as nodes; a ``;`` inside brackets or quotes parts nothing."""
    pairs: dict[str, Node] = {}
    for part in filter(str.strip, _parted(text)):
        key, equals, written = part.partition("=")
        key = key.strip()
        if not equals or not key:
            got = f"got {clipped(part.strip(), 60)}; allowed: key.path=value after the arm's name"
            raise SpaceError([Problem(place, "", f"no replacement ({got})")])
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


def _values(text: str, place: Place) -> Node:
    """The values of a block, each once."""
    values = _value(text, place)
    if not isinstance(values.value, list) or not values.value:
        got = shown(values.plain())
        said = f"not a list of values (got {got}; allowed: {place.source.partition(' ')[2]}=[...])"
        raise SpaceError([Problem(place, "", said)])
    plains = [node.plain() for node in values.value]
    for number, plain in enumerate(plains):
        if plain in plains[:number]:
            raise SpaceError([Problem(place, "", f"{shown(plain)} given twice (allowed: once)")])
    return values


def _value(text: str, place: Place) -> Node:
    try:
        return located(parse(text, place.source).plain(), place)
    except SpaceError as error:
        said = "; ".join(problem.message for problem in error.problems)
        raise SpaceError([Problem(place, "", said)]) from None
