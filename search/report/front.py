"""The front: the picture, the table, and what it is worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from search import text
from search.front import plots, tables
from search.front.canvas import image
from search.report.section import Figure, Part, Prose, Section, Table

if TYPE_CHECKING:
    from search.study.study import Study


def section(study: Study) -> Section | None:
    """None before a trial has finished, and for a comparison: its arms were given."""
    compared = study.space.arms is not None and study.space.search.confirms is None
    if compared or not study.pareto():
        return None
    return Section("Pareto front", tuple(_parts(study)))


def _parts(study: Study) -> Iterator[Part]:
    notes = ". ".join(text.footnotes(study))
    yield Prose(f"{text.worth(study)}. Costs within their tolerance count as equal. {notes}.")
    said = f"Every finished trial of {study.name}, the front in strong colours."
    yield Figure("front", image(plots.front(study), "svg"), said)
    yield table(study)


def table(study: Study) -> Table:
    """A row a network of the front, cheapest first."""
    sure = study.membership()
    known = [] if sure is None else ["on front"]
    front = study.pareto()
    names = tables.shown(front, study.objectives)
    said = "Means over n seeds, ± the sample standard deviation where n is 2 or more."
    if sure is not None:
        said += " On front: the probability that the network belongs there, seeds being noisy."
    return Table(
        ["trial", "network", *names, "n", *known, "kernels"],
        [
            [
                f"#{trial.number:03d}",
                text.clean(trial.label),
                *(tables.cell(name, trial) for name in names),
                str(trial.n),
                *([] if sure is None else [f"{sure[trial.number]:.0%}"]),
                tables.kernels(trial.kernels),
            ]
            for trial in front
        ],
        left=["network", "kernels"],
        caption=said,
    )
