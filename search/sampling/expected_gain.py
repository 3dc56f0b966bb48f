"""How much hypervolume a network is expected to add when its costs are known and its worth is not.

The costs of a candidate are exact before it trains, so the gain depends on one unknown alone. With
worth w it is the integral, over the levels below w, of the volume of costs that the candidate would
be the first to reach at that level. That volume is constant between the levels of the front, so the
expectation over a normal w is a finite sum in closed form: no sampling, no boxes (for unknown costs
see Yang, Emmerich et al., "Efficient computation of expected hypervolume improvement using box
decomposition algorithms", 2019).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from search.sampling.warp import Warp

Array = NDArray[np.floating[Any]]
SIDES = 8
"""Points at which another objective that is only known after training is looked at."""
SHORT = 320
"""With two costs or more the gain is worked out for so many candidates, by one cost the best."""


def expected_gain(
    mean: Array,
    deviation: Array,
    costs: Array,
    worth: Array,
    paid: Array,
    ceiling: Array,
    warp: Warp,
) -> Array:
    """Expected gain of each of n candidates, shape (n,); everything is to be minimised.

    `mean` and `deviation` (n,) are those of the candidates' worth, warped; `costs` (n, m) are
    known. `worth` (k,) and `paid` (k, m) are those of the front. Hypervolume is measured from
    `ceiling` (1 + m,), worth first.
    """
    inside = (worth < ceiling[0]) & (paid < ceiling[1:]).all(axis=1)
    worth, paid = worth[inside], paid[inside]
    order = np.argsort(-worth, kind="stable")
    worth, paid = worth[order], paid[order]
    levels = np.concatenate([ceiling[:1], worth])
    warped = warp(levels)
    below = _excess(mean[:, None], deviation[:, None], warped[None, :])
    slices = below - np.concatenate([below[:, 1:], np.zeros((len(below), 1))], axis=1)
    steps = -np.diff(warped)
    wide = steps > 0
    slopes = np.append(np.divide(-np.diff(levels), steps, where=wide, out=np.zeros(len(steps))), 1)
    gain = np.zeros(len(mean))
    for place in np.flatnonzero(slopes):
        gain += slopes[place] * slices[:, place] * free(costs, paid[place:], ceiling[1:])
    return gain


def screened(
    mean: Array,
    deviation: Array,
    costs: Array,
    worth: Array,
    paid: Array,
    ceiling: Array,
    warp: Warp,
) -> Array:
    """The expected gain; 0 where by each cost alone it is far from the best."""
    if costs.shape[1] < 2 or len(mean) <= SHORT:
        return expected_gain(mean, deviation, costs, worth, paid, ceiling, warp)
    rough = np.zeros(len(mean))
    for one in range(costs.shape[1]):
        rough += expected_gain(
            mean, deviation, costs[:, [one]], worth, paid[:, [one]], ceiling[[0, 1 + one]], warp
        )
    short = np.argsort(-rough, kind="stable")[:SHORT]
    result = np.zeros(len(mean))
    result[short] = expected_gain(
        mean[short], deviation[short], costs[short], worth, paid, ceiling, warp
    )
    return result


def free(costs: Array, paid: Array, ceiling: Array) -> Array:
    """The volume between each of `costs` (n, m) and the ceiling that none of `paid` (k, m) reaches.

    By slices along the last cost; without costs it is 1 where nothing is known, else 0.
    """
    dimensions = costs.shape[1]
    if dimensions == 0:
        return np.full(len(costs), 0.0 if len(paid) else 1.0)
    if dimensions == 1:
        lowest = min(float(paid.min()), float(ceiling[0])) if len(paid) else float(ceiling[0])
        left: Array = np.maximum(lowest - costs[:, 0], 0.0)
        return left
    paid = paid[(paid < ceiling).all(axis=1)]
    paid = paid[np.argsort(paid[:, -1], kind="stable")]
    edges = np.concatenate([[-np.inf], paid[:, -1], ceiling[-1:]])
    own = np.minimum(costs[:, -1], ceiling[-1])
    lengths = np.maximum(edges[1:, None], own) - np.maximum(edges[:-1, None], own)
    if dimensions == 2:
        reached = np.concatenate([ceiling[:1], np.minimum.accumulate(paid[:, 0])])
        widths = np.maximum(reached[:, None] - costs[:, 0], 0.0)
        volume: Array = np.einsum("ij,ij->j", lengths, widths)
        return volume
    total = np.zeros(len(costs))
    for place, length in enumerate(lengths):
        if length.any():
            total += length * free(costs[:, :-1], paid[:place, :-1], ceiling[:-1])
    return total


def nodes(dimensions: int) -> Array:
    """Standard normal points that spread evenly, shape (SIDES, dimensions)."""
    bases = (2, 3, 5, 7, 11, 13)[:dimensions]
    places = [[corput(number + 1, base) for base in bases] for number in range(SIDES)]
    found: Array = special.ndtri(np.array(places))
    return found


def corput(number: int, base: int = 2) -> float:
    """The digits of a number behind the point: 1, 2, 3, 4 are 1/2, 1/4, 3/4, 1/8 in base 2."""
    result, share = 0.0, 1.0 / base
    while number:
        result += share * (number % base)
        number //= base
        share /= base
    return result


def _excess(mean: Array, deviation: Array, level: Array) -> Array:
    """Expected part of a normal value that lies below a level."""
    score = (level - mean) / deviation
    density = np.exp(-0.5 * score**2) / math.sqrt(2 * math.pi)
    below: Array = np.maximum(deviation * (density + score * special.ndtr(score)), 0.0)
    return below
