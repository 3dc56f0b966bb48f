"""A report as Markdown; its figures are files beside it."""

from __future__ import annotations

from collections.abc import Sequence

from search.front.tables import escape
from search.report.section import Figure, Listing, Part, Prose, Section, Table


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole text; figures are linked to as NAME.svg."""
    blocks = [f"# {escape(title)}", escape(subtitle)]
    for section in sections:
        blocks += [f"## {escape(section.title)}", *map(_part, section.parts)]
    return "\n\n".join(blocks) + "\n"


def figures(sections: Sequence[Section]) -> dict[str, bytes]:
    """The files that the Markdown links to."""
    parts = (part for section in sections for part in section.parts)
    return {f"{part.name}.svg": part.svg for part in parts if isinstance(part, Figure)}


def _part(part: Part) -> str:
    match part:
        case Prose(text):
            return escape(text)
        case Listing(text):
            fence = "```" if "```" not in text else "````"
            return f"{fence}text\n{text.rstrip()}\n{fence}"
        case Table():
            return _table(part)
        case Figure(name, _, said):
            return f"![{escape(said)}]({name}.svg)\n\n{escape(said)}"


def _table(table: Table) -> str:
    sides = [":---" if name in table.left else "---:" for name in table.heading]
    lines = [table.heading, sides, *([escape(cell) for cell in row] for row in table.rows)]
    written = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{escape(table.caption)}\n\n{written}" if table.caption else written
