"""Differences, tests, power and words, against textbooks, statsmodels and computation by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from search.comparison.paired import estimate, holm, sign_flip
from search.comparison.power import detectable, least_p, power_at, seeds_needed, smallest_n
from search.comparison.shrinkage import rank_correlation, shrinkage
from search.comparison.statistics import Block, Comparison, PairResult, compare, sentence

MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
"""Darwin's 15 pairs of maize, crossed minus self-fertilised, in eighths of an inch: Fisher, The
Design of Experiments (1935), chapter III."""
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
"""Extra hours of sleep, second drug minus first: Student, Biometrika 6 (1908), p. 20."""


def arms(
    scores: Mapping[str, list[float]], *, stratum: object = 1.0
) -> dict[str, dict[Block, float]]:
    """Accuracies by seed, in the form `compare` takes."""
    return {
        name: {(stratum, seed): value for seed, value in enumerate(column)}
        for name, column in scores.items()
    }


def pair_of(a: list[float], b: list[float], **more: float) -> PairResult:
    (pair,) = compare(arms({"a": a, "b": b}), **{"margin": 0.01, **more}).pairs
    return pair


def drawn(n: int, *, means: tuple[float, ...] = (0.9, 0.9, 0.91), sd: float = 0.002) -> Comparison:
    noise = np.random.default_rng(n).normal(0, sd, (len(means), n))
    scores = {f"arm{i}": list(mean + noise[i]) for i, mean in enumerate(means)}
    return compare(arms(scores), margin=0.005)


def test_sign_flips_of_darwins_maize() -> None:
    """Fisher counted 863 of 32,768 flips with a sum of 314 or more, 28 of them ties."""
    assert sign_flip(np.array(MAIZE) / 1000, [0] * 15) == 2 * 863 / 2**15


def test_interval_of_darwins_maize() -> None:
    """Fisher: mean 20.933, t = 2.148 on 14 degrees of freedom."""
    found = estimate(np.array(MAIZE) / 1000, [0] * 15)
    assert 1000 * found.mean == pytest.approx(20.933, abs=5e-4)  # printed to three decimals
    assert found.mean / (found.scale * found.sd) == pytest.approx(2.148, abs=5e-4)
    assert found.df == 14


def test_interval_of_students_sleep() -> None:
    """The t interval is the one R prints for its `sleep` data: 0.7001142 to 2.4598858."""
    low, high = estimate(np.array(SLEEP) / 10, [0] * 10).interval(0.95)
    assert 10 * low == pytest.approx(0.7001142, abs=1e-7)
    assert 10 * high == pytest.approx(2.4598858, abs=1e-7)


def test_strata_are_fixed_effects() -> None:
    """Mean and interval are the intercept of a regression on sum-coded strata, unbalanced too."""
    rng = np.random.default_rng(1)
    strata = ["x"] * 4 + ["y"] * 2 + ["z"] * 7
    values = rng.normal(0.01, 0.01, 13) + np.repeat([0.0, 0.05, -0.02], [4, 2, 7])
    fitted = smf.ols("v ~ C(s, Sum)", pd.DataFrame({"v": values, "s": strata})).fit()
    found = estimate(values, strata)
    low, high = found.interval(0.95)
    assert found.df == fitted.df_resid == 10
    assert found.mean == pytest.approx(fitted.params["Intercept"], abs=1e-12)
    assert [low, high] == pytest.approx(list(fitted.conf_int().loc["Intercept"]), abs=1e-12)


@pytest.mark.parametrize("margin", [0.001, 0.003, 0.004, 0.006, 0.02])
def test_equivalence_is_two_one_sided_t_tests(margin: float) -> None:
    """`equivalent` is what statsmodels' paired TOST says at the same alpha."""
    a, b = np.random.default_rng(2).normal(0.9, 0.004, (2, 9))
    p, _, _ = ttost_paired(a, b, -margin, margin)
    assert pair_of(list(a), list(b), margin=margin).equivalent == (p < 0.05)


