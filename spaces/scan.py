"""YAML text to parser events, checked while they come: nothing that could blow up is let through.

Checked one event at a time, before anything is built: 324 bytes of aliases can mean billions of
nodes, 351 bytes of merge keys cost seconds, and deep nesting overflows the stack of a recursive
composer (libyaml's crashes the process). PyYAML's parser in Python does not recurse.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from spaces.errors import Place, Problem, SpaceError

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
MAX_ALIASES = 100
MAX_NODES = 50_000


def text(path: Path, source: str) -> str:
    """The text of a file that is regular, readable, small and UTF-8 (with or without a BOM)."""
    start = Place(source, 1, 1)
    if "\0" in str(path):
        refuse(start, "cannot be read (got a path with a NUL; allowed: a YAML file)")
    try:
        # Without O_NONBLOCK, opening a FIFO that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                kind = "a directory" if stat.S_ISDIR(mode) else "a pipe, device or socket"
                refuse(start, f"cannot be read (got {kind}; allowed: a YAML file)")
            content = os.read(descriptor, MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        dangling = " (a symbolic link to nowhere)" if path.is_symlink() else ""
        refuse(start, f"cannot be read: {error.strerror}{dangling}")
    if len(content) > MAX_BYTES:
        refuse(start, f"too large (got more than {MAX_BYTES} bytes; allowed: {MAX_BYTES})")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        byte = content[error.start]
        refuse(Place(source, line, column), f"not UTF-8 (got byte 0x{byte:02x}; allowed: UTF-8)")


def events(text: str, source: str) -> Iterator[yaml.Event]:
    """The events of the one document in ``text``, from its root node on.

    Raises SpaceError for text that is no YAML, for several documents, tags, and what goes beyond
    the limits above (aliases counted as the nodes that they stand for).
    """
    import yaml

    _printable(text, source)
    count = _Count()
    documents = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            place = placed(event.start_mark, source)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    refuse(place, "a second document (allowed: one)")
                if event.tags or event.version not in (None, (1, 2)):
                    refuse(place, "a %TAG or %YAML directive (allowed: none, or %YAML 1.2)")
            elif isinstance(event, yaml.NodeEvent):
                tag = getattr(event, "tag", None)
                if tag is not None:
                    short = tag.replace("tag:yaml.org,2002:", "!!")
                    refuse(place, f"a tag (got {short[:60]}; allowed: none)")
                count.start(event, place)
                yield event
            elif isinstance(event, yaml.CollectionEndEvent):
                count.end()
                yield event
    except yaml.MarkedYAMLError as error:
        place = placed(error.problem_mark or error.context_mark, source)
        refuse(place, _said(error.problem or "it cannot be parsed", error.context))
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, SpaceError):
            raise
        refuse(Place(source, 1, 1), f"not YAML: {' '.join(str(error).split())[:200]}")


class _Count:
    """Depth, aliases and expanded nodes so far; per anchor the size and height below it."""

    def __init__(self) -> None:
        self.open: list[tuple[str | None, int]] = []
        self.heights: list[int] = [0]
        self.anchors: dict[str, tuple[int, int]] = {}
        self.nodes = 0
        self.aliases = 0

    def start(self, event: yaml.NodeEvent, place: Place) -> None:
        import yaml

        size, height = 1, 1
        if isinstance(event, yaml.AliasEvent):
            self.aliases += 1
            if event.anchor in (anchor for anchor, _ in self.open):
                refuse(place, f"*{event.anchor} stands inside the node that it names")
            if event.anchor not in self.anchors:
                refuse(place, f"*{event.anchor} has no anchor &{event.anchor} before it")
            size, height = self.anchors[event.anchor]
        self.nodes += size
        self._within("nodes", self.nodes, MAX_NODES, place)
        self._within("aliases", self.aliases, MAX_ALIASES, place)
        self._within("levels", len(self.open) + height, MAX_DEPTH, place)
        self.heights[-1] = max(self.heights[-1], height)
        if isinstance(event, yaml.CollectionStartEvent):
            self.open.append((event.anchor, self.nodes - 1))
            self.heights.append(0)
        elif isinstance(event, yaml.ScalarEvent) and event.anchor:
            self.anchors[event.anchor] = (1, 1)

    def end(self) -> None:
        anchor, before = self.open.pop()
        height = self.heights.pop() + 1
        self.heights[-1] = max(self.heights[-1], height)
        if anchor:
            self.anchors[anchor] = (self.nodes - before, height)

    def _within(self, what: str, count: int, most: int, place: Place) -> None:
        if count > most:
            refuse(place, f"too many {what}, aliases expanded (got {count}; allowed: {most})")


def refuse(place: Place, message: str, key: str = "") -> NoReturn:
    """Raise SpaceError with one problem."""
    raise SpaceError([Problem(place, key, message)])


def placed(mark: Any, source: str) -> Place:
    """The place of a PyYAML mark, which counts from 0; the beginning where there is none."""
    return Place(source, 1, 1) if mark is None else Place(source, mark.line + 1, mark.column + 1)


def _printable(text: str, source: str) -> None:
    """Refuse control characters by line and column; the parser would only give an offset."""
    import yaml

    bad = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if bad:
        before = text[: bad.start()]
        line, column = before.count("\n") + 1, bad.start() - before.rfind("\n")
        refuse(Place(source, line, column), f"a character not allowed in YAML (got {bad[0]!a})")


def _said(problem: str, context: str | None) -> str:
    if "'\\t'" in problem:
        return "a tab where YAML wants spaces (allowed: spaces)"
    return f"not YAML: {problem}" + (f" ({context})" if context else "")
