"""How the trials learnt, and which were stopped, when and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from search import text
from search.front import plots
from search.front.canvas import blank, image
from search.front.picture import COLOURS, axis_name
from search.redaction import redacted
from search.report.section import Figure, Part, Prose, Section, Table
from search.trial import Trial
from spaces.errors import counted

if TYPE_CHECKING:
    from search.study.study import Study

STOPPED = 200
"""Stopped trials listed; a study of thousands has its journal."""
NAMED = 12
"""Members of the front that a legend has room for; a larger one has one colour."""
FEW = 3
"""Epochs up to which a curve has dots: a line of one epoch is nothing to be seen."""


def section(study: Study) -> Section | None:
    """None where nothing is trained for, or nothing has reported yet."""
    if study.judged is None or not any(_curve(trial, study.judged) for trial in study.trials):
        return None
    return Section("Curves, and what was stopped", tuple(_parts(study, study.judged)))


def _parts(study: Study, metric: str) -> Iterator[Part]:
    said = f"{axis_name(metric)} by epoch, first seed of each trial: the front coloured, stopped "
    yield Figure("curves", _drawn(study, metric), said + "trials dashed, all others grey.")
    stopped = [trial for trial in study.trials if trial.outcome not in (None, "finished")]
    if not stopped:
        yield Prose("No trial was stopped, and none failed.")
        return
    yield Table(
        ["trial", "network", "outcome", "epochs", f"last {metric}", "why"],
        [_row(trial, metric) for trial in stopped[:STOPPED]],
        left=["network", "outcome", "why"],
        caption=f"{counted(len(stopped), 'trial')} ended without a result.",
    )


def _row(trial: Trial, metric: str) -> list[str]:
    curve = _curve(trial, metric)
    return [
        f"#{trial.number:03d}",
        text.clean(trial.label),
        str(trial.outcome),
        str(trial.epochs),
        f"{curve[-1]:.4f}" if curve else "-",
        text.short(redacted(trial.reason)) or "-",
    ]


def _drawn(study: Study, metric: str) -> bytes:
    from matplotlib.ticker import MaxNLocator

    figure, axes = blank()
    axes.set_xlabel("epoch")
    axes.set_ylabel(axis_name(metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    longest = max(len(_curve(trial, metric)) for trial in study.trials)
    dot = "o" if longest <= FEW else "None"
    front = {trial.number: place for place, trial in enumerate(study.pareto())}
    named = 0 < len(front) <= NAMED
    for trial in sorted(study.trials, key=lambda trial: trial.number in front):
        curve = _curve(trial, metric)
        epochs = range(1, len(curve) + 1)
        if trial.number in front:
            colour = COLOURS[front[trial.number] % len(COLOURS) if named else 0]
            name = f"#{trial.number:03d}" if named else None
            width = 1.6 if named else 0.8
            axes.plot(
                epochs, curve, color=colour, linewidth=width, label=name, marker=dot, markersize=3.5
            )
        else:
            stopped = trial.outcome not in (None, "finished")
            axes.plot(
                epochs,
                curve,
                color=plots.FAINT,
                linewidth=0.8,
                linestyle="--" if stopped else "-",
                zorder=1,
                marker=dot,
                markersize=3,
            )
    if named:
        axes.legend(loc="lower right", frameon=False, fontsize=7.5, ncols=2)
    return image(figure, "svg")


def _curve(trial: Trial, metric: str) -> list[float]:
    """The metric by epoch, of the first seed."""
    if not trial.replicates:
        return []
    return [metrics[metric] for metrics in trial.replicates[0].curve if metric in metrics]
