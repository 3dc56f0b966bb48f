"""What the accuracy depended on, seed noise as a bar of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from search.front import importance
from search.front.canvas import blank, image
from search.front.importance import Importance
from search.front.picture import COLOURS, PLAIN
from search.report.section import Figure, Part, Prose, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from search.study.study import Study

BARS = 12
NOISE = "seed noise"
TITLE = "What it depended on"


def section(study: Study) -> Section | None:
    """None for a comparison, whose arms are no sample of anything, and where nothing differs."""
    if study.space.arms is not None or study.judged is None:
        return None
    found = importance.importance(study)
    if found is not None:
        return Section(TITLE, tuple(_parts(found)))
    finished = study.outcomes()["finished"]
    if not 1 < finished < importance.FEWEST:
        return None
    said = f"Told from {importance.FEWEST} finished trials on; there are {finished}."
    return Section(TITLE, (Prose(said),))


def figure(found: Importance) -> Drawing:
    """The greatest shares of variance by fANOVA, and that of seed noise where it is known."""
    bars = list(found.fanova.items())[:BARS]
    if found.noise is not None:
        bars = sorted([*bars, (NOISE, found.noise)], key=lambda bar: -bar[1])
    drawn, axes = blank(8.0, 1.0 + 0.3 * len(bars))
    colours = [PLAIN if name == NOISE else COLOURS[0] for name, _ in bars]
    axes.barh([name for name, _ in bars], [share for _, share in bars], color=colours)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("share of the variance")
    return drawn


def _parts(found: Importance) -> Iterator[Part]:
    said = f"Shares of the variance of {found.trials} finished trials' results, by fANOVA"
    known = found.noise is not None
    yield Figure(
        "importance",
        image(figure(found), "svg"),
        said + ("; the seeds' share of single trainings in grey." if known else "."),
    )
    if not known:
        yield Prose(
            "How much of it is seed noise is not known, as no network was trained with two seeds: "
            "`search.replicates`, or `eca-search confirm`, would tell."
        )
    if found.placement:
        bits = list(found.placement.items())[:BARS]
        shares = ", ".join(f"{name} {share:.0%}" for name, share in bits)
        yield Prose(f"Of the kernels' shares, whether attention stands there at all: {shares}.")
    first, *others = found.ped_anova
    yield Prose(
        f"What made the better half better (PED-ANOVA): {first}"
        + (f", then {', '.join(others[:3])}." if others else ".")
        + " Stopped trials are left out: mostly what looked bad early."
    )
