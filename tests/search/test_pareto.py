"""Fronts of trials: bands, ties, networks met twice, and the volume DESIGN.md defines."""

from __future__ import annotations

import math

import numpy as np
import pytest

from search.front import pareto
from search.trial import Trial
from spaces.settings import Objective

OBJECTIVES = {
    "val_accuracy": Objective(goal="max"),
    "params": Objective(goal="min", tolerance=0.01),
    "macs": Objective(goal="min", tolerance=0.01),
}
REFERENCE = {"params": 1000.0, "macs": 8000.0}


def trial(
    number: int,
    accuracy: float,
    params: float,
    macs: float = 1e3,
    identity: str = "",
    **more: object,
) -> Trial:
    facts: dict[str, object] = {
        "outcome": "finished",
        "objectives": {"val_accuracy": accuracy},
        "ended": float(number),
        **more,
    }
    return Trial(
        number=number,
        values={},
        config={},
        label=f"w{params}",
        identity=identity or f"net{number}",
        key=f"key{number}",
        costs={"params": params, "macs": macs},
        kernels={},
        placement="",
        **facts,  # type: ignore[arg-type]
    )


def numbers(trials: list[Trial]) -> list[int]:
    return [member.number for member in trials]


def test_equal_rows_share_the_front() -> None:
    """When all points are the same, all of them are on the front."""
    assert pareto.ranks([[1.0, 2.0]] * 4).tolist() == [0, 0, 0, 0]


def test_a_tie_in_one_objective_is_decided_by_the_other() -> None:
    """Equal in one objective and worse in the other is dominated."""
    assert pareto.ranks([[1, 1], [1, 2], [2, 1], [2, 2]]).tolist() == [0, 1, 1, 2]


def test_no_points_have_no_ranks() -> None:
    """An empty study has an empty front and no volume."""
    assert pareto.ranks(np.empty((0, 3))).tolist() == []
    assert pareto.front([], OBJECTIVES) == []
    assert pareto.hypervolume([], [1.0, 1.0]) == 0.0
    assert pareto.study_hypervolume([], OBJECTIVES, 0.1, REFERENCE) == 0.0


@pytest.mark.parametrize("ask", [pareto.ranks, lambda rows: pareto.hypervolume(rows, [1, 1])])
def test_nan_is_refused(ask: object) -> None:
    """NaN compares false with everything and would sit on every front, so it is refused."""
    with pytest.raises(ValueError, match="NaN"):
        ask([[0.0, math.nan]])  # type: ignore[operator]


def test_hypervolume_of_a_staircase() -> None:
    """Three steps against (4, 4): 1*3 + 1*2 + 1*1 unit squares, counted by hand."""
    assert pareto.hypervolume([[1, 3], [2, 2], [3, 1]], [4, 4]) == 6.0


def test_hypervolume_of_two_overlapping_boxes() -> None:
    """Boxes of 1x2x2 and 2x1x2 that share 1x1x2: 4 + 4 - 2 = 6, counted by hand."""
    assert pareto.hypervolume([[1, 0, 0], [0, 1, 0]], [2, 2, 2]) == 6.0


def test_points_at_or_beyond_the_reference_add_nothing() -> None:
    """Neither a point on the reference's face nor one behind it has a volume."""
    assert pareto.hypervolume([[0.0, 1.0], [1.0, 0.0], [-5.0, 7.0]], [1, 1]) == 0.0


def test_hypervolume_refuses_what_has_no_volume() -> None:
    """An infinite reference, a point at minus infinity and a wrong length are refused."""
    with pytest.raises(ValueError, match="finite"):
        pareto.hypervolume([[0.0]], [math.inf])
    with pytest.raises(ValueError, match="finite"):
        pareto.hypervolume([[-math.inf]], [1.0])
    with pytest.raises(ValueError, match="2 objectives against a reference of 3"):
        pareto.hypervolume([[0.0, 0.0]], [1, 1, 1])


def test_costs_within_their_tolerance_are_equal() -> None:
    """ECA's 24 parameters on 272,474 fall into the plain net's band; 2 % more do not.

    Parameters of ResNet-20 with projection shortcuts: DESIGN.md, "Widths".
    """
    plain = pareto.band(272_474, 0.01)
    assert pareto.band(272_474 + 24, 0.01) == plain
    assert pareto.band(272_474 * 1.02, 0.01) > plain


def test_a_band_of_no_width_is_the_cost() -> None:
    """With tolerance 0 every difference counts, below zero too."""
    assert pareto.band(272_474.0, 0) == 272_474.0
    assert pareto.band(-0.5, 0) == -0.5


def test_a_negative_cost_lies_in_no_band() -> None:
    """Bands are steps of a logarithm: 0 is below all, less is refused."""
    assert pareto.band(0, 0.01) == -math.inf
    with pytest.raises(ValueError, match="0 or more"):
        pareto.band(-1, 0.01)


def test_the_front_ignores_differences_inside_a_band() -> None:
    """A network 0.1 % smaller and worse is no trade-off."""
    trials = [trial(0, 0.90, 1000), trial(1, 0.89, 999), trial(2, 0.80, 500)]
    assert numbers(pareto.front(trials, OBJECTIVES)) == [2, 0]


