"""What a report is made of, whatever it is written as: sections of prose, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Prose:
    """One paragraph of plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Text whose lines and spaces are to be kept: a space file, a command."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under a heading; the columns named in `left` are set left, others right."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[str] = ()
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture: `name` is its file's, `svg` the picture, `said` what it shows, in words."""

    name: str
    svg: bytes = field(repr=False)
    said: str


Part = Prose | Listing | Table | Figure


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: tuple[Part, ...]
