"""Which (gamma, b) are the networks that were trained: the plane, and what each profile means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.beforehand import diagram
from search.comparison import comparing
from search.comparison.statistics import signed
from search.front import pareto, tables
from search.report.differences import (
    Difference,
    backbone,
    difference,
    places,
    references,
    stages,
    twin,
)
from search.report.section import Figure, Part, Prose, Section, Table
from search.trial import Trial
from spaces.algebra.grid import grid
from spaces.algebra.inverse import Region, region
from spaces.algebra.plane import Plane
from spaces.algebra.strips import GAMMA, B
from spaces.published import Stage

if TYPE_CHECKING:
    from search.study.study import Study

GAMMAS = (1.0, 4.0)
SHIFTS = (-2.0, 4.0)
MOST = 30
NONE = 0
"""The kernel of a stage without attention, in a profile."""
SAME = "same"
PARTS = ("low", "high", "n", "trial")
"""What is told of a difference besides its mean."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A finished network with what its kernels mean.

    `profile` is a kernel for each of `stages`, 0 where no attention stands; `differences` are to
    its twins with the kernels people ask about: "same" where it is that network itself, None where
    none was trained.
    """

    trial: Trial
    stages: tuple[Stage, ...]
    profile: tuple[int, ...]
    region: Region
    differences: dict[str, Difference | str | None]


def section(study: Study) -> Section | None:
    """None where no finished trial has a kernel."""
    if not any(trial.kernels for trial in study.trials if trial.objectives is not None):
        return None
    return Section("Mappings", tuple(_parts(study, mapped(study))))


def mapped(study: Study) -> list[Mapped]:
    """The finished networks that have one kernel a stage, the best first."""
    finished = [trial for trial in study.trials if trial.objectives is not None]
    best = sorted(finished, key=lambda trial: _merit(study, trial))
    once: dict[str, Trial] = {}
    for trial in best:
        once.setdefault(trial.identity, trial)
    return [
        _mapped(study, trial, profile)
        for trial in once.values()
        if any(profile := kernels_by_stage(trial))
    ]


def kernels_by_stage(trial: Trial) -> tuple[int, ...]:
    """A kernel for each of `stages`, 0 for one without attention; empty where its blocks differ."""
    found: dict[tuple[int, int], set[int]] = {}
    where = places(trial)
    for site, kernel in trial.kernels.items():
        found.setdefault(where[site], set()).add(kernel)
    if any(len(kernels) > 1 for kernels in found.values()):
        return ()
    here = ((stage.number, stage.channels) for stage in stages(trial))
    return tuple(next(iter(found.get(place, {NONE}))) for place in here)


def planes(study: Study) -> list[tuple[Trial, Plane]]:
    """The (gamma, b) plane for each width that was trained with kernels, the best trial's first."""
    finished = [trial for trial in study.trials if trial.objectives is not None and trial.kernels]
    found: dict[tuple[int, ...], tuple[Trial, Plane]] = {}
    for trial in sorted(finished, key=lambda trial: _merit(study, trial)):
        here = stages(trial)
        seen = tuple(stage.channels for stage in here)
        if seen not in found:
            cells = grid(seen, "nearest", GAMMAS, SHIFTS)
            drawn = diagram.plane(backbone(trial), here, "nearest", cells)
            found[seen] = trial, drawn
    return list(found.values())


def table(found: Sequence[Mapped], metric: str) -> Table:
    """What each kernel profile is: its result, all (gamma, b) that give it, and its twins."""
    asked = list(found[0].differences)
    return Table(
        [
            "trial",
            "channels",
            "kernels",
            metric,
            "n",
            "a (gamma, b)",
            "all of them between",
            *asked,
        ],
        [_row(one, metric) for one in found[:MOST]],
        left=["channels", "kernels", "all of them between"],
        caption=_caption(found, asked),
    )


def records(found: Sequence[Mapped], metric: str) -> list[dict[str, Any]]:
    """The same as data: a number a cell, None where there is none; accuracies in 0..1.

    `region` are the corners of the polygon of all (gamma, b): `gamma b, gamma b, ...`.
    """
    return [
        {
            "trial": one.trial.number,
            "network": one.trial.label,
            "channels": "-".join(str(stage.channels) for stage in one.stages),
            "kernels": "-".join(map(str, one.profile)),
            metric: pareto.measured(one.trial)[metric],
            f"{metric}_sd": one.trial.spread.get(metric),
            "n": one.trial.n,
            "inside_gamma": None if one.region.inside is None else float(one.region.inside[0]),
            "inside_b": None if one.region.inside is None else float(one.region.inside[1]),
            "region": ", ".join(f"{float(g)!r} {float(b)!r}" for g, b in one.region.corners),
            "no_region_because": "; ".join(one.region.because),
            **{
                key: value
                for name, told in one.differences.items()
                for key, value in _told(one.trial, name, told).items()
            },
        }
        for one in found
    ]


