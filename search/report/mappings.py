"""Which (gamma, b) are the networks that were trained: the plane, and what each profile means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import spaces
from search import diagram, pareto
from search.report.section import Figure, Part, Prose, Section, Table
from search.trial import Trial
from spaces.algebra.grid import grid
from spaces.algebra.inverse import Region, region
from spaces.published import Stage

if TYPE_CHECKING:
    from search.study import Study

GAMMAS = (1.0, 4.0)
SHIFTS = (-2.0, 4.0)
MOST = 30


def section(study: Study) -> Section | None:
    """None where no finished trial has a kernel at every stage."""
    whole = [trial for trial in study.trials if trial.objectives is not None and profile(trial)]
    return Section("Mappings", tuple(_parts(study, whole))) if whole else None


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


def _parts(study: Study, trials: list[Trial]) -> Iterator[Part]:
    best = min(trials, key=lambda trial: _merit(study, trial))
    stages = channels(best)
    seen = [stage.channels for stage in stages]
    shown = diagram.plane(None, stages, "nearest", grid(seen, "nearest", GAMMAS, SHIFTS))
    said = (
        f"The (gamma, b) plane for {', '.join(map(str, seen))} channels: each colour one network."
    )
    yield Figure("mappings", diagram.image(shown, "svg"), said)
    yield Prose(
        "Settings of one colour are the same network, and were trained once. A profile that no "
        "gamma and b give was reached by another mapping."
    )
    networks = {trial.identity: trial for trial in sorted(trials, key=lambda t: _merit(study, t))}
    yield Table(
        ["trial", "channels", "kernels", "one (gamma, b)", "why there is none"],
        [_row(trial) for trial in list(networks.values())[:MOST]],
        left=["channels", "kernels", "why there is none"],
        caption="By stage. The best networks first.",
    )


def _row(trial: Trial) -> list[str]:
    found = meaning(trial)
    point = "-"
    if found.inside is not None:
        gamma, b = map(float, found.inside)
        point = f"({gamma:g}, {b:g})"
    return [
        f"#{trial.number:03d}",
        "-".join(str(stage.channels) for stage in channels(trial)),
        "-".join(map(str, profile(trial))),
        point,
        "; ".join(found.because) or "-",
    ]


def _merit(study: Study, trial: Trial) -> tuple[float, int]:
    name = study.judged or next(iter(study.objectives))
    sign = -1 if study.objectives[name].goal == "max" else 1
    return sign * pareto.measured(trial)[name], trial.number
