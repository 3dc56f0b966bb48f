"""A study as one document: what it found, how, and what that is worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from search import text
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
from search.tracking import projection

if TYPE_CHECKING:
    from search.study.study import Study


def sections(study: Study, confirmations: Sequence[Study] = ()) -> tuple[Section, ...]:
    """Everything there is to say of a study, and of those that confirm it, in reading order.

    A section that has nothing to say is left out.
    """
    found = (
        comparison.section(study),
        confirmed.section(study, confirmations),
        front.section(study),
        effects.section(study),
        curves.section(study),
        kernels.section(study),
        mappings.section(study),
        importance.section(study),
        budget.section(study),
        origin.section(study),
    )
    return tuple(section for section in found if section is not None)


def as_html(study: Study, confirmations: Sequence[Study] = ()) -> str:
    """One self-contained file."""
    return html.page(study.name, _subtitle(study), sections(study, confirmations))


def as_markdown(study: Study, confirmations: Sequence[Study] = ()) -> dict[str, bytes]:
    """`report.md` and the pictures that it links to."""
    found = sections(study, confirmations)
    page = markdown.page(study.name, _subtitle(study), found)
    return {"report.md": page.encode(), **markdown.figures(found)}


def as_paper(study: Study, confirmations: Sequence[Study] = ()) -> dict[str, bytes]:
    """Tables, figures and a methods paragraph, also of the studies that confirm this one."""
    from search.report import paper

    return paper.files(study, confirmations)


def _subtitle(study: Study) -> str:
    asked = projection.question(study)
    zone = time.strftime("%Z", time.localtime(study.updated))  # a report is read elsewhere
    return " ".join(filter(None, [asked, f"As of {text.clock(study.updated)} {zone}."]))