def test_holm_by_hand_and_by_statsmodels() -> None:
    """Adjusted p-values keep their order, never fall below an earlier one, and end at 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    rng = np.random.default_rng(3)
    for count in (1, 2, 5, 12):
        p = rng.choice([0.001, 0.01, 0.02, 0.3, 1.0], count)
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@pytest.mark.parametrize("n", [2, 6, 9])
def test_sign_flips_enumerated_by_hand(n: int) -> None:
    """The p is the share of all 2^n flips whose mean over strata is as far from 0, ties too."""
    values = np.round(np.random.default_rng(n).normal(0.001, 0.003, n), 3)
    strata = ["x", "x", "y", "x", "y", "y", "y", "z", "z"][:n]
    counts = [strata.count(stratum) for stratum in strata]
    flipped = np.array(list(product([1, -1], repeat=n))) * values @ (1 / np.array(counts))
    share = np.mean(np.abs(flipped) >= abs(flipped[0]) - 1e-12)
    assert sign_flip(values, strata) == pytest.approx(share, abs=1e-12)


def test_ties_are_ties_whatever_the_rounding() -> None:
    """0.912 - 0.908 and 0.904 - 0.9 differ in their last bits; they are one difference."""
    pair = pair_of([0.912, 0.904, 0.9], [0.908, 0.9, 0.904])
    assert pair.p == 1.0  # every flip of +4, +4, -4 is at least as far from 0


def test_beyond_sixteen_blocks_flips_are_drawn() -> None:
    """The p of 20 blocks is near that of the t test, says so, and is the same every time."""
    a, b = np.random.default_rng(5).normal([[0.9], [0.8985]], 0.003, (2, 20))
    pair = pair_of(list(a), list(b))
    assert not pair.exact
    assert pair_of(list(a[:16]), list(b[:16])).exact
    assert pair == pair_of(list(a), list(b))
    assert pair.p == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.01)  # sd of p: 0.001


def test_drawn_flips_never_give_zero() -> None:
    """However clear the difference, p is at least 2 / (flips + 1)."""
    assert pair_of([0.9] * 30, [0.1] * 30).p == pytest.approx(2 / (2**16 + 1))


def test_pairs_arms_and_noise_of_a_comparison() -> None:
    """Three arms give three pairs, with the means, deviations and corrected p of plain numpy."""
    noise = np.random.default_rng(8).normal(0, 0.002, (3, 8))
    scores = {name: list(0.9 + noise[i]) for i, name in enumerate("xyz")}
    found = compare(arms(scores), margin=0.005)
    assert [(pair.a, pair.b) for pair in found.pairs] == [("x", "y"), ("x", "z"), ("y", "z")]
    assert [arm.mean for arm in found.arms] == pytest.approx([np.mean(v) for v in scores.values()])
    sds = [np.std(v, ddof=1) for v in scores.values()]
    assert [arm.sd for arm in found.arms] == pytest.approx(sds)
    assert found.noise == pytest.approx(math.sqrt(np.mean(np.square(sds))))
    assert found.noise_df == 21
    for pair in found.pairs:
        test = stats.ttest_rel(scores[pair.a], scores[pair.b])
        assert [pair.low, pair.high] == pytest.approx(list(test.confidence_interval(0.95)))
    assert [p.p_holm for p in found.pairs] == pytest.approx(list(holm([p.p for p in found.pairs])))
    for p in found.pairs:
        assert p.significant == (p.p_holm <= 0.05 and not p.low <= 0 <= p.high)


def test_against_one_arm_tests_fewer_pairs() -> None:
    """With a reference arm the others are compared with it alone, and Holm counts only those."""
    scores = {name: [0.9, 0.91, 0.92, 0.9] for name in "xyz"}
    found = compare(arms(scores), margin=0.01, against="y")
    assert [(pair.a, pair.b) for pair in found.pairs] == [("x", "y"), ("z", "y")]


def test_only_complete_blocks_enter_pairs() -> None:
    """A block that one arm lacks is dropped from every pair and listed; the arms keep it."""
    results = arms({"x": [0.9, 0.92, 0.91], "y": [0.8, 0.83, 0.81], "z": [0.7, 0.74, 0.7]})
    del results["y"][1.0, 1]
    found = compare(results, margin=0.01)
    assert found.dropped == ((1.0, 1),)
    assert [pair.n for pair in found.pairs] == [2, 2, 2]
    assert [arm.n for arm in found.arms] == [3, 2, 3]
    assert found.pairs[1].difference == pytest.approx((0.2 + 0.21) / 2)


def test_the_order_of_blocks_and_arms_is_no_matter() -> None:
    """Blocks in another order give the same; the pair turned round gives the opposite."""
    rng = np.random.default_rng(9)
    scores = {
        name: {(w, s): float(rng.uniform(0.8, 0.9)) for w in (0.5, 1.0) for s in range(9)}
        for name in "xy"
    }
    turned = {name: dict(reversed(scores[name].items())) for name in "yx"}
    (first,) = compare(scores, margin=0.01).pairs
    (second,) = compare(turned, margin=0.01).pairs
    assert not first.exact
    assert (second.a, second.p, second.p_holm) == ("y", first.p, first.p_holm)
    assert [second.difference, second.low, second.high] == pytest.approx(
        [-first.difference, -first.high, -first.low]
    )


def test_strata_do_not_widen_the_interval() -> None:
    """Two widths with different effects: the interval knows the noise within each alone."""
    noise = [0.001, -0.001, 0.002, -0.002]
    a = {(w, s): 0.9 + w / 100 + e for w in (1, 4) for s, e in enumerate(noise)}
    b = {(w, s): 0.9 for w in (1, 4) for s in range(4)}
    (pair,) = compare({"a": a, "b": b}, margin=0.01).pairs
    assert (pair.n, pair.strata, pair.difference) == (8, 2, pytest.approx(0.025))
    assert pair.high - pair.low == pytest.approx(
        2 * stats.t.ppf(0.975, 6) * math.sqrt(2 * 1e-5 / 6 / 8)
    )


@pytest.mark.parametrize("strata", [[1.0], [0.5, 1.0, 2.0]])
def test_one_seed_a_stratum_says_nothing_about_noise(strata: list[float]) -> None:
    """Without two seeds anywhere the interval is all a difference can be; nothing is equivalent."""
    results = {name: {(w, 0): 0.9 for w in strata} for name in "ab"}
    found = compare(results, margin=0.5)
    (pair,) = found.pairs
    assert (pair.low, pair.high, pair.p, pair.equivalent) == (-1, 1, 1, False)
    assert (found.noise, found.noise_df, found.arms[0].sd) == (None, 0, None)
    assert sentence(pair, 0.5).startswith("undecided")


def test_identical_results_are_no_more_certain_than_counting() -> None:
    """With the step of an accuracy told, equal results on 100 images prove no 0.2 points."""
    same = [0.9] * 5
    assert pair_of(same, same, margin=0.002).equivalent  # taken at their word: no spread at all
    told = pair_of(same, same, margin=0.002, resolution=0.01)
    assert (told.difference, told.p, told.equivalent) == (0, 1, False)
    assert told.high == pytest.approx(stats.t.ppf(0.975, 4) * math.sqrt(1e-4 / 6 / 5))
    assert pair_of(same, same, margin=0.002, resolution=1e-4).equivalent


def test_a_constant_difference_needs_six_seeds() -> None:
    """The same lead in every seed is significant from six seeds on, never at five."""
    assert pair_of([0.9] * 5, [0.8] * 5).p == 2 / 2**5
    assert not pair_of([0.9] * 5, [0.8] * 5).significant
    assert pair_of([0.9] * 6, [0.8] * 6).significant


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"results": {"a": {(1, 0): 0.9}}}, "two arms"),
        ({"results": {"a": {(1, 0): 0.9}, "b": {(1, 0): math.nan}}}, "nan of b at (1, 0)"),
        ({"results": {"a": {(1, 0): 90.0}, "b": {(1, 0): 0.9}}}, "90.0 of a at (1, 0)"),
        ({"results": {"a": {(1, 0): 0.9}, "b": {(1, 1): 0.9}}}, "no block has a value of every"),
        ({"results": {"a": {(1, 0): 0.9}, "b": {}}}, "no block has a value of every"),
        ({"against": "c"}, "no arm named 'c'; there are: a, b"),
        ({"margin": 0.0}, "a margin is"),
        ({"margin": math.nan}, "a margin is"),
        ({"alpha": 0.5}, "alpha lies"),
        ({"alpha": math.nan}, "alpha lies"),
    ],
)
def test_what_is_no_comparison_is_refused(change: dict[str, Any], told: str) -> None:
    """NaN, percentages, unknown arms and margins that are none get an error that names them."""
    given: dict[str, Any] = {"results": arms({"a": [0.9], "b": [0.8]}), "margin": 0.01}
    with pytest.raises(ValueError, match=told.replace("(", r"\(").replace(")", r"\)")):
        compare(**{**given, **change})


@pytest.mark.parametrize("n", [1, 2, 8])
def test_a_comparison_is_json(n: int) -> None:
    """No NaN and no infinity, whatever the number of seeds."""
    assert json.loads(json.dumps(asdict(drawn(n)), allow_nan=False))["alpha"] == 0.05


PAIR = PairResult(
    a="eca",
    b="none",
    n=10,
    strata=1,
    difference=0.004,
    low=0.001,
    high=0.007,
    p=0.002,
    p_holm=0.006,
    significant=True,
    equivalent=False,
    exact=True,
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "eca is better than none by 0.4 points (0.1 to 0.7); 10 seeds"),
        (
            {"difference": -0.004, "low": -0.007, "high": -0.001, "strata": 2},
            "none is better than eca by 0.4 points (0.1 to 0.7); 5 seeds at 2 blocks",
        ),
        (
            {"difference": 0.0005, "low": 0.0002, "high": 0.0008, "equivalent": True},
            "eca is better than none by 0.05 points (0.02 to 0.08), less than 0.2; 10 seeds",
        ),
        (
            {"significant": False, "equivalent": True},
            "no difference larger than 0.2 points between eca and none; 10 seeds",
        ),
        (
            {"significant": False, "difference": -0.00001, "low": -0.003, "n": 1},
            "undecided: eca minus none is 0 points; 1 seed, more needed",
        ),
        (
            {"low": -0.001, "significant": False},
            "undecided: eca minus none is 0.4 points (-0.1 to 0.7); 10 seeds, more needed",
        ),
    ],
)
def test_sentences(change: dict[str, Any], words: str) -> None:
    """Better, equivalent, or undecided: in percentage points, with n, in the winner's favour."""
    assert sentence(replace(PAIR, **change), 0.002) == words


