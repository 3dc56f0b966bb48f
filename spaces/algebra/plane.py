"""The (gamma, b) plane of a network's channel counts, cut into its networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from spaces.algebra.grid import Pair
from spaces.algebra.inverse import PAPER, region
from spaces.algebra.strips import (
    GAMMA,
    B,
    Point,
    Polygon,
    Rounding,
    box,
    clip,
    doublings,
    kernels,
    strip,
)

Window = tuple[Fraction, Fraction]
"""From and to, of gamma or of b."""
MARGIN = Fraction(1, 4)
MOST = 2000
"""Networks of one diagram."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One network: all (gamma, b) between ``corners`` give the channel counts these ``kernels``."""

    kernels: tuple[int, ...]
    corners: Polygon


@dataclass(frozen=True, slots=True)
class Mark:
    """A profile that people speak of; ``point`` is one of its (gamma, b), None where none is."""

    label: str
    kernels: tuple[int, ...]
    point: Point | None


@dataclass(frozen=True, slots=True)
class Plane:
    """What an equivalence diagram shows: the cells in a window of the plane, and what is marked."""

    title: str
    channels: tuple[int, ...]
    rounding: Rounding
    gamma: Window
    b: Window
    cells: tuple[Cell, ...]
    marks: tuple[Mark, ...]


def cells(channels: Sequence[int], rounding: Rounding, gamma: Window, b: Window) -> list[Cell]:
    """Every network that `log2` has in a window, the smallest kernels first.

    The window is cut along the edges of one channel count after the other; what would be thinner
    than a line is none. Raises ValueError where there are more than `MOST`.
    """
    least = -doublings(min(channels))
    window = clip(box(gamma, b), lambda p: p[1] - least)
    found: list[Cell] = [Cell((), window)] if window else []
    for count in channels:
        found = [
            Cell((*cell.kernels, kernel), part)
            for cell in found
            for kernel in kernels(cell.corners, count, rounding)
            if (part := strip(count, kernel, rounding).cut(cell.corners))
        ]
        if len(found) > MOST:
            got = f"got gamma from {float(gamma[0]):g}, b to {float(b[1]):g}"
            raise ValueError(f"more than {MOST:,} networks to draw ({got}; allowed: less wide)")
    return sorted(found, key=lambda cell: (sum(cell.kernels), cell.kernels))


def mark(label: str, channels: Sequence[int], profile: Sequence[int], rounding: Rounding) -> Mark:
    """A profile with a point of the plane that gives it, if there is one."""
    wanted = list(zip(channels, profile, strict=True))
    return Mark(label, tuple(profile), region(wanted, rounding).inside)


def window(pairs: Sequence[Pair], marks: Sequence[Mark]) -> tuple[Window, Window]:
    """The part of the plane with the pairs of a grid, the paper's point and every mark, and more.

    It stays within what the mapping's schema allows, whatever the grid.
    """
    points = [PAPER, *(mark.point for mark in marks if mark.point)]
    across = [*(_exact(gamma) for gamma, _ in pairs), *(gamma for gamma, _ in points)]
    upwards = [*(_exact(b) for _, b in pairs), *(b for _, b in points)]
    left = max(min(across) - MARGIN, min(across) / 2)
    gamma = (max(left, GAMMA[0]), min(max(across) + MARGIN, GAMMA[1]))
    return gamma, (max(min(upwards) - MARGIN, B[0]), min(max(upwards) + MARGIN, B[1]))


def _exact(number: float) -> Fraction:
    return Fraction(str(number))
