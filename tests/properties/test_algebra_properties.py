"""What holds for regions, cells and proofs at all channels, gamma and b."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.algebra import agreement, rules
from spaces.algebra.inverse import region
from spaces.algebra.plane import Cell, cells
from spaces.algebra.strips import Point, Polygon, Rounding, doublings, strip
from spaces.mappings import log2

CHANNELS = st.lists(st.integers(1, 4096), min_size=1, max_size=5)
GAMMAS = st.integers(2, 40).map(lambda n: n / 8)
SHIFTS = st.integers(0, 96).map(lambda n: n / 8)
ROUNDINGS = st.sampled_from(["nearest", "nearest_down", "floor", "ceil"])
KERNELS = st.integers(0, 6).map(lambda m: 2 * m + 1)
WINDOW = (Fraction(1, 2), Fraction(5)), (Fraction(-6), Fraction(5))


def area(polygon: Polygon) -> Fraction:
    """By the shoelace formula; a polygon here runs counter-clockwise."""
    edges = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return sum((x * v - u * y for (x, y), (u, v) in edges), Fraction(0)) / 2


def holds(cell: Cell, channels: list[int], point: Point, rounding: Rounding) -> bool:
    """Whether all strips of a cell hold a point."""
    pairs = zip(channels, cell.kernels, strict=True)
    return all(strip(count, kernel, rounding).holds(point) for count, kernel in pairs)


@given(CHANNELS, GAMMAS, SHIFTS, ROUNDINGS)
def test_a_region_holds_every_point_that_gives_its_profile(
    channels: list[int], gamma: float, shift: float, rounding: Rounding
) -> None:
    """The kernels at any (gamma, b) have a region, and the point lies in it."""
    b = float(-int(doublings(min(channels)))) + shift
    wanted = [(c, log2.mapping(c, gamma=gamma, b=b, rounding=rounding)) for c in channels]
    found = region(wanted, rounding)
    assert found.corners
    assert all(each.holds((Fraction(gamma), Fraction(b))) for each in found.strips)


@given(CHANNELS, st.lists(KERNELS, min_size=5, max_size=5), ROUNDINGS)
def test_a_point_inside_gives_the_profile(
    channels: list[int], kernels: list[int], rounding: Rounding
) -> None:
    """Where a region is not empty, the mapping itself gives the kernels at its inner point."""
    wanted = list(zip(channels, sorted(kernels), strict=False))
    found = region(wanted, rounding)
    assert bool(found.because) == (found.inside is None)
    if found.inside is not None:
        gamma, b = map(float, found.inside)
        given = [log2.mapping(c, gamma=gamma, b=b, rounding=rounding) for c in channels]
        assert given == [kernel for _, kernel in wanted]


@settings(max_examples=40)
@given(st.lists(KERNELS, min_size=3, max_size=3), ROUNDINGS)
def test_what_is_called_impossible_is_in_no_grid(kernels: list[int], rounding: Rounding) -> None:
    """A profile without a region is given by none of 1,312 pairs."""
    channels = (16, 32, 64)
    if region(list(zip(channels, kernels, strict=True)), rounding).corners:
        return
    for gamma in (n / 8 for n in range(1, 33)):
        for b in (n / 4 for n in range(-16, 25)):
            given = (log2.mapping(c, gamma=gamma, b=b, rounding=rounding) for c in channels)
            assert tuple(given) != tuple(kernels)


@settings(max_examples=40)
@given(CHANNELS, ROUNDINGS, st.fractions(*WINDOW[0]), st.fractions(*WINDOW[1]))
def test_cells_part_the_plane(
    channels: list[int], rounding: Rounding, gamma: Fraction, b: Fraction
) -> None:
    """Every point where the mapping is defined lies in one cell; together they fill the window."""
    found = cells(channels, rounding, *WINDOW)
    assert len({cell.kernels for cell in found}) == len(found)
    least = max(WINDOW[1][0], -doublings(min(channels)))
    width, height = WINDOW[0][1] - WINDOW[0][0], WINDOW[1][1] - least
    assert sum(area(cell.corners) for cell in found) == width * height
    if b > least:
        assert sum(holds(cell, channels, (gamma, b), rounding) for cell in found) == 1


@given(
    st.fixed_dictionaries({"gamma": GAMMAS, "b": SHIFTS, "rounding": ROUNDINGS}),
    st.fixed_dictionaries({"gamma": st.integers(1, 64).map(float), "b": st.integers(-64, 64)}),
    st.integers(1, 400),
)
def test_runs_are_what_each_channel_count_gets(
    one: dict[str, object], other: dict[str, float], high: int
) -> None:
    """A proof over a range says what both rules answer, refusals at either end among them."""
    a = rules.of({"name": "log2", **one})
    b = rules.of({"name": "linear", **other, "b": float(other["b"])})
    proof = agreement.over(a, b, 1, high)
    told = [(run.a, run.b) for run in proof.runs for _ in range(run.first, run.last + 1)]
    assert told == [(a(c), b(c)) for c in range(1, high + 1)]