@pytest.mark.parametrize(("comparisons", "n"), [(1, 6), (2, 7), (3, 7), (6, 8), (10, 9), (45, 11)])
def test_smallest_n(comparisons: int, n: int) -> None:
    """At so many blocks the best p there is passes Holm's first step, at one fewer it does not."""
    assert smallest_n(comparisons) == n
    assert comparisons * sign_flip(np.full(n, 0.01), [0] * n) <= 0.05
    assert comparisons * sign_flip(np.full(n - 1, 0.01), [0] * (n - 1)) > 0.05


def test_drawn_flips_tell_no_smaller_p() -> None:
    """Above 16 differences the least p falls no more: so many pairs are never significant."""
    for n in (15, 16, 17, 18, 30, 31, 40):
        found = sign_flip(np.linspace(0.01, 0.02, n), [0] * n)
        assert found == pytest.approx(least_p(n), rel=1e-12)  # doubles
        assert least_p(n) >= 2 / 65537
    assert least_p(1000) == 2 / 65537
    assert (smallest_n(1638), smallest_n(1639)) == (16, None)
    assert seeds_needed(0.5, 0.1, comparisons=1639) is None
    assert detectable(1000, 0.1, comparisons=1639) is None
    assert power_at(1000, 5.0, 0.1, comparisons=1639) == 0


