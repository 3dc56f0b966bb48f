"""Every decision of `Pruning` on a single objective is the one Optuna's own study makes."""

from __future__ import annotations

import csv
import math
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
    WilcoxonPruner,
)
from optuna.trial import TrialState

from search.pruning import Pruning

pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning",  # numpy, over a curve that is NaN alone
    "ignore::UserWarning",  # Wilcoxon, of a NaN
    "ignore::optuna.exceptions.ExperimentalWarning",
)

WORKERS = 8
Spec = dict[str, Any]
SPECS: dict[str, tuple[Spec, Callable[[], BasePruner]]] = {
    "median": (
        {"name": "MedianPruner", "n_startup_trials": 4, "n_warmup_steps": 2},
        lambda: MedianPruner(n_startup_trials=4, n_warmup_steps=2),
    ),
    "percentile": (
        {"name": "PercentilePruner", "percentile": 25.0, "interval_steps": 3},
        lambda: PercentilePruner(25.0, interval_steps=3),
    ),
    "halving": (
        {"name": "SuccessiveHalvingPruner", "min_resource": 1, "reduction_factor": 3},
        lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    ),
    "halving-auto": ({"name": "SuccessiveHalvingPruner"}, SuccessiveHalvingPruner),
    "hyperband": (
        {"name": "HyperbandPruner", "min_resource": 1, "max_resource": 27},
        lambda: HyperbandPruner(min_resource=1, max_resource=27),
    ),
    "hyperband-auto": ({"name": "HyperbandPruner"}, HyperbandPruner),
    "patient": (
        {"name": "PatientPruner", "patience": 2, "wrapped": {"name": "MedianPruner"}},
        lambda: PatientPruner(MedianPruner(), patience=2),
    ),
    "patient-alone": (
        {"name": "PatientPruner", "patience": 1, "min_delta": 0.01},
        lambda: PatientPruner(None, patience=1, min_delta=0.01),
    ),
    "threshold": (
        {"name": "ThresholdPruner", "lower": 0.3, "n_warmup_steps": 3},
        lambda: ThresholdPruner(lower=0.3, n_warmup_steps=3),
    ),
    "wilcoxon": (
        {"name": "WilcoxonPruner", "p_threshold": 0.2},
        lambda: WilcoxonPruner(p_threshold=0.2),
    ),
    "nop": ({"name": "NopPruner"}, NopPruner),
}
MAY_PRUNE = set(SPECS) - {"nop"}


def synthetic(trials: int = 60, epochs: int = 27) -> list[list[float]]:
    """Saturating noisy learning curves, some with a NaN in the middle or at the end."""
    draw = random.Random(7)
    curves = []
    for number in range(trials):
        top, speed = draw.uniform(0.2, 0.9), draw.uniform(0.05, 0.6)
        curve = [
            top * (1 - math.exp(-speed * epoch)) + draw.gauss(0, 0.02)
            for epoch in range(1, epochs + 1)
        ]
        if number % 11 == 5:
            curve[draw.randrange(epochs)] = math.nan
        curves.append(curve)
    return curves


