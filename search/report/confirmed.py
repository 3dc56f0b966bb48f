"""What a confirmation came to: search against test images, and how the order held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search import confirming
from search.report.section import Prose, Section, Table

if TYPE_CHECKING:
    from search.study import Study


def section(study: Study) -> Section | None:
    """None for a study that confirms no other."""
    if study.space.search.confirms is None:
        return None
    found = confirming.confirmation(study)
    opening = Prose(
        f"Networks of {found.study}, trained anew with fresh seeds on training and validation "
        "images, judged by the test images, which the search never read."
    )
    lines = (Prose(f"{line}.") for line in confirming.lines(found))
    return Section("Confirmed", (opening, table(study), *lines))


def table(study: Study) -> Table:
    """A row a network."""
    heading, *rows = confirming.rows(confirming.confirmation(study))
    caption = "Means over n fresh seeds, ± the sample standard deviation; test images."
    return Table(heading, rows, left=["network"], caption=caption)


def records(study: Study) -> list[dict[str, Any]]:
    """The same as data: a number a cell, accuracies in 0..1, None where there is none."""
    found = confirming.confirmation(study)
    return [
        {
            "searched_as": one.original,
            f"search_{found.searched}": one.searched,
            "confirmed_as": one.trial.number,
            f"confirmed_{found.judged}": one.mean,
            f"confirmed_{found.judged}_sd": one.sd,
            "n": one.n,
            "network": one.trial.label.partition(": ")[2],
            **one.trial.costs,
        }
        for one in found.networks
    ]