def test_seeds_by_cohens_example() -> None:
    """Differences of 0.5 sd, alpha 0.05, power 0.8: 34 pairs (G*Power 3.1; statsmodels)."""
    n = math.ceil(TTestPower().solve_power(0.5, power=0.8, alpha=0.05))
    assert seeds_needed(0.5, 1 / math.sqrt(2)) == n == 34


@pytest.mark.parametrize("n", [12, 20, 80])
def test_power_by_statsmodels(n: int) -> None:
    """Where the test has many flips its power is that of the paired t test, seen from one side."""
    power = TTestPower().power(0.4, n, 0.025, alternative="larger")
    assert power_at(n, 0.4, 1 / math.sqrt(2)) == pytest.approx(power, abs=0.002)  # levels of flips


def test_six_seeds_need_one_sign() -> None:
    """At six blocks only differences of one sign are significant: power is Phi(shift)^6."""
    exact = stats.norm.cdf(1.5) ** 6
    assert power_at(6, 1.5, 1 / math.sqrt(2)) == pytest.approx(exact, abs=0.02)  # 3 of 0.007


def test_planning_at_the_known_noise() -> None:
    """At 0.16 points (NAS-Bench-201) normal theory says 40, 10, 5, 2; small n costs more."""
    assert [seeds_needed(e, 0.16) for e in (0.1, 0.2, 0.3, 0.5)] == [43, 13, 7, 6]


@pytest.mark.parametrize("comparisons", [1, 6])
def test_planning_turns_round(comparisons: int) -> None:
    """What n can see needs n; one seed fewer has less power; too few seeds see nothing."""
    for n in (8, 12, 30):
        effect = detectable(n, 0.2, comparisons=comparisons)
        assert effect is not None
        assert power_at(n, effect, 0.2, comparisons=comparisons) == pytest.approx(0.8, abs=1e-3)
        assert seeds_needed(effect * 1.001, 0.2, comparisons=comparisons) == n
    few = smallest_n(comparisons) - 1
    assert detectable(few, 0.2, comparisons=comparisons) is None
    assert power_at(few, 1e3, 0.2, comparisons=comparisons) == 0


