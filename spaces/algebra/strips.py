"""The strip of the (gamma, b) plane in which the paper's mapping gives one kernel, exactly.

Numbers are rationals: log2 of a channel count is taken as `spaces.mappings.log2` takes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from spaces.kernels import MAX_KERNEL_SIZE, checked

Rounding = Literal["nearest", "nearest_down", "floor", "ceil"]
Point = tuple[Fraction, Fraction]
"""(gamma, b)."""
Polygon = tuple[Point, ...]
"""Corners of a convex polygon in order; none where nothing is left of it."""

GAMMA = (Fraction(1, 10), Fraction(100))
B = (Fraction(-64), Fraction(64))
"""What the mapping's schema allows of either."""

_BEGINS: dict[Rounding, tuple[int, bool]] = {
    "nearest": (0, True),
    "nearest_down": (0, False),
    "floor": (1, True),
    "ceil": (-1, False),
}
"""Rounding -> (d, closed): k is 2m + 1 or more from t = 2m + d on, with t itself or without."""


@dataclass(frozen=True, slots=True)
class Edge:
    """The line b = slope * gamma + offset on which a kernel of ``channels`` begins or ends.

    ``closed`` says whether the line itself belongs to the strip, ``why`` whose edge it is.
    """

    slope: Fraction
    offset: Fraction
    closed: bool
    channels: int
    why: str

    def at(self, gamma: Fraction) -> Fraction:
        """The edge's b at a gamma."""
        return self.slope * gamma + self.offset


@dataclass(frozen=True, slots=True)
class Strip:
    """Where ``channels`` channels get ``kernel``: above ``low`` and below ``high``."""

    channels: int
    kernel: int
    low: Edge
    high: Edge

    def holds(self, point: Point) -> bool:
        """Whether a point lies in the strip."""
        above = point[1] - self.low.at(point[0])
        below = self.high.at(point[0]) - point[1]
        return (above >= 0 if self.low.closed else above > 0) and (
            below >= 0 if self.high.closed else below > 0
        )

    def cut(self, polygon: Polygon) -> Polygon:
        """What lies inside the strip of a convex polygon."""
        above = clip(polygon, lambda p: p[1] - self.low.at(p[0]))
        return clip(above, lambda p: self.high.at(p[0]) - p[1])


def doublings(channels: int) -> Fraction:
    """log2 of a channel count."""
    power = channels.bit_length() - 1
    return Fraction(power if channels == 1 << power else math.log2(channels))


def strip(channels: int, kernel: int, rounding: Rounding) -> Strip:
    """Where `log2` gives a kernel to a channel count.

    (2m + d) gamma - log2 C <= b < (2m + 2 + d) gamma - log2 C for k = 2m + 1, with < and <= for the
    roundings that take ties down; k = 1 begins at b = -log2 C, below which the mapping is not
    defined. Raises ValueError for what is no kernel size.
    """
    d, closed = _BEGINS[rounding]
    m, offset = checked(kernel) // 2, -doublings(channels)
    whose = (channels, f"k({channels})={kernel}")
    low = Edge(Fraction(2 * m + d), offset, closed, *whose)
    if m == 0:
        low = Edge(Fraction(0), offset, True, *whose)
    return Strip(channels, kernel, low, Edge(Fraction(2 * m + 2 + d), offset, not closed, *whose))


def kernels(polygon: Polygon, channels: int, rounding: Rounding) -> range:
    """All kernels that the points of a polygon give a channel count, and perhaps one more.

    t = (log2 C + b) / gamma is least and greatest at corners.
    """
    d, _ = _BEGINS[rounding]
    ts = [(doublings(channels) + b) / gamma for gamma, b in polygon]
    first, last = (max(0, math.floor((t - d) / 2)) for t in (min(ts), max(ts)))
    return range(2 * first + 1, min(2 * last + 1, MAX_KERNEL_SIZE) + 1, 2)


def box(gamma: tuple[Fraction, Fraction] = GAMMA, b: tuple[Fraction, Fraction] = B) -> Polygon:
    """The rectangle of the plane between two gammas and two b."""
    return ((gamma[0], b[0]), (gamma[1], b[0]), (gamma[1], b[1]), (gamma[0], b[1]))


def clip(polygon: Polygon, height: Callable[[Point], Fraction]) -> Polygon:
    """The part of a convex polygon where a linear ``height`` is not negative, if it has an area."""
    corners: list[Point] = []
    for here, after in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        h, g = height(here), height(after)
        if h >= 0:
            corners.append(here)
        if h * g < 0:
            share = h / (h - g)
            x, y = (p + share * (q - p) for p, q in zip(here, after, strict=True))
            corners.append((x, y))
    return tuple(corners) if len(corners) > 2 and any(height(p) > 0 for p in corners) else ()
