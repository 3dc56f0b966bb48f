"""How much hypervolume a network is expected to add when its costs are known and its worth is not.

The costs of a candidate are exact before it trains, so the gain depends on one unknown alone. With
worth w it is the integral, over the levels below w, of the volume of costs that the candidate would
be the first to reach at that level. That volume is constant between the levels of the front, so the
expectation over a normal w is a finite sum in closed form: no sampling, no box decomposition (for
unknown costs see Emmerich, Yang et al., "A multicriteria generalization of expected improvement and
its fast computation", 2016).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]


def expected_gain(
    mean: Array, deviation: Array, costs: Array, worth: Array, paid: Array, floor: float,
    ceiling: Array,
) -> Array:
    """Expected gain of each of n candidates, shape (n,).

    `mean` and `deviation` (n,) are those of the worth, which is to be large, `costs` (n, m) are to
    be small and known. `worth` (k,) and `paid` (k, m) are the known networks', `floor` is the worth
    and `ceiling` (m,) are the costs that hypervolume is measured from.
    """
    order = np.argsort(worth, kind="stable")
    worth, paid = worth[order], paid[order]
    inside = (worth > floor) & (paid < ceiling).all(axis=1)
    worth, paid = worth[inside], paid[inside]
    levels = np.concatenate([[floor], worth])
    above = excess(mean[:, None], deviation[:, None], levels[None, :])
    slices = above - np.concatenate([above[:, 1:], np.zeros((len(above), 1))], axis=1)
    gain = np.zeros(len(mean))
    for place in range(len(levels)):
        if place + 1 < len(levels) and levels[place] == levels[place + 1]:
            continue
        gain += slices[:, place] * free(costs, paid[place:], ceiling)
    return gain


def free(costs: Array, paid: Array, ceiling: Array) -> Array:
    """The volume between each of `costs` (n, m) and the ceiling that none of `paid` (k, m) reaches.

    By slices along the last cost.
    """
    dimensions = costs.shape[1]
    if dimensions == 0:
        return np.full(len(costs), 0.0 if len(paid) else 1.0)
    if dimensions == 1:
        lowest = min(float(paid.min()), float(ceiling[0])) if len(paid) else float(ceiling[0])
        return np.maximum(lowest - costs[:, 0], 0.0)
    order = np.argsort(paid[:, -1], kind="stable")
    paid = paid[order]
    edges = np.concatenate([[-np.inf], paid[:, -1], [ceiling[-1]]])
    own = costs[:, -1]
    lengths = np.maximum(edges[1:, None], own) - np.maximum(edges[:-1, None], own)
    if dimensions == 2:
        reached = np.concatenate([[ceiling[0]], np.minimum.accumulate(paid[:, 0])])
        wide = np.maximum(np.minimum(reached, ceiling[0])[:, None] - costs[:, 0], 0.0)
        return np.einsum("ij,ij->j", lengths, wide)
    total = np.zeros(len(costs))
    for place, length in enumerate(lengths):
        if length.any():
            total += length * free(costs[:, :-1], paid[:place, :-1], ceiling[:-1])
    return total


def excess(mean: Array, deviation: Array, level: Array) -> Array:
    """Expected part of a normal worth that lies above a level."""
    score = (mean - level) / deviation
    density = np.exp(-0.5 * score**2) / np.sqrt(2 * np.pi)
    above: Array = deviation * (density + score * special.ndtr(score))
    return np.maximum(above, 0.0)