def test_planning_without_noise() -> None:
    """With no noise at all the smallest n does for any effect."""
    assert seeds_needed(1e-6, 0.0) == smallest_n()
    assert (power_at(6, 1e-6, 0.0), detectable(6, 0.0)) == (1.0, 0.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"effect": 0.0},
        {"effect": math.nan},
        {"sd": -1.0},
        {"sd": math.inf},
        {"alpha": 0.0},
        {"power": 1.0},
        {"comparisons": 0},
    ],
)
def test_plans_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    """No effect, no noise that is a number, no comparison: an error, no endless search."""
    with pytest.raises(ValueError, match="got"):
        seeds_needed(**{"effect": 0.1, "sd": 0.2, **wrong})


def test_shrinkage_is_a_paired_t_interval() -> None:
    """Search minus confirmed, with the interval scipy gives its differences."""
    searched, confirmed = [0.92, 0.915, 0.91, 0.93], [0.91, 0.912, 0.911, 0.915]
    found = shrinkage(searched, confirmed)
    test = stats.ttest_rel(searched, confirmed).confidence_interval(0.95)
    assert (found.n, found.mean) == (4, pytest.approx(0.00675))
    assert [found.low, found.high] == pytest.approx([test.low, test.high])
    assert (shrinkage([0.9], [0.8]).low, shrinkage([0.9], [0.8]).high) == (-1, 1)


def test_rank_correlation_by_textbook() -> None:
    """IQ and hours of television, the worked example of Spearman's rho in Wikipedia: -29/165."""
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert rank_correlation(iq, hours).spearman == pytest.approx(-29 / 165)
    assert rank_correlation([1, 2, 3], [1, 3, 2]).kendall == pytest.approx(1 / 3)
    assert rank_correlation([1, 2, 2], [5, 7, 7]).kendall == pytest.approx(1)


@pytest.mark.parametrize("short", [[], [0.9], [0.9, 0.9, 0.9]])
def test_no_ranks_no_correlation(short: list[float]) -> None:
    """Fewer than two networks, or all alike, have no order to compare."""
    found = rank_correlation(short, [0.1 * i for i in range(len(short))])
    assert (found.n, found.spearman, found.kendall) == (len(short), None, None)


def test_unmatched_confirmations_are_refused() -> None:
    """Lists of two lengths, nothing at all, and NaN are errors."""
    with pytest.raises(ValueError, match="got 1 and 2"):
        shrinkage([0.9], [0.9, 0.8])
    with pytest.raises(ValueError, match="no network"):
        shrinkage([], [])
    with pytest.raises(ValueError, match="NaN"):
        rank_correlation([0.9, math.nan], [0.9, 0.8])


def test_where_two_arms_are_one_network_the_pair_goes_by_the_other_strata() -> None:
    """A difference of nothing that nobody measured would feign certainty."""
    rng = np.random.default_rng(3)
    blocks = [(width, seed) for width in (0.25, 0.5) for seed in range(8)]
    a = {block: 0.5 + 0.01 * float(rng.standard_normal()) for block in blocks}
    b = {block: a[block] if block[0] == 0.5 else a[block] - 0.02 for block in blocks}
    both = {"a": a, "b": b}
    narrow = {name: {k: v for k, v in arm.items() if k[0] == 0.25} for name, arm in both.items()}
    told = compare(both, margin=0.002, same={frozenset({"a", "b"}): {0.5}})
    alone = compare(narrow, margin=0.002)
    assert told.pairs == alone.pairs
    assert told.pairs[0].n == 8
    everywhere = compare({"a": a, "b": a}, margin=0.002, same={frozenset({"a", "b"}): {0.25, 0.5}})
    assert everywhere.pairs == ()


def test_one_seed_at_many_strata_shows_nothing() -> None:
    """Nothing tells noise from effect there, whatever the signs say."""
    blocks = [(width, 0) for width in range(8)]
    told = compare({"a": dict.fromkeys(blocks, 0.9), "b": dict.fromkeys(blocks, 0.8)}, margin=0.01)
    (pair,) = told.pairs
    assert pair.p < 0.05
    assert not pair.significant
    assert (
        sentence(pair, 0.01) == "undecided: a minus b is 10 points; 1 seed at 8 blocks, more needed"
    )
