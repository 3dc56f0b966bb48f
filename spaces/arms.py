"""Arms: what a comparison trains. Each is the space with a few keys replaced and its holes closed.

``arms`` maps a name to ``{key.path: value}``, as overrides say it; ``blocks`` names the holes that
stay open, so that every arm is trained at each of their values. All other holes take their
defaults. The sampler then sees one parameter, ``arm``, and below each arm its blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from spaces import holes
from spaces.errors import Problem, SpaceError, counted, listed, nearest, shown
from spaces.find import find
from spaces.holes import Choice, Chosen, Float, Int, Option, Subset, dotted
from spaces.overrides import put
from spaces.parameters import MISSING
from spaces.reader import Node

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,39}")
KEYS = ("arms", "blocks")
ARM = "arm"
MOST_ARMS = 100
MOST_SETTINGS = 1000
NOT_SEARCHED = ("trials", "duplicates", "sampler", "pruner", "baselines", "further")
"""Keys of the search that say what is asked for and what is stopped: here the arms say the one,
and nothing is stopped."""


@dataclass(frozen=True)
class Arms:
    """The arms as they are written: ``base`` with its holes, and what each arm replaces in it."""

    base: Node
    replaced: dict[str, dict[str, Any]]
    blocks: tuple[str, ...]

    def spelled(self) -> dict[str, Any]:
        """Plain values that load as the same arms."""
        written = {**holes.spelled(self.base), "arms": self.replaced}
        return {**written, "blocks": list(self.blocks)} if self.blocks else written


def of(values: Mapping[str, Any]) -> str | None:
    """The arm that a setting is of; None in a space without arms."""
    return values.get(ARM)


def block(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """A setting's (hole, value) for every block, the same for every arm there."""
    below = f"{ARM}.{values.get(ARM)}."
    found = {name: value for name, value in values.items() if name.startswith(below)}
    return tuple(sorted((name.removeprefix(below), value) for name, value in found.items()))


def chosen(tree: Node) -> Node:
    """The config in a filled tree: the arm's, where there are arms."""
    arm: Node = tree.value.get(ARM, tree)
    return arm


def opened(document: Node, base: Node, problems: list[Problem]) -> tuple[Node, Arms, list[Problem]]:
    """The tree of all arms, the arms as written, and what they leave open without a default.

    ``base`` is the document without arms, blocks and search, its holes found. What else is wrong is
    added to ``problems``; it may be why a hole is left open, as a misspelt key is.
    """
    written = document.value["arms"]
    given = written.value if isinstance(written.value, dict) else {}
    if not 1 <= len(given) <= MOST_ARMS:
        got = counted(len(given), "arm") if given or written.value == {} else shown(written.plain())
        said = f"no arms (got {got}; allowed: 1 to {MOST_ARMS}, each NAME: {{key.path: value}})"
        problems.append(Problem(written.place, "arms", said))
    sections = {k: n for k, n in document.value.items() if k in base.value}
    bare = Node(sections, document.place)
    blocks = _blocks(document, problems)
    closings: dict[str, _Closing] = {}
    options = []
    for name, arm in given.items():
        key = _key("arms", name, arm)
        if not NAME.fullmatch(name):
            said = "it would be part of a parameter's name (allowed: letters, digits, _ + -)"
            problems.append(Problem(arm.key, key, said))
            continue
        closings[name] = closing = _Closing(blocks)
        options.append(Option(name, closing.closed(find(_replaced(bare, arm, key, problems), []))))
    problems += _incomplete(blocks, closings)
    tree = Node({ARM: Node(Choice(tuple(options)), written.place, written.key)}, document.place)
    size = holes.size(tree) if options else 0
    if size is None or size > MOST_SETTINGS:
        got = "a float without step" if size is None else f"{size:,} settings"
        said = f"every arm is trained at every value (got {got}; allowed: {MOST_SETTINGS:,} in all)"
        problems.append(Problem(document.value["blocks"].place, "blocks", said))
    replaced = {name: arm.plain() for name, arm in given.items() if isinstance(arm.value, dict)}
    return tree, Arms(base, replaced, tuple(blocks)), list(_left_open(written, closings))


def unsearched(written: Node) -> list[Problem]:
    """What a search's section says that arms leave no room for; ``trials`` may repeat them."""
    return [
        Problem(
            written.value[key].key,
            f"search.{key}",
            "a space with arms trains each of them, whole (allowed: leave it out)",
        )
        for key in NOT_SEARCHED[1:]
        if key in written.value
    ]


def _replaced(base: Node, arm: Node, key: str, problems: list[Problem]) -> Node:
    """The base with what the arm says in it."""
    if not isinstance(arm.value, dict):
        said = f"not an arm (got {shown(arm.plain())}; allowed: {{key.path: value}})"
        problems.append(Problem(arm.place, key, said))
        return base
    tree = base
    for path, value in arm.value.items():
        section = path.split(".")[0]
        try:
            if section not in base.value or section == "name":
                known = [name for name in base.value if name != "name"]
                said = f"no such key{nearest(section, known)} (allowed: below {listed(known)})"
                raise SpaceError([Problem(value.key, path, said)])
            tree = put(tree, path, value)
        except SpaceError as error:
            problems += [Problem(p.place, dotted(key, p.key), p.message) for p in error.problems]
    return tree


