"""Which kernel stood where: sites against trials, the best trials first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search.front import pareto
from search.front.canvas import blank, image
from search.front.picture import axis_name
from search.report.section import Figure, Prose, Section
from search.trial import Trial
from spaces.site import in_order

if TYPE_CHECKING:
    from search.study.study import Study

MOST = 48
"""Trials drawn; cells would be too narrow to read beyond."""
EMPTY = "#ffffff"
SCALE = ("#cfe3f1", "#92c5de", "#4393c3", "#2166ac", "#053061")
"""From small kernels to large, one hue: told apart in print and by colour-blind readers."""


def section(study: Study) -> Section | None:
    """None where no finished trial has a kernel."""
    finished = [trial for trial in study.trials if trial.objectives is not None]
    if not any(trial.kernels for trial in finished):
        return None
    best = sorted(finished, key=lambda trial: _merit(study, trial))[:MOST]
    sites = list(dict.fromkeys(site for trial in best for site in trial.kernels))
    if not sites:
        said = f"None of the {len(best)} best trials has attention with a kernel."
        return Section("Kernels by site", (Prose(said),))
    order = sorted(sites, key=in_order)
    metric = axis_name(study.judged or next(iter(study.objectives)))
    said = f"Kernel size at every site, trials by {metric}, the best on the left; "
    figure = Figure("kernels", _drawn(best, order), f"{said}white: no attention there.")
    return Section("Kernels by site", (figure,))


def _merit(study: Study, trial: Trial) -> tuple[float, int]:
    name = study.judged or next(iter(study.objectives))
    sign = -1 if study.objectives[name].goal == "max" else 1
    return sign * pareto.measured(trial)[name], trial.number


def _drawn(trials: list[Trial], sites: list[str]) -> bytes:
    from matplotlib.colors import ListedColormap

    sizes = sorted({size for trial in trials for size in trial.kernels.values()})
    colours = [
        SCALE[round(i * (len(SCALE) - 1) / max(1, len(sizes) - 1))] for i in range(len(sizes))
    ]
    cells = np.array(
        [[sizes.index(t.kernels[s]) + 1 if s in t.kernels else 0 for t in trials] for s in sites]
    )
    figure, axes = blank(8.0, min(12.0, 1.3 + 0.24 * len(sites)))
    axes.grid(visible=False)
    axes.pcolormesh(  # shapes, where imshow would embed pixels
        np.arange(len(trials)),
        np.arange(len(sites)),
        cells,
        cmap=ListedColormap([EMPTY, *colours]),
        vmin=-0.5,
        vmax=len(sizes) + 0.5,
        edgecolors="white",
        linewidth=0.5,
        shading="nearest",
    )
    axes.invert_yaxis()
    for row, site in enumerate(sites):
        for column, trial in enumerate(trials):
            if site in trial.kernels:
                dark = cells[row, column] > (len(sizes) + 1) / 2
                axes.text(
                    column,
                    row,
                    str(trial.kernels[site]),
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color="white" if dark else "black",
                )
    axes.set_yticks(range(len(sites)), sites, fontsize=7.5)
    axes.set_xticks(
        range(len(trials)), [f"#{t.number:03d}" for t in trials], fontsize=6.5, rotation=90
    )
    return image(figure, "svg")
