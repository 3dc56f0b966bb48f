"""How sure a front is: against known probabilities, brute force and what bands are for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from search import membership as surely
from search import pareto
from search.membership import membership, noise
from search.trial import Attempt, Replicate, Trial
from spaces.settings import Objective

OBJECTIVES = {
    "val_accuracy": Objective(goal="max"),
    "params": Objective(goal="min", tolerance=0.01),
    "macs": Objective(goal="min", tolerance=0.01),
}


def trial(number: int, values: list[float], cost: float = 1e6, **more: object) -> Trial:
    """A finished network with one value a seed."""
    replicates = tuple(
        Replicate(
            seed, seed, f"r{seed}", ({"val_accuracy": value},), (Attempt(1, 0.0, 1.0),), "finished"
        )
        for seed, value in enumerate(values)
    )
    costs = {"params": cost, "macs": 10 * cost}
    facts: dict[str, object] = {
        "values": {},
        "config": {},
        "label": "",
        "identity": f"net{number}",
        "key": f"key{number}",
        "kernels": {},
        "placement": "none",
    }
    return Trial(
        number=number,
        costs=costs,
        replicates=replicates,
        outcome="finished",
        objectives={"val_accuracy": sum(values) / len(values), **costs},
        **{**facts, **more},  # type: ignore[arg-type]
    )


def test_two_networks_of_one_cost() -> None:
    """The worse is on the front with the probability that its true mean is the greater."""
    spread = [-0.01, 0.0, 0.01]
    better = trial(0, [0.80 + s for s in spread])
    worse = trial(1, [0.79 + s for s in spread])
    found = membership([better, worse], OBJECTIVES)
    assert found is not None
    known = noise([better, worse], "val_accuracy")
    assert known is not None
    assert known.df == 4
    assert known.sd == pytest.approx(0.01)  # the sample sd of -1, 0, 1 is 1; doubles
    # difference 0.01 of two means of 3, sd estimated with 4 df: Student's t
    expected = stats.t.sf(0.01 / (0.01 * math.sqrt(2 / 3)), 4)
    assert found[1] == pytest.approx(expected, abs=0.04)  # 3.5 standard errors of 2,000 redraws
    assert found[0] == pytest.approx(1 - found[1])


def test_a_single_seed_is_less_sure_than_many() -> None:
    """The same lead is worth more with ten seeds behind it."""
    ten = [0.01 * step for step in range(-5, 5)]
    lone = membership(
        [trial(0, [0.82]), trial(1, [0.80]), trial(2, [0.5 + s for s in ten])], OBJECTIVES
    )
    many = membership(
        [trial(0, [0.82 + s for s in ten]), trial(1, [0.80 + s for s in ten])], OBJECTIVES
    )
    assert lone is not None
    assert many is not None
    assert lone[0] < many[0]


def test_without_a_second_seed_nothing_is_claimed() -> None:
    """Noise that nobody has seen is not made up."""
    assert membership([trial(0, [0.8]), trial(1, [0.7])], OBJECTIVES) is None
    assert membership([], OBJECTIVES) is None
    assert membership([trial(0, [0.8, 0.9])], {"params": OBJECTIVES["params"]}) is None


def test_the_same_study_gives_the_same_figures() -> None:
    """Figures are a function of results and seed."""
    trials = [trial(n, [0.7 + 0.01 * n, 0.71 + 0.01 * n], 1e5 * (n + 1)) for n in range(5)]
    assert membership(trials, OBJECTIVES, seed=3) == membership(trials, OBJECTIVES, seed=3)
    assert membership(trials, OBJECTIVES, seed=3) != membership(trials, OBJECTIVES, seed=4)


def test_without_noise_it_is_the_front() -> None:
    """Seeds that all agree leave no doubt: 1 on the front, 0 off it."""
    trials = [trial(n, [a, a], c) for n, (a, c) in enumerate([(0.5, 1e5), (0.7, 2e5), (0.6, 3e5)])]
    found = membership(trials, OBJECTIVES)
    assert found == {0: 1.0, 1: 1.0, 2: 0.0}


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12
    )
)
def test_members_are_those_of_a_non_dominated_sort(points: list[tuple[int, int, int]]) -> None:
    """Ties and equal costs included: what `pareto.ranks` puts first."""
    rows = np.array(points, dtype=np.float64)
    members = surely._members(rows[:, 0][None, :], rows[:, 1:])[0]
    assert members.tolist() == (pareto.ranks(rows) == 0).tolist()


def test_bands_keep_noise_from_posing_as_a_trade_off() -> None:
    """Networks that differ by some hundred parameters in a million, well inside one band: the front
    is one of them; without bands it lists as many as chance puts in order.
    """
    source = np.random.default_rng(0)
    exact = {**OBJECTIVES, "params": Objective(goal="min"), "macs": Objective(goal="min")}
    sizes = {"banded": 0, "exact": 0}
    for _ in range(50):
        trials = [
            trial(n, [0.9 + 0.002 * float(source.standard_normal())], 1.003e6 + 20 * n)
            for n in range(30)
        ]
        sizes["banded"] += len(pareto.front(trials, OBJECTIVES))
        sizes["exact"] += len(pareto.front(trials, exact))
    assert sizes["banded"] == 50
    # records of 30 random numbers: the harmonic sum, 3.99 a front
    assert sizes["exact"] / 50 == pytest.approx(sum(1 / n for n in range(1, 31)), abs=0.8)
