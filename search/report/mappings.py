"""Which (gamma, b) are the networks that were trained: the plane, and what each profile means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import spaces
from search import diagram, pareto, tables
from search.report.section import Figure, Part, Prose, Section, Table
from search.trial import Trial
from spaces.algebra.grid import grid
from spaces.algebra.inverse import Region, region
from spaces.algebra.plane import Plane
from spaces.published import Stage

if TYPE_CHECKING:
    from search.study import Study

GAMMAS = (1.0, 4.0)
SHIFTS = (-2.0, 4.0)
MOST = 30


def section(study: Study) -> Section | None:
    """None where no finished trial has a kernel at every stage."""
    trials = profiled(study)
    return Section("Mappings", tuple(_parts(study, trials))) if trials else None


def profiled(study: Study) -> list[Trial]:
    """The finished networks with one kernel for every stage, the best first."""
    whole = [trial for trial in study.trials if trial.objectives is not None and profile(trial)]
    best = sorted(whole, key=lambda trial: _merit(study, trial))
    return list({trial.identity: trial for trial in reversed(best)}.values())[::-1]


def profile(trial: Trial) -> tuple[int, ...]:
    """A kernel for each stage; empty where a stage has none, or blocks that differ."""
    stages: dict[str, set[int]] = {}
    for site, kernel in trial.kernels.items():
        stages.setdefault(site.partition(".")[0], set()).add(kernel)
    known = len(stages) == len(channels(trial))
    single = all(len(found) == 1 for found in stages.values())
    return tuple(found.pop() for found in stages.values()) if known and single else ()


def channels(trial: Trial) -> tuple[Stage, ...]:
    """The stages of a trial's network, with the channels that its attention sees."""
    from trainers.build import sites

    config = spaces.Config.model_validate(trial.config)
    here = [
        site for site in sites(config) if site.position == (config.attention.position or "final")
    ]
    stages: dict[int, Stage] = {}
    for site in here:
        blocks = stages[site.stage].blocks + 1 if site.stage in stages else 1
        stages[site.stage] = Stage(site.stage, site.channels, blocks)
    return tuple(stages[number] for number in sorted(stages))


def meaning(trial: Trial) -> Region:
    """All (gamma, b) of the paper's mapping that are this trial's kernels."""
    pairs = zip(channels(trial), profile(trial), strict=True)
    return region([(stage.channels, kernel) for stage, kernel in pairs])


def plane(trial: Trial) -> Plane:
    """The (gamma, b) plane for the channels of a trial's network."""
    stages = channels(trial)
    seen = [stage.channels for stage in stages]
    return diagram.plane(None, stages, "nearest", grid(seen, "nearest", GAMMAS, SHIFTS))


def _parts(study: Study, trials: list[Trial]) -> Iterator[Part]:
    seen = ", ".join(str(stage.channels) for stage in channels(trials[0]))
    said = f"The (gamma, b) plane for {seen} channels, as in trial #{trials[0].number:03d}: each "
    yield Figure("mappings", diagram.image(plane(trials[0]), "svg"), said + "colour one network.")
    yield Prose(
        "Settings of one colour are the same network, and were trained once. A profile that no "
        "gamma and b give was reached by another mapping."
    )
    yield table(study, trials)


def table(study: Study, trials: list[Trial]) -> Table:
    """What each kernel profile is: its result, and a (gamma, b) that gives it, or why none does."""
    metric = study.judged or next(iter(study.objectives))
    return Table(
        ["trial", "channels", "kernels", metric, "n", "one (gamma, b)", "why there is none"],
        [_row(trial, metric) for trial in trials[:MOST]],
        left=["channels", "kernels", "why there is none"],
        caption="Kernel profiles by stage, the best networks first.",
    )


def _row(trial: Trial, metric: str) -> list[str]:
    found = meaning(trial)
    point = "-"
    if found.inside is not None:
        gamma, b = map(float, found.inside)
        point = f"({gamma:g}, {b:g})"
    return [
        f"#{trial.number:03d}",
        "-".join(str(stage.channels) for stage in channels(trial)),
        "-".join(map(str, profile(trial))),
        tables.cell(metric, trial),
        str(trial.n),
        point,
        "; ".join(found.because) or "-",
    ]


def _merit(study: Study, trial: Trial) -> tuple[float, int]:
    name = study.judged or next(iter(study.objectives))
    sign = -1 if study.objectives[name].goal == "max" else 1
    return sign * pareto.measured(trial)[name], trial.number
