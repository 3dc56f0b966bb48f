"""Samplers by name: made anew for every ask, the same after a resume, told what is infeasible."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.sampling.by_name import SpecError
from search.sampling.samplers import (
    SAMPLERS,
    memory,
    reads_pruned,
    refusal,
    remember,
    sampler,
    suggest,
)
from spaces.space import Space, load

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

OBJECTIVES = {"val_accuracy": "max", "params": "min"}
SPECS: dict[str, dict[str, Any]] = {
    "random": {"name": "RandomSampler"},
    "tpe": {"name": "TPESampler", "n_startup_trials": 6},
    "tpe-multivariate": {"name": "TPESampler", "n_startup_trials": 6, "multivariate": True},
    "tpe-group": {"name": "TPESampler", "n_startup_trials": 6, "multivariate": True, "group": True},
    "nsga2": {"name": "NSGAIISampler", "population_size": 5},
    "nsga3": {"name": "NSGAIIISampler", "population_size": 5, "dividing_parameter": 2},
    "gp": {"name": "GPSampler", "n_startup_trials": 6},
    "qmc": {"name": "QMCSampler"},
    "qmc-scrambled": {"name": "QMCSampler", "scramble": True, "qmc_type": "halton"},
    "grid": {"name": "GridSampler"},
    "brute": {"name": "BruteForceSampler"},
}

Make = Callable[..., Space]


@pytest.fixture
def space(write_space: Callable[..., Path]) -> Space:
    """Two widths, no attention or ECA with a conditional gamma and b: 2 * (1 + 7 * 5) settings."""
    return load(
        write_space(
            attention=(
                "{choice: [{name: none}, {name: eca, mapping: {name: log2, "
                "gamma: {float: [1, 4], step: 0.5}, b: {float: [-1, 3], step: 1}}}]}"
            )
        )
    )


@pytest.fixture
def endless(write_space: Callable[..., Path]) -> Space:
    """A space with a float that has no step."""
    return load(write_space(width="{float: [0.25, 1.0]}"))


def new_study() -> optuna.Study:
    """A main study: two objectives, nothing pruned by Optuna itself."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        directions=["maximize", "minimize"], pruner=optuna.pruners.NopPruner()
    )


def ask(study: optuna.Study, spec: dict[str, Any], space: Space, asks: int) -> optuna.Trial:
    """Proposal number `asks`."""
    study.sampler = sampler(spec, seed=1000 + asks, space=space, objectives=OBJECTIVES)
    trial = study.ask()
    space.fill(lambda parameter: suggest(trial, parameter))
    return trial


def toy(values: dict[str, Any]) -> tuple[float, float]:
    """An accuracy with a peak inside the space, and a cost that grows with it."""
    gamma = values.get("attention.eca.mapping.gamma", 4.0)
    b = values.get("attention.eca.mapping.b", 3.0)
    accuracy = values["backbone.width"] - 0.1 * abs(gamma - 2) - 0.05 * abs(b - 1)
    return accuracy, values["backbone.width"] ** 2 + 0.01 * gamma


def tell(study: optuna.Study, trial: optuna.Trial) -> None:
    """Most complete, some are infeasible, some fail; which does not depend on the sampler."""
    trial.set_constraint("params", 0.5 if trial.number % 5 == 3 else -0.5)
    if trial.number % 5 == 3:
        study.tell(trial, state=TrialState.PRUNED)
    elif trial.number % 7 == 4:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, toy(trial.params))


def drive(
    study: optuna.Study, spec: dict[str, Any], space: Space, asks: range, flying: list[optuna.Trial]
) -> list[dict[str, Any]]:
    """Ask on with three trials in flight; what was proposed."""
    proposed = []
    for number in asks:
        trial = ask(study, spec, space, number)
        proposed.append(trial.params)
        flying.append(trial)
        if len(flying) > 3:
            tell(study, flying.pop(0))
    return proposed


def rebuilt(study: optuna.Study) -> optuna.Study:
    """The study made again from what a journal can hold: its trials and the sampler's notes."""
    again = new_study()
    for trial in study.trials:
        again.add_trial(trial)
    remember(again, memory(study))
    return again


@pytest.mark.parametrize("which", SPECS)
def test_a_rebuilt_study_goes_on_the_same(which: str, space: Space) -> None:
    """Study and sampler made again propose the next ten points that the first ones propose."""
    spec = SPECS[which]
    first, flying = new_study(), []
    before, after = (17, 27) if which != "gp" else (12, 15)  # GP: a second an ask
    drive(first, spec, space, range(before), flying)
    second = rebuilt(first)
    flying_again = [optuna.Trial(second, trial._trial_id) for trial in flying]
    asks = range(before, after)
    expected = drive(first, spec, space, asks, flying)
    assert drive(second, spec, space, asks, flying_again) == expected
    assert len({str(point) for point in expected}) > 1


def test_notes_beside_the_trials_matter(endless: Space) -> None:
    """Without its notes a rebuilt quasi-random sequence starts over; that is why they are kept."""
    spec = SPECS["qmc"]
    study = new_study()
    drive(study, spec, endless, range(6), [])
    assert memory(study)
    forgetful = new_study()
    for trial in study.trials:
        forgetful.add_trial(trial)
    asks = range(6, 14)
    assert drive(forgetful, spec, endless, asks, []) != drive(study, spec, endless, asks, [])


def test_each_ask_has_its_own_seed(space: Space) -> None:
    """Asks with different seeds differ, with the same seed they are equal."""
    points = [ask(new_study(), SPECS["random"], space, asks).params for asks in (1, 2, 3, 4, 1)]
    assert points[0] == points[4]
    assert len({str(point) for point in points}) > 1


