"""Who proposes the next point: a sampler by name, Optuna's or ours, made anew for every ask.

Between two asks an Optuna sampler keeps nothing that matters: what it learns from is in the study,
in its trials and their system attributes. A generator's state is in neither, and GPSampler's warm
start is not either, so a sampler that lives as long as its driver proposes other points after a
resume than without one. One that is made for each ask, seeded by the study's seed and the number of
asks, proposes the same.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    PartialFixedSampler,
    QMCSampler,
    RandomSampler,
)
from optuna.trial import FrozenTrial, TrialState

from search.sampling.by_name import SpecError, build, find, setting
from search.sampling.pareto_sampler import ParetoSampler

if TYPE_CHECKING:
    from spaces import Space
    from spaces.parameters import Parameter

SAMPLERS: dict[str, type[BaseSampler]] = {
    name: cls
    for name in optuna.samplers.__all__
    if inspect.isclass(cls := getattr(optuna.samplers, name))
    and issubclass(cls, BaseSampler)
    and not inspect.isabstract(cls)
} | {"ParetoSampler": ParetoSampler}
GRID_LIMIT = 100_000
"""The largest grid that is listed; a larger one is for BruteForceSampler or RandomSampler."""


def sampler(
    spec: Mapping[str, Any], *, seed: int, space: Space, objectives: Collection[str]
) -> BaseSampler:
    """The sampler a space file names, such as `{name: TPESampler, multivariate: true}`.

    It is for one ask, and `seed`, below 2**32, is that ask's own. Where a sampler's seed fixes the
    *set* of points (the grid's order, the scrambled sequence), the study's seed is taken instead,
    so that all asks walk through one set. Raises `SpecError`, a ValueError, for an unknown name or
    argument, a value that the sampler refuses, and a sampler that cannot search this space.
    """
    cls = find("sampler", SAMPLERS, spec.get("name"))
    given = {key: value for key, value in spec.items() if key != "name"}
    if "seed" in given:
        raise SpecError("seed", "the study's seed is the sampler's too; write it to search.seed")
    _possible(cls, space, objectives)
    if cls is GridSampler:
        return build(_Grid, given, search_space=_grid(space), seed=space.search.seed)
    if cls is BruteForceSampler:
        return build(_BruteForce, given, seed=seed)
    if cls is QMCSampler:
        given.setdefault("warn_independent_sampling", False)
        scramble = setting(cls, given, "scramble")
        independent = RandomSampler(seed=seed)
        own = space.search.seed if scramble else seed
        return build(cls, given, seed=own, independent_sampler=independent)
    if cls is GPSampler:
        # A conditional parameter is drawn at random by design; saying so at every ask helps nobody.
        given.setdefault("warn_independent_sampling", False)
    return build(cls, given, seed=seed)


def suggest(trial: optuna.Trial, parameter: Parameter) -> Any:
    """Ask the trial for one parameter's value."""
    name, low, high, step = parameter.name, parameter.low, parameter.high, parameter.step
    if parameter.kind == "categorical":
        return trial.suggest_categorical(name, list(parameter.choices))
    if parameter.kind == "int":
        return trial.suggest_int(name, int(low), int(high), step=int(step or 1), log=parameter.log)
    return trial.suggest_float(name, low, high, step=step, log=parameter.log)


def reads_pruned(name: str) -> bool:
    """Whether the sampler learns from a trial told PRUNED, and so from an infeasible one.

    TPE does: told PRUNED with `trial.set_constraint` it turns away from such points, told FAIL it
    keeps proposing them. NSGA-II, NSGA-III and GP read complete trials alone. Grid and BruteForce
    only note which points are taken; random and quasi-random sequences learn nothing.
    """
    return name == "TPESampler"


def refusal(name: str) -> TrialState:
    """The state to tell of a proposal that is not trained: over a limit, or not to be built."""
    return TrialState.PRUNED if reads_pruned(name) else TrialState.FAIL


def memory(study: optuna.Study) -> dict[str, Any]:
    """What the sampler has noted in the study beside its trials: the parents of each generation
    (NSGA-II, NSGA-III), how far the sequence has come (QMC). JSON.
    """
    return dict(study._storage.get_study_system_attrs(study._study_id))


def remember(study: optuna.Study, notes: Mapping[str, Any]) -> None:
    """Put such notes into a study that was made again from its trials."""
    for key, value in notes.items():
        study._storage.set_study_system_attr(study._study_id, key, value)


class _Endless(BaseSampler):
    """Says nothing when its points are used up.

    Optuna's own stop the study then, which outside `Study.optimize` is an error in `Study.tell`.
    """

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Nothing: the study sees by itself that nothing new comes."""


class _Grid(_Endless, GridSampler):
    pass


class _BruteForce(_Endless, BruteForceSampler):
    pass


def _possible(cls: type[BaseSampler], space: Space, objectives: Collection[str]) -> None:
    if cls is CmaEsSampler:
        if len(objectives) > 1:
            raise SpecError("name", f"CmaEsSampler takes one objective (got {len(objectives)})")
        if importlib.util.find_spec("cmaes") is None:
            raise SpecError("name", "CmaEsSampler needs a package: pip install cmaes")
    if cls is PartialFixedSampler:
        raise SpecError("name", "PartialFixedSampler is for Python; replace the hole by its value")
    if cls in (GridSampler, BruteForceSampler):
        endless = [p.name for p in space.parameters if p.count() is None]
        if endless:
            raise SpecError(
                "name",
                f"{cls.__name__} needs finitely many points; give {', '.join(endless)} a step",
            )


def _grid(space: Space) -> dict[str, list[Any]]:
    """Every value of every parameter. Parameters of options not taken multiply the grid too: such
    points are duplicates, and cost nothing.
    """
    axes = {parameter.name: list(parameter.values()) for parameter in space.parameters}
    size = math.prod(map(len, axes.values()))
    if size > GRID_LIMIT:
        raise SpecError(
            "name", f"a grid of {size:,} points is over {GRID_LIMIT:,}; use BruteForceSampler"
        )
    return axes
