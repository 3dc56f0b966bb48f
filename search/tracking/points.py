"""The metrics of a trial's run in MLflow, as points: costs, curves, results. Imports no MLflow."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.comparison.confirming import searched
from search.front import tables
from search.trial import COSTS, Trial
from spaces.latency import LATENCIES

if TYPE_CHECKING:
    from search.study.study import Study

METRICS = 25
"""At most so many metrics a run, however many seeds it has: each is a column of MLflow's tables."""
BESIDE = 8
"""Of these, kept for what is no curve: three costs, two latencies, `n`, the replicates' results,
and what a search had said of a network that is confirmed."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric; `time` in unix milliseconds."""

    key: str
    value: float
    time: int
    step: int


def of_trial(trial: Trial, study: Study, started: float, ended: float | None) -> Iterator[Point]:
    """Every point of a trial's run; times in unix seconds, `ended` None while it runs.

    Curves are those of its first replicate, and each replicate's result is one step of a metric of
    its own, so that the number of metrics is that of one seed. Final values are there only when it
    has finished, so that no scatter mixes in stopped trials.
    """
    yield from _costs(trial, milliseconds(started))
    yield from _curves(trial, study)
    yield from _replicates(trial, study)
    yield from _searched(trial, study, milliseconds(started))
    if ended is not None and trial.outcome == "finished":
        yield from _finals(trial, milliseconds(ended))


def key(name: str) -> str:
    """A name that MLflow takes for a param or a metric: what it refuses becomes `_`."""
    name = re.sub(r"[^\w./\- ]", "_", name)[:250]
    if not name or posixpath.normpath(name) != name or name.startswith((".", "/")):
        name = re.sub(r"[./]", "_", name) or "_"
    return name


def milliseconds(seconds: float) -> int:
    """Unix seconds in milliseconds; MLflow refuses times before 1970."""
    return max(0, round(seconds * 1000))


def _costs(trial: Trial, time: int) -> Iterator[Point]:
    for name, cost in trial.costs.items():
        if math.isfinite(cost):
            yield Point("n_params" if name == "params" else key(name), float(cost), time, 0)
        if name == "macs":
            yield Point("flops", 2.0 * cost, time, 0)
    for name, latency in trial.latency.items():
        yield Point(name, latency.median, time, 0)


def _curves(trial: Trial, study: Study) -> list[Point]:
    """Those of the first replicate; where there are too many, the objectives' stay."""
    if not trial.replicates:
        return []
    first, points = trial.replicates[0], []
    # An epoch's own time is not in the journal's facts; its seconds since the start are.
    time = first.attempts[0].started if first.attempts else 0.0
    for metrics in first.curve:
        time += max(metrics.get("seconds", 0.0), 0.001)
        for name, value in metrics.items():
            if name != "epoch" and math.isfinite(value):
                step = int(metrics["epoch"])
                points.append(Point(key(name), float(value), milliseconds(time), step))
    goals = [key(name) for name in study.objectives if name not in (*COSTS, *LATENCIES)]
    names = dict.fromkeys([*goals, *(point.key for point in points)])
    kept = list(names)[: METRICS - BESIDE - 2 * len(goals)]
    return [point for point in points if point.key in kept]


def _replicates(trial: Trial, study: Study) -> Iterator[Point]:
    """What each finished replicate came to, a step each; of a lone one `final_` says it."""
    if study.judged is None or len(trial.replicates) < 2:
        return
    for replicate in trial.replicates:
        if replicate.outcome == "finished":
            value = float(replicate.curve[-1][study.judged])
            time = milliseconds(replicate.attempts[-1].ended or 0.0)
            yield Point(key(f"replicate_{study.judged}"), value, time, replicate.number + 1)


def _searched(trial: Trial, study: Study, time: int) -> Iterator[Point]:
    """What a search had said of a network that this study confirms."""
    if confirms := study.space.search.confirms:
        for value in list(searched(study, trial).values())[:1]:
            yield Point(key(f"searched_{confirms.metric}"), value, time, 0)


def _finals(trial: Trial, time: int) -> Iterator[Point]:
    for name, value in (trial.objectives or {}).items():
        if tables.trained(name, trial):
            yield Point(key(f"final_{name}"), value, time, 0)
            if name in trial.spread:
                yield Point(key(f"final_{name}_sd"), trial.spread[name], time, 0)
    yield Point("n", float(trial.n), time, 0)
