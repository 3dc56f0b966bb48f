"""What a comparison has told, as tables and a forest plot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from search.comparison import comparing, comparison_text, statistics
from search.front.canvas import blank, image
from search.front.picture import COLOURS, PLAIN
from search.report.section import Figure, Part, Prose, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from search.comparison.comparing import Told
    from search.study.study import Study


def section(study: Study) -> Section | None:
    """None for a search or a confirmation, and before there is something to tell."""
    if study.space.arms is None or study.space.search.confirms is not None:
        return None
    told = comparing.told(study)
    if told is None:
        return None
    return Section("Comparison", tuple(_compared(told)))


def forest(told: Told) -> Drawing:
    """Every pair's difference with its interval, the margin as a band around none."""
    found = told.comparison
    figure, axes = blank(8.0, 1.2 + 0.32 * len(found.pairs))
    axes.axvspan(-100 * found.margin, 100 * found.margin, color="#f0f0f0", zorder=0)
    axes.axvline(0, color=PLAIN, linewidth=0.8)
    for row, pair in enumerate(found.pairs):
        colour = COLOURS[5] if pair.significant else COLOURS[2] if pair.equivalent else PLAIN
        if pair.n > pair.strata:
            axes.plot([100 * pair.low, 100 * pair.high], [row, row], color=colour, linewidth=1.6)
        axes.plot(100 * pair.difference, row, "o", color=colour, markersize=5)
    names = [f"{pair.a} - {pair.b}" for pair in found.pairs]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("difference in points")
    return figure


def pairs(told: Told) -> Table:
    """A row a pair of arms."""
    heading, *rows = comparison_text.pair_rows(told.comparison)
    level = f"{100 * (1 - told.comparison.alpha):g} %"
    method = (
        f"Differences over matched blocks and seeds, in points; {level} t intervals, two-sided "
        "sign-flip test, Holm's correction over all pairs."
    )
    return Table(heading, rows, left=["pair"], caption=method)


def records(told: Told) -> list[dict[str, Any]]:
    """The pairs as data: a number a cell, accuracies in 0..1; no interval from one seed."""
    unknown = {"low": None, "high": None}
    return [
        {**asdict(pair), **({} if pair.n > pair.strata else unknown)}
        for pair in told.comparison.pairs
    ]


def _compared(told: Told) -> Iterator[Part]:
    found = told.comparison
    level = f"{100 * (1 - found.alpha):g} %"
    yield from (Prose(f"{statistics.sentence(pair, found.margin)}.") for pair in found.pairs)
    yield from (Prose(f"Mind: {caveat}.") for caveat in told.caveats)
    if found.pairs:
        said = f"Differences in points with {level} intervals; grey: within the margin of "
        said += f"{100 * found.margin:g} points; orange: significant, green: equivalent."
        yield Figure("forest", image(forest(told), "svg"), said)
    yield pairs(told)
    heading, *rows = comparison_text.arm_rows(found)
    yield Table(heading, rows, left=["arm"], caption=f"{told.metric} by arm.")
    yield from (Prose(f"{line}.") for line in comparison_text.same(told.same))