def test_the_front_holds_finished_trials_only() -> None:
    """A pruned trial's last accuracy, however good, is not a result."""
    pruned = trial(1, 0.99, 10, outcome="pruned", objectives=None)
    running = trial(2, 0.99, 10, outcome=None, objectives=None)
    assert numbers(pareto.front([trial(0, 0.5, 100), pruned, running], OBJECTIVES)) == [0]


def test_the_front_holds_a_network_once() -> None:
    """Of one network's trials the best stands for it; among equals the first."""
    trials = [
        trial(0, 0.90, 100, identity="a"),
        trial(1, 0.95, 100, identity="a"),
        trial(2, 0.95, 100, identity="a"),
    ]
    assert numbers(pareto.front(trials, OBJECTIVES)) == [1]
    assert numbers(pareto.front(trials[::-1], OBJECTIVES)) == [1]


def test_different_networks_with_equal_values_are_all_kept() -> None:
    """Nothing decides between them, so a person should see both."""
    assert numbers(pareto.front([trial(1, 0.9, 100), trial(0, 0.9, 100)], OBJECTIVES)) == [0, 1]


def test_a_front_without_costs_is_the_best_trial() -> None:
    """A single objective has a front of one value."""
    trials = [trial(0, 0.8, 1), trial(1, 0.9, 1)]
    assert numbers(pareto.front(trials, {"val_accuracy": Objective(goal="max")})) == [1]


def test_study_hypervolume_by_hand() -> None:
    """One network: (0.9 - 0.1) * ln(1000/100) * ln(8000/1000), each ratio a whole number of bands.

    ln 10 is 231.4 bands of 0.01 and ln 8 is 209.0, so bands move the volume by under one percent.
    """
    volume = pareto.study_hypervolume([trial(0, 0.9, 100)], OBJECTIVES, 0.1, REFERENCE)
    bands = [pareto.band(1000, 0.01) - pareto.band(100, 0.01)]
    bands.append(pareto.band(8000, 0.01) - pareto.band(1000, 0.01))
    step = math.log(1.01)
    assert volume == pytest.approx(0.8 * bands[0] * step * bands[1] * step, rel=1e-12)
    assert volume == pytest.approx(0.8 * math.log(10) * math.log(8), rel=0.01)


def test_the_largest_network_and_guessing_have_no_volume() -> None:
    """A cost in the reference's band and an accuracy at chance add nothing."""
    largest = trial(0, 0.9, 999.9)
    guessing = trial(1, 0.1, 10)
    assert pareto.study_hypervolume([largest, guessing], OBJECTIVES, 0.1, REFERENCE) == 0.0


def test_a_loss_counts_from_guessing() -> None:
    """Guessing among ten classes costs ln 10 nats; a loss of 0.3 gains the difference."""
    measured = trial(0, 0.9, 100, objectives={"val_loss": 0.3})
    objectives = {"val_loss": Objective(goal="min")}
    volume = pareto.study_hypervolume([measured], objectives, 0.1, {})
    assert volume == pytest.approx(math.log(10) - 0.3)


def test_an_accuracy_may_be_given_its_own_origin() -> None:
    """`search.reference` replaces chance."""
    objectives = {"val_accuracy": Objective(goal="max")}
    volume = pareto.study_hypervolume([trial(0, 0.9, 1)], objectives, 0.1, {"val_accuracy": 0.5})
    assert volume == pytest.approx(0.4)


def test_a_result_that_goes_down_may_come_to_nothing() -> None:
    """A person's own error rate counts by the plain difference, to 0: only costs are ratios."""
    measured = trial(0, 0.9, 100, objectives={"val_error": 0.0})
    objectives = {"val_error": Objective(goal="min")}
    assert pareto.study_hypervolume([measured], objectives, 0.1, {"val_error": 0.9}) == 0.9
    with pytest.raises(ValueError, match="'val_error'"):
        pareto.study_hypervolume([measured], objectives, 0.1, {})


def test_a_cost_without_reference_is_refused() -> None:
    """There is no natural largest cost, so the name of the missing one is said."""
    with pytest.raises(ValueError, match="'macs'"):
        pareto.study_hypervolume([trial(0, 0.9, 100)], OBJECTIVES, 0.1, {"params": 1000.0})


def test_history_is_the_volume_of_every_prefix() -> None:
    """Step by step the incremental history equals the front computed afresh."""
    random = np.random.default_rng(0)
    trials = [
        trial(
            number,
            float(random.uniform(0.1, 1)),
            params := int(random.integers(10, 1000)),
            8.0 * params,
            identity=f"net{params // 100}",
            ended=float(random.permutation(60)[0]),
        )
        for number in range(60)
    ]
    order = sorted(trials, key=lambda trial: (trial.ended, trial.number))
    afresh = [
        pareto.study_hypervolume(order[: count + 1], OBJECTIVES, 0.1, REFERENCE)
        for count in range(len(order))
    ]
    seen = list(pareto.history(trials, OBJECTIVES, 0.1, REFERENCE))
    assert [trial.number for trial, _ in seen] == numbers(order)
    # The boxes of a front are summed in another order.
    assert [volume for _, volume in seen] == pytest.approx(afresh, rel=1e-12)
