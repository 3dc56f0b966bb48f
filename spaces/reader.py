"""YAML in: a tree of plain values in which every node knows its file, line and column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from spaces import scalars
from spaces.errors import Place, Problem, SpaceError
from spaces.scan import events, placed, refuse, text

if TYPE_CHECKING:
    import yaml

__all__ = ["Node", "Place", "Problem", "SpaceError", "located", "parse", "read"]


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it is written; ``key`` is the place of its key, inside a mapping.

    ``value`` is a dict of nodes, a list of nodes, a scalar, or, once ``holes.found`` has been
    over the tree, a hole. Equality does not look at places.
    """

    value: Any
    place: Place = field(compare=False)
    key: Place | None = field(default=None, compare=False)

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def read(path: Path, source: str | None = None) -> Node:
    """The file's one document. ``source`` is what errors call it.

    Raises SpaceError for what cannot be read, is no YAML of ours, or is not a mapping.
    """
    source = str(path) if source is None else source
    return whole(text(path, source), source)


def whole(text: str, source: str) -> Node:
    """The one mapping in ``text``. Raises SpaceError as ``read`` does."""
    node = parse(text, source)
    if not isinstance(node.value, dict):
        kind = "an empty file" if node.value is None else "a list or a single value"
        refuse(
            node.place, f"not a space (got {kind}; allowed: keys such as name, backbone, search)"
        )
    return node


def parse(text: str, source: str) -> Node:
    """The one node in ``text``; null where there is none."""
    stream = events(text, source)
    first = next(stream, None)
    if first is None:
        return Node(None, Place(source, 1, 1))
    node = _Builder(source).node(first, stream)
    for _ in stream:
        pass  # what stands behind the node is checked too
    return node


def located(plain: Any, place: Place) -> Node:
    """Plain values as a tree in which everything is written at ``place``."""
    if isinstance(plain, dict):
        return Node({key: located(value, place) for key, value in plain.items()}, place, place)
    if isinstance(plain, list):
        return Node([located(value, place) for value in plain], place, place)
    return Node(plain, place, place)


class _Builder:
    """Nodes from events. Recursion is safe here: the events are at most 64 levels deep."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.anchors: dict[str, Node] = {}
        self.merged: set[int] = set()
        self.path: list[str] = []

    def refuse(self, place: Place, message: str, *name: str) -> NoReturn:
        refuse(place, message, ".".join([*self.path, *name]))

    def node(self, event: yaml.Event, stream: Iterator[yaml.Event]) -> Node:
        import yaml

        place = placed(event.start_mark, self.source)
        if isinstance(event, yaml.AliasEvent):
            return self.anchors[str(event.anchor)]
        if isinstance(event, yaml.ScalarEvent):
            node = Node(self.scalar(event, place), place)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node(list(self.elements(stream)), place)
        else:
            node = Node(self.mapping(stream), place)
        anchor = getattr(event, "anchor", None)
        if anchor:
            self.anchors[anchor] = node
        return node

    def scalar(self, event: yaml.ScalarEvent, place: Place) -> scalars.Scalar:
        if any("\ud800" <= character <= "\udfff" or character == "\0" for character in event.value):
            self.refuse(
                place, "a NUL or half a surrogate pair in a text (allowed: real characters)"
            )
        if not event.implicit[0]:
            return str(event.value)
        try:
            return scalars.plain(event.value)
        except ValueError as error:
            self.refuse(place, str(error))

    def elements(self, stream: Iterator[yaml.Event]) -> Iterator[Node]:
        import yaml

        while not isinstance(event := next(stream), yaml.SequenceEndEvent):
            yield self.node(event, stream)

    def mapping(self, stream: Iterator[yaml.Event]) -> dict[str, Node]:
        import yaml

        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        merges = False
        while not isinstance(event := next(stream), yaml.MappingEndEvent):
            place = placed(event.start_mark, self.source)
            if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == "<<":
                if merges:
                    self.refuse(place, "duplicate key '<<' (allowed: one, with a list)", "<<")
                merges = True
                self.merge(self.node(next(stream), stream), place, merged)
                continue
            name = self.name(event, place)
            if name in own:
                first = own[name].key
                line = f", first on line {first.line}" if first else ""
                self.refuse(place, f"duplicate key {name!r}{line}", name)
            self.path.append(name)
            value = self.node(next(stream), stream)
            self.path.pop()
            own[name] = Node(value.value, value.place, place)
        result = {**merged, **own}
        if merges:
            self.merged.add(id(result))
        return result

    def name(self, event: yaml.Event, place: Place) -> str:
        import yaml

        if not isinstance(event, yaml.ScalarEvent):
            self.refuse(
                place, "a key that is not a text (got a list, mapping or alias; allowed: text)"
            )
        name = self.scalar(event, place)
        if not isinstance(name, str):
            got = event.value or "nothing"
            self.refuse(place, f'a key that is not a text (got {got}; allowed: text, "{got}")')
        return name

    def merge(self, value: Node, place: Place, merged: dict[str, Node]) -> None:
        """Add the keys of one mapping, or of several in a list, that do no merging themselves."""
        for source in value.value if isinstance(value.value, list) else [value]:
            if not isinstance(source.value, dict):
                self.refuse(place, "nothing to merge (allowed: a mapping or a list of them)", "<<")
            if id(source.value) in self.merged:
                self.refuse(place, "a merged mapping that merges itself (allowed: one level)", "<<")
            for name, node in source.value.items():
                if name in merged:
                    self.refuse(place, f"duplicate key {name!r} in the merged mappings", name)
                merged[name] = node
