"""What a kernel mapping is worth: a network beside the trained one that differs in its kernels.

Two trials are twins where their configs say the same but for `attention.mapping`. What is asked of
a mapping is how it does beside the paper's gamma=2, b=1, beside kernels of 3 everywhere, and beside
the kernels of the authors' released checkpoints, so those are the twins looked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from search.comparison.paired import estimate
from search.trial import Trial
from spaces import Config
from spaces.algebra import rules
from spaces.published import Stage

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Difference:
    """A network minus its twin, in accuracy (0..1): the mean over the `n` seeds that both have.

    `low` to `high` is the 95 % t interval; None below two seeds, which tell no noise.
    """

    twin: int
    n: int
    mean: float
    low: float | None
    high: float | None


def stages(trial: Trial) -> tuple[Stage, ...]:
    """The stages of a trial's network, with the channels that attention sees there."""
    from trainers.build import stages

    return stages(Config.model_validate(trial.config))


def places(trial: Trial) -> dict[str, tuple[int, int]]:
    """The stage's number and the channels of every site at the position of a trial's attention."""
    from trainers.build import sites

    config = Config.model_validate(trial.config)
    position = config.attention.position or "final"
    here = (site for site in sites(config) if site.position == position)
    return {site.name: (site.stage, site.channels) for site in here}


def references(backbone: str, here: Sequence[Stage]) -> dict[str, tuple[int, ...]]:
    """The kernels by stage that others are measured by, under the names that people use."""
    paper = rules.named(rules.PUBLISHED)
    answers = [paper(stage.channels) for stage in here]
    found = {
        "gamma=2, b=1": tuple(answer for answer in answers if isinstance(answer, int)),
        "k=3": (3,) * len(here),
    }
    released = rules.RELEASED.get(backbone, {}).get("released")
    if released is None or len(released) != len(here):
        return found
    return {**found, "released": released}


def backbone(trial: Trial) -> str:
    """The published name of a trial's backbone: `resnet50`, whatever its width."""
    params = trial.config["backbone"]
    return f"{params['name']}{params.get('depth') or ''}"


def twin(
    trials: Iterable[Trial], trial: Trial, here: Sequence[Stage], wanted: Sequence[int]
) -> Trial | None:
    """The finished trial with a wanted kernel for each stage `here` where this one has kernels.

    It may be this one itself. None where no such network was trained, all else being the same.
    """
    asked = zip(here, wanted, strict=True)
    kernel = {(stage.number, stage.channels): size for stage, size in asked}
    where = places(trial)
    kernels = {site: kernel[where[site]] for site in trial.kernels}
    if kernels == trial.kernels:
        return trial
    rest = _rest(trial)
    there = (
        other
        for other in trials
        if other.objectives is not None and other.kernels == kernels and _rest(other) == rest
    )
    return next(there, None)


def difference(trial: Trial, other: Trial, metric: str, resolution: float) -> Difference | None:
    """A trial minus its twin, seed by seed; None where they have no finished seed in common.

    `resolution` is the smallest step of an accuracy: differences are never taken to be less noisy
    than counting images makes them, as in `search.comparison.statistics.compare`.
    """
    mine, theirs = by_seed(trial, metric), by_seed(other, metric)
    common = sorted(mine.keys() & theirs.keys())
    if not common:
        return None
    values = [mine[number] - theirs[number] for number in common]
    found = estimate(values, [0] * len(values), floor=resolution**2 / 6)
    low, high = map(float, found.interval(LEVEL)) if found.df else (None, None)
    return Difference(other.number, len(common), float(found.mean), low, high)


def by_seed(trial: Trial, metric: str) -> dict[int, float]:
    """The last epoch's value of every finished seed, by the replicate's number."""
    return {
        replicate.number: replicate.curve[-1][metric]
        for replicate in trial.replicates
        if replicate.outcome == "finished" and metric in replicate.curve[-1]
    }


def _rest(trial: Trial) -> str:
    """Everything a config says but the kernel mapping, as one comparable text."""
    attention: dict[str, Any] = trial.config["attention"]
    rest = {key: value for key, value in attention.items() if key != "mapping"}
    return json.dumps({**trial.config, "attention": rest}, sort_keys=True)