def metric(study: Study) -> str:
    """What networks are judged by; the first cost where nothing is trained for."""
    return study.judged or next(iter(study.objectives))


def _mapped(study: Study, trial: Trial, profile: tuple[int, ...]) -> Mapped:
    here = stages(trial)
    pairs = [
        (stage.channels, kernel) for stage, kernel in zip(here, profile, strict=True) if kernel
    ]
    differences: dict[str, Difference | str | None] = {}
    if study.rising():
        for name, wanted in references(backbone(trial), here).items():
            other = twin(study.trials, trial, here, wanted)
            differences[name] = (
                SAME
                if other is trial
                else None
                if other is None
                else difference(trial, other, metric(study), comparing.resolution(study))
            )
    return Mapped(trial, here, profile, region(pairs), differences)


def _parts(study: Study, found: list[Mapped]) -> Iterator[Part]:
    for place, (trial, plane) in enumerate(planes(study), 1):
        seen = ", ".join(str(stage.channels) for stage in stages(trial))
        said = f"The (gamma, b) plane for {seen} channels, as in trial #{trial.number:03d}: each "
        name = "mappings" if place == 1 else f"mappings-{place}"
        yield Figure(name, diagram.image(plane, "svg"), said + "colour one network.")
    yield Prose(
        "Settings of one colour are the same network, and were trained once. A profile that no "
        "gamma and b give was reached by another mapping."
    )
    if found:
        yield table(found, metric(study))


def _caption(found: Sequence[Mapped], asked: Sequence[str]) -> str:
    said = "Kernel profiles by stage, the best networks first"
    if any(NONE in one.profile for one in found):
        said += "; 0: no attention stands there, and its channels bind no gamma and b"
    said += (
        ". All (gamma, b) inside of the polygon between the corners give that profile "
        f"(the mapping allows gamma to {GAMMA[1]}, b from {B[0]} to {B[1]})."
    )
    said += " Before it one point inside, of few decimals; not the one that was trained."
    if asked:
        said += (
            f" Under {' and '.join(asked)}: the difference in points to the network trained with "
            "those kernels and the same of everything else, over common seeds, with its 95 % t "
            'interval where there are two or more; "same" where it is that network, "-" where '
            "none was trained. The intervals are not corrected for their number."
        )
    return said


def _row(one: Mapped, metric: str) -> list[str]:
    point, corners = "-", f"none: {'; '.join(one.region.because)}"
    if one.region.inside is not None:
        point = "({:g}, {:g})".format(*map(float, one.region.inside))
        corners = " ".join(f"({float(g):.4g}, {float(b):.4g})" for g, b in one.region.corners)
    return [
        f"#{one.trial.number:03d}",
        "-".join(str(stage.channels) for stage in one.stages),
        "-".join(map(str, one.profile)),
        tables.cell(metric, one.trial),
        str(one.trial.n),
        point,
        corners,
        *map(_shown, one.differences.values()),
    ]


def _shown(told: Difference | str | None) -> str:
    if told is None:
        return "-"
    if isinstance(told, str):
        return told
    if told.low is None or told.high is None:
        return f"{signed(told.mean)} (n = {told.n})"
    return f"{signed(told.mean)} ({signed(told.low)} to {signed(told.high)})"


def _told(trial: Trial, name: str, told: Difference | str | None) -> dict[str, Any]:
    """One difference as columns; that to itself is 0 without being measured."""
    key = "minus_" + "".join(c if c.isalnum() else "_" for c in name.replace(", ", "_"))
    if isinstance(told, Difference):
        values: list[Any] = [told.mean, told.low, told.high, told.n, told.twin]
    elif told == SAME:
        values = [0.0, None, None, None, trial.number]
    else:
        values = [None] * 5
    return dict(zip([key, *(f"{key}_{part}" for part in PARTS)], values, strict=True))


def _merit(study: Study, trial: Trial) -> tuple[float, int]:
    name = metric(study)
    sign = -1 if study.objectives[name].goal == "max" else 1
    return sign * pareto.measured(trial)[name], trial.number
