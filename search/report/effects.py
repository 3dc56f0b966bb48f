"""Where attention pays: at every block, each arm against the plain network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search import comparing, statistics
from search.canvas import blank
from search.comparing import Stratum
from search.examine import placement
from search.paired import holm
from search.report.section import Table
from search.statistics import PairResult, points
from spaces import arms
from spaces.latency import Latency

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from search.study import Study


@dataclass(frozen=True, slots=True)
class Effect:
    """One arm at one block against the plain network there; `pair.p_holm` is over all effects."""

    stratum: Stratum
    arm: str
    pair: PairResult
    p_holm: float


def plain(study: Study) -> str | None:
    """The first arm without attention at any block; None where there is none."""
    attentive = {
        arms.of(values)
        for values in study.space.settings()
        if placement(study.space.at(values)) != "none"
    }
    names = dict.fromkeys(str(arms.of(values)) for values in study.space.settings())
    return next((name for name in names if name not in attentive), None)


def effects(study: Study) -> tuple[Effect, ...]:
    """Every arm at every block against the plain one; none in a study without one.

    Of arms that are one network at a block, the first.
    """
    if study.space.arms is None or study.space.search.confirms is not None:
        return ()
    control = plain(study)
    if control is None:
        return ()
    settings = study.space.search.compare
    found = comparing.results(study)
    twice = {
        (one.arm if one.arm != control else one.of, stratum)
        for one in comparing.sames(study)
        for stratum in one.strata
    }
    step = comparing.resolution(study)
    strata = dict.fromkeys(stratum for values in found.values() for stratum, _ in values)
    known = [
        (stratum, name, pair)
        for stratum in strata
        for name in found
        if name != control and (name, stratum) not in twice
        for pair in _pair(found, name, control, stratum, settings.margin, settings.alpha, step)
    ]
    corrected = holm([pair.p for _, _, pair in known]) if known else np.empty(0)
    return tuple(
        Effect(stratum, name, pair, float(p))
        for (stratum, name, pair), p in zip(known, corrected, strict=True)
    )


def _pair(
    found: dict[str, dict[tuple[Stratum, int], float]],
    name: str,
    control: str,
    stratum: Stratum,
    margin: float,
    alpha: float,
    resolution: float,
) -> Iterator[PairResult]:
    """The two arms at one block; nothing where no seed has both."""
    here = {
        arm: {block: value for block, value in found[arm].items() if block[0] == stratum}
        for arm in (name, control)
    }
    if here[name].keys() & here[control].keys():
        told = statistics.compare(here, margin=margin, alpha=alpha, resolution=resolution)
        yield told.pairs[0]


def table(study: Study, found: tuple[Effect, ...]) -> Table:
    """Difference to the plain network, interval, n, Holm's p, equivalence; latency where measured.

    That is by how much one image takes longer than on the plain network, on the same device.
    """
    control = plain(study)
    times = _times(study)
    slower = ["latency"] if times else []
    level = f"{100 * (1 - study.space.search.compare.alpha):g} %"
    return Table(
        ["block", "arm", "difference", "interval", "n", "p (Holm)", "equivalent", *slower],
        [
            [
                comparing.shown(effect.stratum) or "-",
                effect.arm,
                points(effect.pair.difference),
                f"{points(effect.pair.low)} to {points(effect.pair.high)}",
                str(effect.pair.n),
                f"{effect.p_holm:.4f}",
                "yes" if effect.pair.equivalent else "no",
                *(_slower(times, effect, str(control)) for _ in slower),
            ]
            for effect in found
        ],
        left=["block", "arm"],
        caption=f"Where attention pays: difference to {control} in points of accuracy, {level} "
        "intervals, sign-flip test with Holm's correction over all rows.",
    )


def _times(study: Study) -> dict[tuple[str, Stratum], Latency]:
    """The latency of one image for every arm at every block, as far as it was measured."""
    return {
        (str(arms.of(values)), arms.block(values)): trial.latency["latency_ms"]
        for trial in study.trials
        if "latency_ms" in trial.latency
        for values in (trial.values, *(alias["values"] for alias in trial.aliases))
    }


def _slower(times: dict[tuple[str, Stratum], Latency], effect: Effect, control: str) -> str:
    mine, theirs = (times.get((arm, effect.stratum)) for arm in (effect.arm, control))
    if mine is None or theirs is None or mine.place != theirs.place:
        return "-"
    return f"{100 * (mine.median / theirs.median - 1):+.0f} %"


def heat(study: Study, found: tuple[Effect, ...]) -> Figure:
    """Arms against blocks, each cell the difference to the plain network in points."""
    strata = list(dict.fromkeys(effect.stratum for effect in found))
    names = list(dict.fromkeys(effect.arm for effect in found))
    cells = np.full((len(names), len(strata)), np.nan)
    for effect in found:
        place = names.index(effect.arm), strata.index(effect.stratum)
        cells[place] = 100 * effect.pair.difference
    figure, axes = blank(1.8 + 1.6 * len(strata), 1.2 + 0.4 * len(names))
    axes.grid(visible=False)
    most = max(0.1, float(np.nanmax(np.abs(cells))))
    across, down = np.arange(len(strata)), np.arange(len(names))
    drawn = axes.pcolormesh(
        across, down, cells, cmap="RdBu", vmin=-most, vmax=most, shading="nearest"
    )
    for effect in found:
        row, column = names.index(effect.arm), strata.index(effect.stratum)
        star = "*" if effect.p_holm <= study.space.search.compare.alpha else ""
        text = f"{100 * effect.pair.difference:+.2f}{star}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8)
    axes.set_xticks(across, [comparing.shown(s) or "all" for s in strata], fontsize=7.5)
    axes.set_yticks(down, names, fontsize=8)
    axes.invert_yaxis()
    figure.colorbar(drawn, ax=axes, label=f"points over {plain(study)} (* significant)")
    return figure