@pytest.mark.parametrize("which", ["grid", "brute"])
def test_exhaustive_samplers_see_every_point(which: str, space: Space) -> None:
    """Asked often enough, grid and brute force propose all 72 settings; used up, they do not break
    the study.
    """
    spec = SPECS[which]
    study = new_study()
    asks = 2 * 2 * 7 * 5 if which == "grid" else space.size()
    assert asks is not None
    points = drive(study, spec, space, range(asks), flying := [])
    for trial in flying:
        tell(study, trial)
    assert len({str(sorted(point.items())) for point in points}) == space.size() == 72
    drive(study, spec, space, range(asks, asks + 5), [])


def infeasible_asks(space: Space, seed: int, refused: TrialState) -> int:
    """How many of 50 TPE proposals, after 20, are over a limit that 80 % of random ones exceed."""
    study = new_study()
    count = 0
    for number in range(70):
        trial = ask(study, {"name": "TPESampler"}, space, 1000 * seed + number)
        excess = trial.params["backbone.width"] / 0.4 - 1
        trial.set_constraint("params", excess)
        if excess > 0:
            count += number >= 20
            study.tell(trial, state=refused)
        else:
            study.tell(trial, toy(trial.params))
    return count


def test_tpe_turns_away_from_infeasible_points_when_told_pruned(endless: Space) -> None:
    """Told PRUNED with a constraint, TPE proposes far fewer infeasible points than told FAIL."""
    learnt = sum(infeasible_asks(endless, seed, refusal("TPESampler")) for seed in range(3))
    ignored = sum(infeasible_asks(endless, seed, TrialState.FAIL) for seed in range(3))
    assert learnt <= 0.6 * ignored, f"{learnt} of 150 against {ignored} of 150"


@pytest.mark.parametrize("which", ["tpe", "nsga2", "nsga3", "gp", "random", "qmc", "brute", "grid"])
def test_reads_pruned_is_what_the_sampler_does(which: str, space: Space) -> None:
    """Infeasible points told PRUNED or FAIL change later proposals exactly where we say so."""
    proposed = []
    for state in (TrialState.PRUNED, TrialState.FAIL):
        study = new_study()
        for number in range(12):
            trial = ask(study, SPECS[which], space, number)
            trial.set_constraint("params", 1.0 if number % 2 else -1.0)
            if number % 2:
                study.tell(trial, state=state)
            else:
                study.tell(trial, toy(trial.params))
        proposed.append(drive(study, SPECS[which], space, range(12, 16), []))
    assert (proposed[0] != proposed[1]) == reads_pruned(SPECS[which]["name"])


def test_every_optuna_sampler_is_known_by_its_class_name() -> None:
    """All concrete classes that optuna.samplers exports can be named, and ours beside them."""
    concrete = {
        name
        for name, cls in vars(optuna.samplers).items()
        if inspect.isclass(cls)
        and issubclass(cls, optuna.samplers.BaseSampler)
        and not inspect.isabstract(cls)
    }
    assert set(SAMPLERS) == concrete | {"ParetoSampler"}


@pytest.mark.parametrize(
    ("spec", "key", "words"),
    [
        ({"name": "TPESampelr"}, "name", "did you mean TPESampler?"),
        ({"name": "tpe"}, "name", "did you mean TPESampler?"),
        ({"name": "nsgaii"}, "name", "did you mean NSGAIISampler?"),
        ({"name": 3}, "name", "got 3; allowed BruteForceSampler"),
        ({}, "name", "no sampler of that name"),
        ({"name": "TPESampler", "n_startup": 5}, "n_startup", "did you mean n_startup_trials?"),
        ({"name": "TPESampler", "gamma": 3}, "gamma", "takes no such argument"),
        ({"name": "TPESampler", "multivariate": "yes"}, "multivariate", "allowed bool or null"),
        ({"name": "TPESampler", "n_startup_trials": 2.0}, "n_startup_trials", "allowed int"),
        ({"name": "TPESampler", "n_startup_trials": True}, "n_startup_trials", "allowed int"),
        ({"name": "TPESampler", "seed": 3}, "seed", "search.seed"),
        ({"name": "NSGAIISampler", "population_size": 1}, "population_size", "or equal to 2"),
        ({"name": "QMCSampler", "qmc_type": "sobl"}, "qmc_type", "halton"),
        ({"name": "CmaEsSampler"}, "name", "one objective (got 2)"),
        ({"name": "PartialFixedSampler"}, "name", "for Python"),
        ({"name": "GridSampler", "search_space": {}}, "search_space", "takes no such argument"),
    ],
)
def test_what_cannot_be_built_is_refused_by_key(
    spec: dict[str, Any], key: str, words: str, space: Space
) -> None:
    """The error is a ValueError that names the key to blame and what would be right."""
    with pytest.raises(SpecError) as caught:
        sampler(spec, seed=0, space=space, objectives=OBJECTIVES)
    assert caught.value.key == key
    assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", ["GridSampler", "BruteForceSampler"])
def test_exhaustive_samplers_refuse_an_endless_space(name: str, endless: Space) -> None:
    """A float without a step is named."""
    with pytest.raises(SpecError, match=r"backbone\.width a step"):
        sampler({"name": name}, seed=0, space=endless, objectives=OBJECTIVES)


def test_a_grid_too_large_to_list_is_refused(write_space: Callable[..., Path]) -> None:
    """Instead of filling the memory it names the sampler that needs no list."""
    wide = load(write_space(width="{float: [0.25, 1.0], step: 0.00001}"))
    assert math.prod(parameter.count() or 0 for parameter in wide.parameters) > 100_000
    with pytest.raises(SpecError, match="BruteForceSampler"):
        sampler({"name": "GridSampler"}, seed=0, space=wide, objectives=OBJECTIVES)
