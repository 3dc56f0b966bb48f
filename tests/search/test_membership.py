"""How sure a front is: against known probabilities, brute force and what bands are for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from search import text
from search.front import membership as surely
from search.front import pareto
from search.front.membership import membership, noise
from search.study.study import Study
from search.trial import Attempt, Ending, Replicate, Trial
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


def spread(number: int, mean: float, sd: float, n: int, cost: float = 1e6) -> Trial:
    """A network whose n seeds have exactly this mean and sample standard deviation."""
    steps = np.arange(n) - (n - 1) / 2
    return trial(number, list(mean + sd * steps / steps.std(ddof=1)), cost)


@pytest.mark.parametrize("lead", [0.0, 0.5, 1.0, 2.0])
def test_a_lead_in_known_noise(lead: float) -> None:
    """Noise known from 400 seeds of a network that is not in question: the normal distribution."""
    rivals = [trial(0, [0.80 + 0.01 * lead]), trial(1, [0.80])]
    found = membership([*rivals, spread(2, 0.1, 0.01, 400)], OBJECTIVES)
    assert found is not None
    # the difference of two single trainings has sd 0.01 * sqrt 2; Student's t with 399 df is normal
    expected = stats.norm.cdf(lead / math.sqrt(2))
    assert found[0] == pytest.approx(expected, abs=0.04)  # 3.5 standard errors of 2,000 redraws
    assert found[2] == 0.0


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_noise_known_from_few_seeds_is_less_sure(seeds: int) -> None:
    """The same lead behind a noise of 1, 2 or 4 degrees of freedom: Student's t, not the normal."""
    rivals = [trial(0, [0.80 + 0.01 * 2 * math.sqrt(2)]), trial(1, [0.80])]
    found = membership([*rivals, spread(2, -9.0, 0.01, seeds)], OBJECTIVES)
    assert found is not None
    # 2 standard deviations of the difference; the normal would say 2.3 %
    assert found[1] == pytest.approx(stats.t.sf(2, seeds - 1), abs=0.028)  # 3.5 standard errors


def test_the_noise_told_is_the_noise_used() -> None:
    """All that was trained counts, also the worse of two trials of one network."""
    told = noise([spread(0, 0.8, 0.01, 3), spread(1, 0.7, 0.02, 3)], "val_accuracy")
    assert told is not None
    assert told.sd == pytest.approx(math.sqrt((0.01**2 + 0.02**2) / 2))  # by hand, in doubles
    alone = [spread(0, 0.8, 0.01, 3), trial(1, [0.79])]
    wider = dataclasses.replace(spread(2, 0.7, 0.2, 3), identity="net0")
    sure, unsure = membership(alone, OBJECTIVES), membership([*alone, wider], OBJECTIVES)
    assert sure is not None
    assert unsure is not None
    assert set(unsure) == set(sure) == {0, 1}
    assert unsure[0] < sure[0]


def test_many_seeds_speak_for_themselves() -> None:
    """Two steady networks are told apart, however much others of the study vary."""
    steady = [spread(0, 0.801, 0.001, 10), spread(1, 0.800, 0.001, 10)]
    found = membership([*steady, spread(2, 0.1, 0.1, 10)], OBJECTIVES)
    assert found is not None
    # difference of two means of 10; resampled seeds, stretched, have the sample's own variance
    expected = stats.norm.cdf(0.001 / (0.001 * math.sqrt(2 / 10)))
    assert found[0] == pytest.approx(expected, abs=0.02)  # 6 standard errors; no exact normal
    drawn = surely._redrawn(steady[:1], "val_accuracy", surely.Noise(0.1, 10), seed=0)
    # the standard error of a mean of 10; 3 % is twice that of the sd of 2,000, and without the
    # stretch it would be 5 % too small
    assert drawn.std() == pytest.approx(0.001 / math.sqrt(10), rel=0.03)
    few = [spread(0, 0.801, 0.001, 3), spread(1, 0.800, 0.001, 3), spread(2, 0.1, 0.1, 10)]
    pooled = membership(few, OBJECTIVES)
    assert pooled is not None
    assert pooled[0] < 0.6


