"""What the accuracy depends on: kernels by site, placement, width; and how much is seed noise.

Importances of raw gamma and b would spread one effect over many values that are the same network,
so what is asked about is what was built.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from search.front import pareto
from search.front.membership import finals, noise
from search.trial import Trial
from spaces.site import in_order

if TYPE_CHECKING:
    import optuna

    from search.study.study import Study

FEWEST = 12
"""Finished trials below which no share is told: evaluators would fit noise."""
SECTIONS = ("backbone", "training", "dataset")
IDLE = {"name", "root"}
Feature = str | float


@dataclass(frozen=True, slots=True)
class Importance:
    """Shares of the variance of a trained network's result.

    `noise` is the seeds' share of the variance of single trainings, None where no network has two;
    `fanova` and `ped_anova` the features' shares by evaluator, the greatest first. `fanova` shares
    and `noise` add up to 1, interactions shared out among the features. `placement` has what of a
    kernel's share is whether attention stands there at all: a part of that share, not beside it.
    Finished trials alone: what was stopped early is missing, mostly what looked bad.
    """

    trials: int
    noise: float | None
    fanova: dict[str, float]
    ped_anova: dict[str, float]
    placement: dict[str, float]

    def rows(self) -> list[tuple[str, float, str]]:
        """(name, share, evaluator), the greatest first by evaluator; that of the seeds leads."""
        told = {"fanova": self.fanova, "ped_anova": self.ped_anova, "placement": self.placement}
        seeds = [] if self.noise is None else [("seed noise", self.noise, "replicates")]
        return seeds + [(*bar, name) for name, shares in told.items() for bar in shares.items()]


def importance(study: Study) -> Importance | None:
    """None with fewer than `FEWEST` finished trials, or where they or their results are all alike.

    Of Optuna's evaluators fANOVA (Hutter et al. 2014) splits the variance over the whole space,
    PED-ANOVA (Watanabe et al. 2023) asks what makes the better half better.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study of our own making is no news
    metric = study.judged
    trials = [trial for trial in study.trials if trial.objectives is not None]
    if metric is None or len(trials) < FEWEST:
        return None
    results = [pareto.measured(trial)[metric] for trial in trials]
    table = features(trials)
    if not table or len(set(results)) == 1:
        return None
    up = study.objectives[metric].goal == "max"
    derived = _derived(results, table, "maximize" if up else "minimize")
    better = optuna.importance.get_param_importances(
        derived,
        evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5),
    )
    seeds = _noise_share(trials, metric)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(derived, evaluator=evaluator)
    left = 1 - (seeds or 0.0)
    fanova = {name: left * float(share) for name, share in shares.items()}
    return Importance(
        len(trials),
        seeds,
        fanova,
        {name: float(share) for name, share in better.items()},
        _placement(results, table, fanova),
    )


def features(trials: Sequence[Trial]) -> dict[str, list[Feature]]:
    """Name -> one value a trial, of all that differs between the built networks and recipes.

    The kernel at each site (`none` without attention there, `on` for attention without a kernel),
    sites that always agree as one; the kind of attention and its position; the holes of backbone,
    recipe and data. What always differs together cannot be told apart and is one feature:
    `kernel stage3 = backbone.width`.
    """
    columns = {**_sites(trials), **_configs(trials)}
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, column in columns.items():
        if len(set(column)) > 1:
            alike.setdefault(tuple(map(column.index, column)), []).append(name)
    return {" = ".join(names): columns[names[0]] for names in alike.values()}


def _placement(
    results: Sequence[float], table: Mapping[str, Sequence[Feature]], shares: Mapping[str, float]
) -> dict[str, float]:
    """Of each kernel's share what lies between on and off, and not between kernels that are on.

    The two parts of the squares between its levels; a forest over placement bits alone would give
    them what the kernels explain.
    """
    placed: dict[str, float] = {}
    for name, column in table.items():
        whole = _between(results, column)
        if name.startswith("kernel ") and "none" in column and whole > 0:
            part = _between(results, [value == "none" for value in column]) / whole
            placed[name.replace("kernel ", "placement ")] = part * shares[name]
    return dict(sorted(placed.items(), key=lambda item: -item[1]))