def _key(section: str, name: str, node: Node) -> str:
    """``arms.published`` in a file; nothing more than the option says of one that was typed."""
    typed = node.place.source.startswith("--")
    return "" if typed else f"{section}.{name}"


def _incomplete(blocks: Mapping[str, Node], closings: Mapping[str, _Closing]) -> Iterator[Problem]:
    """Every block must be open in every arm: blocks are complete, or nothing is compared."""
    for name, node in blocks.items():
        without = [arm for arm, closing in closings.items() if name not in closing.kept]
        if not without:
            continue
        who = "no arm leaves such a hole open"
        if len(without) < len(closings):
            who = f"arm {without[0]} leaves no such hole open"
            if len(without) > 1:
                who = f"arms {listed(without)} leave no such hole open"
        seen = [hole for arm in without for hole in closings[arm].seen]
        said = f"{who}{nearest(name, seen)} (open: {listed(seen) or 'none'})"
        yield Problem(node.place, _key("blocks", name, node), said)


def _left_open(written: Node, closings: Mapping[str, _Closing]) -> Iterator[Problem]:
    """Each hole without a default that arms leave open, once."""
    holes_left = dict.fromkeys(hole for closing in closings.values() for hole in closing.left)
    for hole in holes_left:
        by = [arm for arm, closing in closings.items() if hole in closing.left]
        arm = written.value[by[0]]
        place, key, who = arm.key or arm.place, _key("arms", by[0], arm), ""
        if len(by) > 1:
            place, key = written.place, _key("arms", "", arm).rstrip(".")
            who = f" by {'every arm' if len(by) == len(closings) else listed(by)}"
        said = f"{hole} is left open{who}, and the hole has no default"
        allowed = "a value in the arm, a default, or the hole among the blocks"
        yield Problem(place, key, f"{said} (allowed: {allowed})")


def _blocks(document: Node, problems: list[Problem]) -> dict[str, Node]:
    """The names of holes that stay open, with where each is written."""
    written = document.value.get("blocks")
    if written is None:
        return {}
    if not isinstance(written.value, list) or not all(
        isinstance(n.value, str) for n in written.value
    ):
        said = f"no blocks (got {shown(written.plain())}; allowed: a list of holes' names)"
        problems.append(Problem(written.place, "blocks", said))
        return {}
    return {node.value: node for node in written.value}


class _Closing:
    """Closes the holes of one arm at their defaults, all but the blocks.

    ``kept`` are the blocks that were open, ``seen`` all holes, ``left`` those without a default.
    """

    def __init__(self, blocks: Mapping[str, Node]) -> None:
        self.blocks = blocks
        self.kept: set[str] = set()
        self.seen: list[str] = []
        self.left: list[str] = []

    def closed(self, node: Node, name: str = "") -> Node:
        """``node`` with a default in the place of every hole that is no block."""
        value = node.value
        if isinstance(value, dict):
            value = {key: self.closed(inner, dotted(name, key)) for key, inner in value.items()}
        elif isinstance(value, list):
            value = [self.closed(inner, dotted(name, i)) for i, inner in enumerate(value)]
        elif isinstance(value, Choice | Subset | Int | Float):
            self.seen.append(name)
            return self.kept_open(node, name) if name in self.blocks else self.default(node, name)
        return Node(value, node.place, node.key)

    def kept_open(self, node: Node, name: str) -> Node:
        """A block: its own values stay, holes inside its options are closed."""
        self.kept.add(name)
        hole = node.value
        if isinstance(hole, Choice):
            options = [
                Option(option.label, self.closed(option.node, dotted(name, str(option.label))))
                for option in hole.options
            ]
            hole = Choice(tuple(options), hole.default)
        return Node(hole, node.place, node.key)

    def default(self, node: Node, name: str) -> Node:
        """A hole's default; where it has none its first value, so that the rest can be checked."""
        hole = node.value
        undecided = hole.default is MISSING
        if undecided:
            self.left.append(name)
        if isinstance(hole, Choice):
            label = hole.options[0].label if undecided else hole.default
            taken = next(option for option in hole.options if option.label == label)
            inside = self.closed(taken.node, dotted(name, str(taken.label)))
            return Node(inside.value, inside.place, node.key)
        if isinstance(hole, Subset):
            some = hole.elements if undecided else (*hole.always, *node.value.default)
            pairs = zip(hole.elements, hole.places, strict=True)
            elements = Chosen(Node(element, place) for element, place in pairs if element in some)
            return Node(elements, node.place, node.key)
        return Node(hole.low if undecided else hole.default, node.place, node.key)
