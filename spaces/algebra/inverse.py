"""The inverse of the paper's mapping: which (gamma, b) give a network the kernels one wants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from spaces.algebra.strips import GAMMA, B, Edge, Point, Polygon, Rounding, Strip, box, strip

PAPER: Point = (Fraction(2), Fraction(1))
"""The authors' gamma and b."""
GRIDS = (1, 2, 4, 5, 10, 20, 50, 100)
"""A nice number is a multiple of one over one of these, the first that will do."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where `log2` gives every channel count the kernel wanted of it: a convex polygon, or nothing.

    ``corners`` bound it in order; ``inside`` is a point with few decimals that lies on no edge.
    Where there is no such point, both are empty and ``because`` says which sites contradict each
    other, and how.
    """

    strips: tuple[Strip, ...]
    corners: Polygon
    inside: Point | None
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Limit:
    """A number that gamma is above or below, and the edges that it comes from."""

    gamma: Fraction
    why: str


def region(wanted: Sequence[tuple[int, int]], rounding: Rounding = "nearest") -> Region:
    """The region of (channels, kernel) pairs, within what the mapping's schema allows.

    Raises ValueError for what is no kernel size.
    """
    strips = tuple(strip(channels, kernel, rounding) for channels, kernel in wanted)
    because = _monotone(strips) or _contradiction(strips)
    corners = box()
    for each in strips:
        corners = each.cut(corners) if corners else ()
    assert bool(corners) != bool(because)
    return Region(strips, corners, _nice(corners, strips) if corners else None, because)


def _monotone(strips: Sequence[Strip]) -> tuple[str, ...]:
    """Why there is none, where more channels would get a smaller kernel."""
    for one, other in combinations(strips, 2):
        less, more = sorted((one, other), key=lambda s: s.channels)
        both = f"{less.low.why} and {more.low.why}"
        if less.channels == more.channels and less.kernel != more.kernel:
            return (f"{both}: equal channels get equal kernels",)
        if less.channels < more.channels and less.kernel > more.kernel:
            return (f"{both}: more channels never get a smaller kernel",)
    return ()


def _contradiction(strips: Sequence[Strip]) -> tuple[str, ...]:
    """Why there is none: b eliminated, two limits of gamma that exclude each other.

    Every lower edge has to be under every upper one, which makes a limit of gamma out of each pair
    (Fourier and Motzkin); the strips meet exactly if the greatest lower limit is below the least
    upper one.
    """
    lows = [*(s.low for s in strips), Edge(Fraction(0), B[0], True, 0, f"b >= {B[0]}")]
    highs = [*(s.high for s in strips), Edge(Fraction(0), B[1], True, 0, f"b <= {B[1]}")]
    above = [_Limit(GAMMA[0], f"the mapping allows gamma from {float(GAMMA[0]):g}")]
    below = [_Limit(GAMMA[1], f"the mapping allows gamma to {GAMMA[1]}")]
    for low in lows:
        for high in highs:
            slope, offset = high.slope - low.slope, low.offset - high.offset
            both = sorted((low, high), key=lambda edge: edge.channels)
            why = " and ".join(dict.fromkeys(edge.why for edge in both))
            if slope == 0 and offset >= 0:
                return (f"{why}: at no gamma",)
            if slope:
                side, sign = (above, ">") if slope > 0 else (below, "<")
                limit = offset / slope
                side.append(_Limit(limit, f"{why} need gamma {sign} {float(limit):.6g}"))
    low_limit = max(above, key=lambda limit: limit.gamma)
    high_limit = min(below, key=lambda limit: limit.gamma)
    if low_limit.gamma < high_limit.gamma:
        return ()
    return (low_limit.why, high_limit.why)


def _nice(corners: Polygon, strips: Sequence[Strip]) -> Point:
    """The point inside with the fewest decimals; of several, the nearest to the paper's."""
    left, right = min(x for x, _ in corners), max(x for x, _ in corners)
    for grid in GRIDS:
        found = list(_inside(left, right, strips, Fraction(1, grid)))
        if found:
            return min(found, key=lambda p: (p[0] - PAPER[0]) ** 2 + (p[1] - PAPER[1]) ** 2)
    middle = [sum(axis, Fraction(0)) / len(corners) for axis in zip(*corners, strict=True)]
    return middle[0], middle[1]


def _inside(
    left: Fraction, right: Fraction, strips: Sequence[Strip], step: Fraction
) -> Iterator[Point]:
    """For each multiple of ``step`` as gamma, that as b inside which is nearest to the paper's."""
    for n in range(math.floor(left / step) + 1, math.ceil(right / step)):
        gamma = n * step
        low = max(B[0], *(s.low.at(gamma) for s in strips))
        high = min(B[1], *(s.high.at(gamma) for s in strips))
        first, last = math.floor(low / step) + 1, math.ceil(high / step) - 1
        if first <= last:
            yield gamma, min(max(PAPER[1] / step, Fraction(first)), Fraction(last)) * step
