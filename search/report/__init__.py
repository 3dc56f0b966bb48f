"""A study as one document: what it found, how, and what that is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search import projection, text
from search.report import (
    budget,
    comparison,
    confirmed,
    curves,
    effects,
    front,
    html,
    importance,
    kernels,
    mappings,
    markdown,
    origin,
)
from search.report.section import Section

if TYPE_CHECKING:
    from search.study import Study

SECTIONS = (
    comparison,
    confirmed,
    front,
    effects,
    curves,
    kernels,
    mappings,
    importance,
    budget,
    origin,
)
"""In the order in which they are read; one that has nothing to say is left out."""


def sections(study: Study) -> tuple[Section, ...]:
    """Everything there is to say of a study."""
    found = (part.section(study) for part in SECTIONS)
    return tuple(section for section in found if section is not None)


def as_html(study: Study) -> str:
    """One self-contained file."""
    return html.page(study.name, _subtitle(study), sections(study))


def as_markdown(study: Study) -> dict[str, bytes]:
    """`report.md` and the pictures that it links to."""
    found = sections(study)
    page = markdown.page(study.name, _subtitle(study), found)
    return {"report.md": page.encode(), **markdown.figures(found)}


def as_paper(study: Study, confirmation: Study | None = None) -> dict[str, bytes]:
    """Tables, figures and a methods paragraph; with a study that confirms this one, if any."""
    from search.report import paper

    return paper.files(study, confirmation)


def _subtitle(study: Study) -> str:
    asked = projection.question(study)
    return " ".join(filter(None, [asked, f"As of {text.clock(study.updated)}."]))
