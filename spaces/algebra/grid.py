"""Which pairs of a grid of gamma and b are one network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spaces.algebra.strips import Rounding
from spaces.errors import VariantError
from spaces.mappings.log2 import mapping

Pair = tuple[float, float]
"""(gamma, b)."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The networks of a grid, by their kernels, smallest first, and the pairs that give none.

    ``refused`` holds why.
    """

    networks: dict[tuple[int, ...], list[Pair]]
    refused: dict[Pair, str]


def grid(
    channels: Sequence[int], rounding: Rounding, gammas: Sequence[float], shifts: Sequence[float]
) -> Grid:
    """What `log2` gives the channel counts at every gamma with every b."""
    networks: dict[tuple[int, ...], list[Pair]] = {}
    refused: dict[Pair, str] = {}
    for pair in ((gamma, b) for gamma in gammas for b in shifts):
        try:
            kernels = tuple(
                mapping(c, gamma=pair[0], b=pair[1], rounding=rounding) for c in channels
            )
        except VariantError as error:
            refused[pair] = error.message
        except ValueError as error:
            refused[pair] = str(error)
        else:
            networks.setdefault(kernels, []).append(pair)
    return Grid(dict(sorted(networks.items())), refused)
