"""Pruners by name, the warning about fronts, and peers that cost no more."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from search.pruning import PRUNERS, Pruning, SpecError, pruner, warning
from spaces.settings import Pruner as Settings

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

TWO = {"val_accuracy": "max", "macs": "min"}


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "MedianPruner", "n_startup_trials": 5},
        {"name": "PercentilePruner", "percentile": 25},
        {"name": "SuccessiveHalvingPruner", "min_resource": "auto"},
        {"name": "HyperbandPruner", "max_resource": 30},
        {"name": "PatientPruner", "patience": 3, "wrapped": {"name": "MedianPruner"}},
        {"name": "PatientPruner", "patience": 3, "wrapped": None},
        {"name": "ThresholdPruner", "lower": 0.1, "upper": None},
        {"name": "WilcoxonPruner", "p_threshold": 0.1},
        {"name": "NopPruner"},
        {"name": "ParetoPruner", "reduction_factor": 2, "first_rung": 3},
    ],
    ids=lambda spec: spec["name"],
)
def test_a_pruner_is_built_by_its_class_name(spec: dict[str, Any]) -> None:
    """The object is an instance of the class that the spec names."""
    assert type(pruner(spec)).__name__ == spec["name"]


@pytest.mark.parametrize(
    "written",
    [
        {"name": "MedianPruner", "n_startup_trials": 5},
        {"name": "PatientPruner", "patience": 2, "wrapped": {"name": "ParetoPruner"}},
    ],
    ids=lambda written: written["name"],
)
def test_the_settings_of_a_space_are_a_spec(written: dict[str, Any]) -> None:
    """What `search.pruner` holds after reading, with all its defaults, builds the pruner."""
    spec = Settings.model_validate(written).model_dump()
    pruning = Pruning(spec, name="x", costs={"macs": 0.01})
    assert type(pruning.study.pruner).__name__ == written["name"]
    assert (warning(spec, TWO) is not None) == (written["name"] == "MedianPruner")


def test_every_optuna_pruner_is_known() -> None:
    """All pruners that Optuna exports can be named, and ours."""
    assert set(PRUNERS) == set(optuna.pruners.__all__) - {"BasePruner"} | {"ParetoPruner"}


@pytest.mark.parametrize(
    ("spec", "key", "words"),
    [
        ({"name": "MedainPruner"}, "name", "did you mean MedianPruner?"),
        ({"name": "pareto"}, "name", "did you mean ParetoPruner?"),
        ({"name": "asha"}, "name", "allowed HyperbandPruner, MedianPruner"),
        ({}, "name", "no pruner of that name"),
        ({"name": "MedianPruner", "n_startup": 3}, "n_startup", "did you mean n_startup_trials?"),
        (
            {"name": "MedianPruner", "n_startup_trials": -1},
            "n_startup_trials",
            "cannot be negative",
        ),
        ({"name": "MedianPruner", "n_startup_trials": "5"}, "n_startup_trials", "allowed int"),
        ({"name": "MedianPruner", "wrapped": {"name": "NopPruner"}}, "wrapped", "no such argument"),
        ({"name": "PercentilePruner"}, "percentile", "is required"),
        ({"name": "PercentilePruner", "percentile": 101}, "percentile", "between 0 and 100"),
        ({"name": "PatientPruner"}, "patience", "is required"),
        ({"name": "PatientPruner", "patience": 1, "wrapped": "MedianPruner"}, "wrapped", "mapping"),
        (
            {"name": "PatientPruner", "patience": 1, "wrapped": {"name": "MedianPruner", "n": 1}},
            "wrapped.n",
            "no such argument",
        ),
        (
            {
                "name": "PatientPruner",
                "patience": 1,
                "wrapped": {"name": "MedianPruner", "among": "cheaper"},
            },
            "wrapped.among",
            "outer pruner",
        ),
        (
            {
                "name": "PatientPruner",
                "patience": 1,
                "wrapped": {"name": "MedianPruner", "promote": 0.3},
            },
            "wrapped.promote",
            "outer pruner",
        ),
        ({"name": "ThresholdPruner"}, "name", "lower or upper"),
        ({"name": "ParetoPruner", "reduction_factor": 1}, "reduction_factor", "at least 2"),
        ({"name": "ParetoPruner", "first_rung": 0}, "first_rung", "at least 1"),
        ({"name": "ParetoPruner", "costs": {"macs": 0.1}}, "costs", "no such argument"),
    ],
)
def test_what_cannot_be_built_is_refused_by_key(spec: dict[str, Any], key: str, words: str) -> None:
    """The error is a ValueError that names the key to blame and what would be right."""
    with pytest.raises(SpecError) as caught:
        pruner(spec)
    assert caught.value.key == key
    assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_unknown_peers_are_refused() -> None:
    """`among` is all or cheaper."""
    with pytest.raises(SpecError, match=r"among.*allowed all, cheaper"):
        Pruning({"name": "MedianPruner", "among": "some"}, name="x")


@pytest.mark.parametrize(
    ("spec", "objectives", "warns"),
    [
        ({"name": "MedianPruner"}, TWO, True),
        ({"name": "SuccessiveHalvingPruner", "among": "all"}, TWO, True),
        ({"name": "PatientPruner", "wrapped": {"name": "HyperbandPruner"}}, TWO, True),
        ({"name": "PatientPruner", "patience": 1}, TWO, False),
        ({"name": "MedianPruner"}, {"val_accuracy": "max"}, False),
        ({"name": "MedianPruner", "among": "cheaper"}, TWO, False),
        ({"name": "ParetoPruner"}, TWO, False),
        ({"name": "ThresholdPruner", "lower": 0.1}, TWO, False),
        ({"name": "NopPruner"}, TWO, False),
        (None, TWO, False),
    ],
)
def test_who_prunes_by_accuracy_alone_is_warned(
    spec: dict[str, Any] | None, objectives: dict[str, str], warns: bool
) -> None:
    """With several objectives a pruner that compares accuracy with all peers gets a warning that
    says what it does to a front and what to use instead.
    """
    text = warning(spec, objectives)
    assert (text is not None) == warns
    if text is not None:
        assert "22.4 of 25" in text
        assert "ParetoPruner" in text
        assert "among: cheaper" in text


def trained(pruning: Pruning, number: int, macs: float, values: dict[int, float]) -> None:
    """One finished trial."""
    pruning.begin(number, {"macs": macs})
    for epoch, value in values.items():
        pruning.report(number, epoch, value)
    pruning.end(number, "finished")


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "MedianPruner", "n_startup_trials": 1},
        {"name": "SuccessiveHalvingPruner", "min_resource": 1, "reduction_factor": 2},
        {"name": "HyperbandPruner", "min_resource": 1, "max_resource": 1, "reduction_factor": 2},
        {"name": "WilcoxonPruner", "p_threshold": 0.3},
    ],
    ids=lambda spec: spec["name"],
)
def test_cheaper_peers_are_those_that_cost_no_more(spec: dict[str, Any]) -> None:
    """A cheap trial behind dear peers is stopped among all and goes on among the cheaper; behind
    peers of its own band it is stopped among both.
    """
    answers = {}
    for among in ("all", "cheaper"):
        for peers in (2.0e6, 1.0001e6):  # twice as dear; dearer by less than the tolerance
            pruning = Pruning({**spec, "among": among}, name="x", costs={"macs": 0.01})
            for number in range(4):
                pruning.begin(number, {"macs": peers})
                for epoch in range(1, 6):
                    pruning.report(number, epoch, 0.8 + 0.01 * epoch)
                    pruning.stop(number)
                pruning.end(number, "finished")
            pruning.begin(4, {"macs": 1e6})
            stops = []
            for epoch in range(1, 6):
                pruning.report(4, epoch, 0.5)
                stops.append(pruning.stop(4))
            answers[among, peers] = any(stops)
    assert answers == {
        ("all", 2.0e6): True,
        ("all", 1.0001e6): True,
        ("cheaper", 2.0e6): False,
        ("cheaper", 1.0001e6): True,
    }


def test_cheaper_means_in_every_cost() -> None:
    """A peer that is cheaper in one cost and dearer in another is not compared with."""
    spec = {"name": "MedianPruner", "n_startup_trials": 1, "among": "cheaper"}
    pruning = Pruning(spec, name="x", costs={"params": 0.01, "macs": 0.01})
    pruning.begin(0, {"params": 10.0, "macs": 500.0})
    pruning.report(0, 1, 0.9)
    pruning.end(0, "finished")
    pruning.begin(1, {"params": 20.0, "macs": 400.0})
    pruning.report(1, 1, 0.1)
    assert pruning.stop(1) is None


def test_the_reason_among_cheaper_counts_the_cheaper_alone() -> None:
    """What the reason compares is what the pruner saw."""
    spec = {"name": "MedianPruner", "n_startup_trials": 1, "among": "cheaper"}
    pruning = Pruning(spec, name="x", costs={"macs": 0.01})
    for number, macs in enumerate((1.0, 1.0, 5.0, 5.0, 5.0)):
        trained(pruning, number, macs, {1: 0.9})
    pruning.begin(5, {"macs": 2.0})
    pruning.report(5, 1, 0.1)
    assert "median of 2 peers" in (pruning.stop(5) or "")


def test_a_trial_without_its_costs_cannot_begin() -> None:
    """The missing cost is named."""
    pruning = Pruning({"name": "ParetoPruner"}, name="x", costs={"params": 0.01, "macs": 0.01})
    with pytest.raises(ValueError, match=r"trial 0 .* macs"):
        pruning.begin(0, {"params": 3.0})
