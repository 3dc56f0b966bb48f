"""Properties of ranks, bands and hypervolume, with moocore as the oracle."""

from __future__ import annotations

import itertools
import math

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from search.front import pareto

# Small whole numbers make ties and duplicates common, which is where such code goes wrong.
GRID = st.integers(0, 5).map(float)
SMOOTH = st.floats(-10, 10, allow_subnormal=False)


@st.composite
def points(draw: st.DrawFn, dimensions: tuple[int, ...] = (1, 2, 3, 4)) -> np.ndarray:
    shape = (draw(st.integers(1, 14)), draw(st.sampled_from(dimensions)))
    return draw(hnp.arrays(np.float64, shape, elements=draw(st.sampled_from([GRID, SMOOTH]))))


@given(points((2, 3, 4)))
def test_ranks_agree_with_moocore(rows: np.ndarray) -> None:
    """Every row gets the rank that moocore's non-dominated sorting gives it."""
    np.testing.assert_array_equal(pareto.ranks(rows), moocore.pareto_rank(rows))


@given(points((2, 3, 4)))
def test_rank_zero_agrees_with_moocore(rows: np.ndarray) -> None:
    """Rank 0 is moocore's non-dominated set, duplicates kept."""
    kept = moocore.is_nondominated(rows, keep_weakly=True)
    np.testing.assert_array_equal(pareto.ranks(rows) == 0, kept)


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(0, 200), st.sampled_from((1, 2, 3, 4))), elements=GRID
    )
)
def test_the_front_agrees_with_moocore(rows: np.ndarray) -> None:
    """Of more rows than are compared at a time, too."""
    kept = moocore.is_nondominated(rows, keep_weakly=True) if len(rows) else np.zeros(0, bool)
    np.testing.assert_array_equal(pareto.nondominated(rows), kept)


@given(points((2, 3, 4)), st.floats(-6, 12))
def test_hypervolume_agrees_with_moocore(rows: np.ndarray, corner: float) -> None:
    """The volume is moocore's, also with the reference inside the cloud of points."""
    reference = np.full(rows.shape[1], corner)
    # Both sum up to 14^2 boxes of sides up to 22 in double precision.
    assert pareto.hypervolume(rows, reference) == pytest.approx(
        moocore.hypervolume(rows, ref=reference), rel=1e-10, abs=1e-10
    )


@given(points(), st.randoms(use_true_random=False))
def test_order_of_points_does_not_matter(rows: np.ndarray, random: object) -> None:
    """Shuffled rows keep their ranks and their volume."""
    order = np.array(sorted(range(len(rows)), key=lambda _: random.random()))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(pareto.ranks(rows)[order], pareto.ranks(rows[order]))
    reference = np.full(rows.shape[1], 11.0)
    # The boxes are summed in another order among equal keys.
    assert pareto.hypervolume(rows[order], reference) == pytest.approx(
        pareto.hypervolume(rows, reference), rel=1e-12
    )


@given(points(), st.floats(0, 3), st.integers(0, 13))
def test_a_dominated_point_changes_nothing(rows: np.ndarray, shift: float, index: int) -> None:
    """A point no better than another anywhere leaves the front and the volume as they were."""
    worse = np.vstack([rows, rows[index % len(rows)] + shift])
    reference = np.full(rows.shape[1], 11.0)
    np.testing.assert_array_equal(pareto.ranks(worse)[:-1] == 0, pareto.ranks(rows) == 0)
    # Slicing at one more height splits a box in two; their sum rounds differently.
    assert pareto.hypervolume(worse, reference) == pytest.approx(
        pareto.hypervolume(rows, reference), rel=1e-12
    )


@given(points())
def test_hypervolume_never_falls_when_a_point_joins(rows: np.ndarray) -> None:
    """The volume grows, or stays, with every further point."""
    reference = np.full(rows.shape[1], 4.0)
    volumes = [pareto.hypervolume(rows[:count], reference) for count in range(len(rows) + 1)]
    slack = 1e-12 * max(volumes)  # rounding of the sum
    assert all(after >= before - slack for before, after in itertools.pairwise(volumes))


@given(st.floats(1e-3, 1e12), st.floats(1e-3, 0.5))
def test_bands_are_idempotent(cost: float, tolerance: float) -> None:
    """The cost that stands for a band lies in that band, and no cost is further off than half."""
    number = pareto.band(cost, tolerance)
    middle = (1 + tolerance) ** number
    assert pareto.band(middle, tolerance) == number
    # Half a band, and the rounding of a logarithm of up to 28 times 1000 bands.
    assert abs(math.log(cost / middle)) <= math.log1p(tolerance) / 2 + 1e-9


@given(st.floats(1e-3, 1e12), st.floats(1.0, 10.0), st.floats(0, 0.5))
def test_bands_keep_the_order(cost: float, factor: float, tolerance: float) -> None:
    """A greater cost never lies in a lower band."""
    assert pareto.band(cost, tolerance) <= pareto.band(cost * factor, tolerance)
