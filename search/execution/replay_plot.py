"""What a replay came to as a picture: hypervolume over the epochs that were trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.execution.replay import growth as curve
from search.front.canvas import blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from search.execution.recorded import Recorded
    from search.execution.replay import Score

POINTS = 200
COLOURS = ("#1f5fa8", "#d1495b", "#2e8b57", "#8a6fb0", "#c98a1b", "#4b4b4b", "#17a2a2")


def growth(recorded: Recorded, scores: Sequence[Score]) -> Figure:
    """One line a pruner: the mean over the orders, one standard deviation around it.

    Across: epochs trained, in full trainings. Upwards: the hypervolume of what had finished by
    then, as a share of that of all networks. A line ends where the longest of its searches did.
    """
    figure, axes = blank(8, 4.6)
    whole = recorded.hypervolume()
    for score, colour in zip(scores, COLOURS * len(scores), strict=False):
        last = max(run.epochs for run in score.runs)
        at = np.linspace(0, last, POINTS)
        lines = []
        for run in score.runs:
            epochs, volumes = curve(recorded, run)
            lines.append(np.array(volumes)[np.searchsorted(epochs, at, side="right") - 1] / whole)
        mean, sd = np.mean(lines, axis=0), np.std(lines, axis=0)
        across = at / recorded.epochs
        axes.plot(across, mean, color=colour, linewidth=1.6, label=score.pruner)
        axes.fill_between(across, mean - sd, mean + sd, color=colour, alpha=0.15, linewidth=0)
    axes.set_title(recorded.name, loc="left", fontsize=12, fontweight="bold", parse_math=False)
    axes.set_xlabel("epochs trained, in full trainings")
    axes.set_ylabel("hypervolume of what has finished, share of all")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
    legend = axes.legend(loc="lower right", frameon=False, fontsize=8.5)
    for entry in legend.get_texts():
        entry.set_parse_math(False)
    return figure
