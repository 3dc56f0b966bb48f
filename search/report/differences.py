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

from search.paired import estimate
from search.trial import Trial
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


def references(backbone: str, stages: Sequence[Stage]) -> dict[str, tuple[int, ...]]:
    """The kernels by stage that others are measured by, under the names that people use."""
    paper = rules.named(rules.PUBLISHED)
    answers = [paper(stage.channels) for stage in stages]
    found = {
        "gamma=2, b=1": tuple(answer for answer in answers if isinstance(answer, int)),
        "k=3": (3,) * len(stages),
    }
    released = rules.RELEASED.get(backbone, {}).get("released")
    return found if released is None else {**found, "released": released}


def backbone(trial: Trial) -> str:
    """The published name of a trial's backbone: `resnet50`, whatever its width."""
    params = trial.config["backbone"]
    return f"{params['name']}{params.get('depth') or ''}"


def twin(
    trials: Iterable[Trial], trial: Trial, stages: Sequence[Stage], wanted: Sequence[int]
) -> Trial | None:
    """The finished trial with these kernels by stage where this one has kernels; it may be itself.

    None where no such network was trained with the same of everything else.
    """
    kernel = {f"stage{stage.number}": size for stage, size in zip(stages, wanted, strict=True)}
    kernels = {site: kernel[site.partition(".")[0]] for site in trial.kernels}
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
    than counting images makes them, as in `search.statistics.compare`.
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