def _between(results: Sequence[float], groups: Sequence[Feature]) -> float:
    """Sum of squares between groups, as in a one-way analysis of variance."""
    members: dict[Feature, list[float]] = {}
    for result, group in zip(results, groups, strict=True):
        members.setdefault(group, []).append(result)
    centre = statistics.fmean(results)
    return sum(len(one) * (statistics.fmean(one) - centre) ** 2 for one in members.values())


def _sites(trials: Sequence[Trial]) -> dict[str, list[Feature]]:
    """Sites that agree in every trial share one column, named by the stages they fill."""
    import trainers
    from spaces import Config

    standing = [
        {site.name for site in trainers.active(Config.model_validate(trial.config))}
        for trial in trials
    ]
    names = sorted({name for here in standing for name in here}, key=in_order)
    columns = {
        name: tuple(
            str(trial.kernels.get(name, "on")) if name in here else "none"
            for trial, here in zip(trials, standing, strict=True)
        )
        for name in names
    }
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, column in columns.items():
        groups.setdefault(column, []).append(name)
    return {f"kernel {_called(group, names)}": list(column) for column, group in groups.items()}


def _called(group: Sequence[str], names: Sequence[str]) -> str:
    """`stage2` where all its sites are in the group, else the sites themselves, a few of them."""
    stages = list(dict.fromkeys(name.partition(".")[0] for name in group))
    words = []
    for stage in stages:
        mine = [name for name in group if name.startswith(f"{stage}.")]
        whole = [name for name in names if name.startswith(f"{stage}.")]
        words += [stage] if mine == whole else mine
    return " ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")


def _configs(trials: Sequence[Trial]) -> dict[str, list[Feature]]:
    kinds: dict[str, list[Feature]] = {
        "attention": [
            "none" if trial.placement == "none" else str(trial.config["attention"]["name"])
            for trial in trials
        ],
        "position": _positions(trials),
    }
    flat = [
        dict(_flat({section: trial.config[section] for section in SECTIONS})) for trial in trials
    ]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    return {**kinds, **{key: [one.get(key, "none") for one in flat] for key in keys}}


def _positions(trials: Sequence[Trial]) -> list[Feature]:
    """Where attention stands; without any it stands where most does, so as to say nothing."""
    said = [
        None if trial.placement == "none" else str(trial.config["attention"].get("position"))
        for trial in trials
    ]
    most = statistics.mode([position for position in said if position] or ["none"])
    return [position or most for position in said]


def _flat(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Feature]]:
    for key, value in node.items():
        name = f"{above}.{key}" if above else key
        if key in IDLE and above == "dataset":
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, float(value)
        else:
            yield name, str(value)


def _derived(
    results: Sequence[float],
    table: Mapping[str, list[Feature]],
    goal: Literal["minimize", "maximize"],
) -> optuna.Study:
    """An Optuna study whose parameters are the features; numbers that are all numbers stay so."""
    import optuna

    study = optuna.create_study(direction=goal)
    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    for name, column in table.items():
        numbers = [value for value in column if isinstance(value, float)]
        if len(numbers) == len(column):
            distributions[name] = optuna.distributions.FloatDistribution(min(numbers), max(numbers))
        else:
            table = {**table, name: [str(value) for value in column]}
            options = sorted(set(map(str, column)))
            distributions[name] = optuna.distributions.CategoricalDistribution(options)
    for place, result in enumerate(results):
        study.add_trial(
            optuna.trial.create_trial(
                params={name: column[place] for name, column in table.items()},
                distributions=distributions,
                value=result,
            )
        )
    return study


def _noise_share(trials: Sequence[Trial], metric: str) -> float | None:
    """The variance within networks over that of all single trainings."""
    known = noise(trials, metric)
    singles = [value for trial in trials for value in finals(trial, metric)]
    whole = statistics.pvariance(singles)
    if known is None or whole == 0:
        return None
    return min(1.0, known.sd**2 / whole)