def test_a_probability_keeps_what_it_promises() -> None:
    """Of networks said to be on the front with some probability, that share is, in 500 studies
    whose truth is known.
    """
    source = np.random.default_rng(1)
    said, true = [], []
    for study in range(500):
        worth = source.uniform(0.5, 0.6, 4)  # wide against the noise: the flat prior is right
        seen = worth[:, None] + 0.02 * source.standard_normal((4, 3))
        costs = 1e6 * source.choice([1.0, 2.0], 4)
        trials = [trial(n, list(seen[n]), costs[n]) for n in range(4)]
        found = membership(trials, OBJECTIVES, seed=study)
        assert found is not None
        exact = [
            dataclasses.replace(one, objectives={"val_accuracy": value, **one.costs})
            for one, value in zip(trials, worth, strict=True)
        ]
        there = {one.number for one in pareto.front(exact, OBJECTIVES)}
        said += [found[n] for n in range(4)]
        true += [n in there for n in range(4)]
    probability, member = np.array(said), np.array(true)
    for low, high in [(0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)]:
        here = (probability >= low) & (probability < high)
        error = math.sqrt(0.25 / here.sum())
        # 3 standard errors, and 3 points since a range of the prior has ends
        assert member[here].mean() == pytest.approx(probability[here].mean(), abs=3 * error + 0.03)


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([1e5, 1.001e5, 2e5, 3e5])),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=40, deadline=None)
def test_without_noise_it_is_brute_force(networks: list[tuple[int, float]]) -> None:
    """1 for the members of `pareto.front`, ties and bands included, 0 for all others."""
    trials = [trial(n, [0.1 * a, 0.1 * a], cost) for n, (a, cost) in enumerate(networks)]
    there = {member.number for member in pareto.front(trials, OBJECTIVES)}
    found = membership(trials, OBJECTIVES)
    assert found == {one.number: float(one.number in there) for one in trials}


@given(
    st.lists(
        st.tuples(st.floats(0.1, 0.9), st.sampled_from([1e5, 2e5, 3e5])), min_size=2, max_size=8
    )
)
@settings(max_examples=25, deadline=None)
def test_somebody_is_on_the_front(networks: list[tuple[float, float]]) -> None:
    """Every redraw has a front: the probabilities of the cheapest networks come to 1 or more, and
    one that is cheaper than all is on it for sure.
    """
    trials = [trial(n, [a, a + 0.01], cost) for n, (a, cost) in enumerate(networks)]
    found = membership(trials, OBJECTIVES)
    assert found is not None
    assert all(0 <= probability <= 1 for probability in found.values())
    least = min(cost for _, cost in networks)
    cheapest = [found[n] for n, (_, cost) in enumerate(networks) if cost == least]
    assert sum(cheapest) > 1 - 1e-9  # a sum of multiples of 1 / 2,000
    if len(cheapest) == 1:
        assert cheapest == [1.0]


def test_a_loss_is_redrawn_before_it_is_banded() -> None:
    """A tolerance of a trained objective makes near results equal, and leaves noise its units."""
    objectives = {
        "val_loss": Objective(goal="min", tolerance=0.05),
        "params": Objective(goal="min", tolerance=0.01),
    }

    def lost(number: int, losses: list[float]) -> Trial:
        one = trial(number, losses)
        replicates = tuple(
            dataclasses.replace(r, curve=({"val_loss": r.curve[0]["val_accuracy"]},))
            for r in one.replicates
        )
        objective = {"val_loss": sum(losses) / len(losses)}
        return dataclasses.replace(one, replicates=replicates, objectives=objective)

    # bands of 5 % about 1: 1.000 and 1.002 share one whatever noise of 0.001 does, 1.2 does not
    found = membership(
        [lost(0, [0.999, 1.001]), lost(1, [1.001, 1.003]), lost(2, [1.199, 1.201])], objectives
    )
    assert found is not None
    assert found[0] > 0.9
    assert found[1] > 0.9
    assert found[2] < 0.02


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


def test_a_front_of_single_seeds_says_what_would_tell(synthetic: Callable[..., Study]) -> None:
    """No column is made up; a line below the table names the remedy."""
    study = synthetic()
    while (assignment := study.next()) is not None:
        study.start(assignment, "here:1")
        for epoch in range(1, 4):
            study.report(assignment.trial, 0, {"epoch": epoch, "val_accuracy": 0.5})
        study.end(assignment.trial, 0, Ending("finished", ""))
    assert study.membership() is None
    assert "on front" not in text.front(study)
    assert "`search.replicates` (also at `resume`)" in " ".join(text.footnotes(study))


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
