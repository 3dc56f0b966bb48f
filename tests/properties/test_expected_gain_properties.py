"""The expected gain is what hypervolume would gain, for any front and any candidate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.front import pareto
from search.sampling.expected_gain import SHORT, expected_gain, free, screened
from search.sampling.warp import Warp

PLAIN = Warp(middle=2.0, step=1.0)  # every worth here is below: nothing is drawn in
CEILING = 1.0
eighths = st.integers(0, 9).map(lambda n: n / 8)  # ties of every kind are common; 9/8 is beyond
costs = st.integers(0, 3)


@st.composite
def fronts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Known networks (k, 1 + m), and the costs (n, m) of candidates."""
    dimensions = draw(costs)
    known = draw(arrays(float, (draw(st.integers(0, 6)), 1 + dimensions), elements=eighths))
    own = draw(arrays(float, (draw(st.integers(1, 4)), dimensions), elements=eighths))
    return known, own


def volume(points: np.ndarray) -> float:
    return pareto.hypervolume(points, np.full(points.shape[1], CEILING))


def gain(mean: float, deviation: float, known: np.ndarray, own: np.ndarray) -> np.ndarray:
    ceiling = np.full(known.shape[1], CEILING)
    means, deviations = np.full(len(own), mean), np.full(len(own), deviation)
    return expected_gain(means, deviations, own, known[:, 0], known[:, 1:], ceiling, PLAIN)


@given(fronts(), eighths)
def test_a_sure_worth_gains_what_hypervolume_gains(
    front: tuple[np.ndarray, np.ndarray], worth: float
) -> None:
    """Without doubt the expectation is the difference of two hypervolumes."""
    known, own = front
    found = gain(worth, 1e-9, known, own)
    for row, expected in zip(own, found, strict=True):
        point = np.concatenate([[worth], row])
        assert expected == pytest.approx(
            volume(np.vstack([known, point])) - volume(known), abs=1e-7
        )


@given(fronts(), eighths, st.sampled_from([0.05, 0.3]))
def test_a_doubtful_worth_gains_the_mean_over_what_it_may_be(
    front: tuple[np.ndarray, np.ndarray], mean: float, deviation: float
) -> None:
    """Against the mean over 400 equally likely worths; the tails beyond them allow 0.4 %."""
    from scipy.stats import norm

    known, own = front
    assume(len(own) == 1)
    likely = mean + deviation * norm.ppf((np.arange(400) + 0.5) / 400)
    before = volume(known)
    points = [np.vstack([known, np.concatenate([[worth], own[0]])]) for worth in likely]
    gains = [volume(point) - before for point in points]
    assert gain(mean, deviation, known, own)[0] == pytest.approx(
        np.mean(gains), rel=0.01, abs=0.004 * deviation
    )


@given(fronts(), eighths, st.randoms())
def test_the_order_of_the_known_changes_nothing(
    front: tuple[np.ndarray, np.ndarray], mean: float, random: object
) -> None:
    """A front is a set, and what it dominates adds nothing to it."""
    known, own = front
    order = list(range(len(known)))
    random.shuffle(order)  # type: ignore[attr-defined]
    members = known[pareto.nondominated(known)] if len(known) else known
    found = gain(mean, 0.2, known, own)
    assert gain(mean, 0.2, known[order], own) == pytest.approx(found, abs=1e-12)
    assert gain(mean, 0.2, members, own) == pytest.approx(found, abs=1e-12)


@given(fronts(), eighths)
def test_who_costs_less_or_promises_more_gains_no_less(
    front: tuple[np.ndarray, np.ndarray], mean: float
) -> None:
    """Of two candidates the one that is nowhere worse is expected to gain at least as much."""
    known, own = front
    found = gain(mean, 0.2, known, own)
    assert (gain(mean, 0.2, known, own - 1 / 16) >= found - 1e-12).all()
    assert (gain(mean - 1 / 16, 0.2, known, own) >= found - 1e-12).all()
    assert (found >= -1e-12).all()


@given(fronts())
def test_what_is_free_and_what_is_reached_are_the_whole(
    front: tuple[np.ndarray, np.ndarray],
) -> None:
    """The volume of costs above a candidate is what others reach and what they do not."""
    known, own = front
    paid = known[:, 1:]
    assume(paid.shape[1] > 0)
    ceiling = np.full(paid.shape[1], CEILING)
    for row, left in zip(own, free(own, paid, ceiling), strict=True):
        reached = np.maximum(paid, row)
        expected = volume(np.vstack([reached, row])) - volume(reached)
        assert left == pytest.approx(expected, abs=1e-12)


def test_the_best_of_many_is_not_screened_away() -> None:
    """With two costs and 2,000 candidates the short list still holds the best."""
    source = np.random.default_rng(0)
    known = source.random((30, 3))
    own, mean = source.random((2000, 2)), source.random(2000)
    assert len(own) > 4 * SHORT
    ceiling, deviation = np.ones(3), np.full(2000, 0.1)
    rest = (known[:, 0], known[:, 1:], ceiling, PLAIN)
    every = expected_gain(mean, deviation, own, *rest)
    assert screened(mean, deviation, own, *rest).max() == pytest.approx(every.max())


@given(arrays(float, st.integers(2, 30), elements=st.floats(-5, 5)))
def test_a_warp_keeps_the_order_and_can_be_undone(values: np.ndarray) -> None:
    """Good values stay as they are; all come back, as far as they are not many steps away."""
    warp = Warp.of(values)
    warped = warp(values)
    order = np.argsort(values, kind="stable")
    assert (np.diff(warped[order]) >= 0).all()
    good = values <= warp.middle
    assert (warped[good] == values[good]).all()
    near = values < warp.middle + 1e6 * warp.step
    assert warp.undone(warped)[near] == pytest.approx(values[near], rel=1e-6, abs=1e-6)