def recorded(data: Path) -> list[list[float]]:
    """The accuracy curves of NAAP-440, a third of its rows and every third epoch, for time."""
    with (data / "nasbench" / "naap440.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::3]
    return [[float(row[f"e{epoch}Accuracy"]) for epoch in range(3, 91, 3)] for row in rows]


def interleaved(curves: list[list[float]]) -> Iterator[tuple[int, int, float, Callable[[], None]]]:
    """One epoch at a time, WORKERS trials running; the receiver calls `leave` to stop a trial."""
    waiting = list(range(len(curves)))
    running: list[int] = []
    epochs = dict.fromkeys(waiting, 0)
    while waiting or running:
        while waiting and len(running) < WORKERS:
            running.append(waiting.pop(0))
        for number in tuple(running):
            epochs[number] += 1
            yield (
                number,
                epochs[number],
                curves[number][epochs[number] - 1],
                (lambda number=number: running.remove(number)),
            )
            if number in running and epochs[number] == len(curves[number]):
                running.remove(number)


def optuna_decisions(
    make: Callable[[], BasePruner], curves: list[list[float]], direction: str
) -> dict[tuple[int, int], bool]:
    """Ask, report, should_prune and tell, as Optuna's documentation has it."""
    study = optuna.create_study(
        study_name="curves",
        direction=direction,
        pruner=make(),
        sampler=optuna.samplers.RandomSampler(seed=1),
    )
    trials: dict[int, optuna.Trial] = {}
    decisions = {}
    for number, epoch, value, leave in interleaved(curves):
        if number not in trials:
            trials[number] = study.ask()
            assert trials[number].number == number
        trials[number].report(value, epoch)
        decisions[number, epoch] = trials[number].should_prune()
        if decisions[number, epoch]:
            study.tell(number, state=TrialState.PRUNED)
            leave()
        elif epoch == len(curves[number]):
            study.tell(number, value if not math.isnan(value) else None, state=None)
    return decisions


def our_decisions(
    spec: Spec, curves: list[list[float]], goal: str, **begin: Any
) -> tuple[dict[tuple[int, int], bool], dict[tuple[int, int], str]]:
    """The same through `Pruning`, and the reasons of the stops."""
    pruning = Pruning(spec, name="curves", goal=goal)
    decisions, reasons = {}, {}
    begun = set()
    for number, epoch, value, leave in interleaved(curves):
        if number not in begun:
            begun.add(number)
            pruning.begin(number, {}, **begin)
        pruning.report(number, epoch, value)
        reason = pruning.stop(number)
        decisions[number, epoch] = reason is not None
        if reason is not None:
            reasons[number, epoch] = reason
            pruning.end(number, "pruned")
            leave()
        elif epoch == len(curves[number]):
            pruning.end(number, "finished")
    return decisions, reasons


@pytest.mark.parametrize("which", SPECS)
def test_decisions_are_optunas(which: str) -> None:
    """At every step of interleaved curves our answer is should_prune's in a plain Optuna study."""
    spec, make = SPECS[which]
    theirs = optuna_decisions(make, synthetic(), "maximize")
    ours, _ = our_decisions(spec, synthetic(), "max")
    assert ours == theirs
    assert any(theirs.values()) == (which in MAY_PRUNE)


@pytest.mark.parametrize("which", SPECS)
def test_decisions_are_optunas_on_recorded_curves(which: str, data: Path) -> None:
    """The same on recorded trainings; for Wilcoxon (slow: a rank test at every step) on 16."""
    spec, make = SPECS[which]
    curves = recorded(data)[: 16 if which == "wilcoxon" else None]
    ours, _ = our_decisions(spec, curves, "max")
    assert ours == optuna_decisions(make, curves, "maximize")


@pytest.mark.parametrize("which", SPECS)
def test_decisions_are_optunas_when_minimising(which: str) -> None:
    """The same with losses: the goal `min` is Optuna's direction `minimize`."""
    spec, make = SPECS[which]
    curves = [[1 - value for value in curve] for curve in synthetic()]
    ours, _ = our_decisions(spec, curves, "min")
    assert ours == optuna_decisions(make, curves, "minimize")


@pytest.mark.parametrize("which", sorted(MAY_PRUNE))
def test_a_stop_says_who_and_when(which: str) -> None:
    """Each reason names the pruner and the epoch, and has no line breaks."""
    spec, _ = SPECS[which]
    _, reasons = our_decisions(spec, synthetic(), "max")
    for (_, epoch), reason in reasons.items():
        assert reason.startswith(spec["name"])
        assert f"epoch {epoch}" in reason
        assert "\n" not in reason


def test_the_median_stop_says_its_comparison() -> None:
    """The reason of a median stop holds the number of peers, both values and the best rivals."""
    pruning = Pruning({"name": "MedianPruner", "n_startup_trials": 1}, name="x")
    for number, value in enumerate((0.5, 0.53, 0.6)):
        pruning.begin(number, {})
        pruning.report(number, 8, value)
        pruning.end(number, "finished")
    pruning.begin(3, {})
    pruning.report(3, 8, 0.412)
    assert pruning.stop(3) == (
        "MedianPruner: behind the median of 3 peers at epoch 8 (0.412 < 0.53); "
        "best #2 0.6 #1 0.53 #0 0.5"
    )


def test_nothing_is_stopped_at_its_last_epoch() -> None:
    """A trial that has reached its number of epochs goes on to finish, whatever the pruner says."""
    curves = synthetic()
    spec, _ = SPECS["halving"]
    free, _ = our_decisions(spec, curves, "max")
    ours, _ = our_decisions(spec, curves, "max", epochs=9)
    assert any(stop for (_, epoch), stop in free.items() if epoch == 9)
    assert not any(stop for (_, epoch), stop in ours.items() if epoch >= 9)
    assert any(stop for (_, epoch), stop in ours.items() if epoch < 9)


@pytest.mark.parametrize("which", [*SPECS, "pareto", "cheaper"])
def test_replay_gives_the_same_answers(which: str) -> None:
    """A `Pruning` made again from the recorded calls answers as the first did, reasons included."""
    spec = {
        **{name: spec for name, (spec, _) in SPECS.items()},
        "pareto": {"name": "ParetoPruner"},
        "cheaper": {"name": "HyperbandPruner", "among": "cheaper"},
    }[which]
    calls: list[tuple[str, tuple[Any, ...]]] = []
    answers: list[object] = []
    first, second = (Pruning(spec, name="replay", costs={"macs": 0.01}) for _ in range(2))

    def call(name: str, *arguments: Any) -> object:
        calls.append((name, arguments))
        answers.append(getattr(first, name)(*arguments))
        return answers[-1]

    curves, begun = synthetic(), set()
    for number, epoch, value, leave in interleaved(curves):
        if number not in begun:
            begun.add(number)
            call("begin", number, {"macs": 1e6 * (1 + number % 7)})
        call("report", number, epoch, value)
        if call("stop", number) is not None:
            call("end", number, "pruned")
            leave()
        elif epoch == len(curves[number]):
            call("end", number, "failed" if number % 9 == 0 else "finished")

    assert [getattr(second, name)(*arguments) for name, arguments in calls] == answers


def test_hyperband_draws_brackets_from_the_callers_numbers() -> None:
    """Trials that begin out of order, with gaps, have Optuna's own number equal to the caller's."""
    pruning = Pruning(SPECS["hyperband"][0], name="gaps")
    for number in (4, 1, 6):
        pruning.begin(number, {})
        pruning.report(number, 1, number / 10)
    values = {t.number: t.intermediate_values for t in pruning.study.trials}
    assert {n: v for n, v in values.items() if v} == {1: {1: 0.1}, 4: {1: 0.4}, 6: {1: 0.6}}


def test_a_retry_repeats_itself_without_effect() -> None:
    """Beginning again, reporting a known epoch and asking twice change nothing."""
    pruning = Pruning({"name": "SuccessiveHalvingPruner", "min_resource": 1}, name="again")
    for number, value in enumerate((0.9, 0.8, 0.1)):
        pruning.begin(number, {})
        pruning.report(number, 1, value)
        reason = pruning.stop(number)
    assert reason is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruning.begin(2, {})
        pruning.report(2, 1, 0.99)
        assert pruning.stop(2) == reason
    assert pruning.study.trials[2].intermediate_values == {1: 0.1}


def test_ends_are_told_as_states() -> None:
    """Finished is COMPLETE with the last value, pruned PRUNED, anything else FAIL."""
    pruning = Pruning(None, name="ends")
    for number, outcome in enumerate(("finished", "pruned", "diverged", "finished", "finished")):
        pruning.begin(number, {})
        if number != 4:
            pruning.report(number, 2, 0.7)
            pruning.report(number, 1, math.nan if number == 3 else 0.9)
            if number == 3:
                pruning.report(number, 3, math.nan)
        assert pruning.stop(number) is None
        pruning.end(number, outcome)
    states = TrialState
    assert [t.state for t in pruning.study.trials] == [
        states.COMPLETE,
        states.PRUNED,
        states.FAIL,
        states.FAIL,
        states.FAIL,
    ]
    assert pruning.study.trials[0].value == 0.7
