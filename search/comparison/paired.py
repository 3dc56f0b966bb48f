"""Matched differences: their mean with an interval, the sign-flip test, and Holm's correction.

Everything works on the last axis and along any axes before it, so that a simulation of thousands
of comparisons is one call. A block is a stratum (say, a width) and a seed; a difference is that of
two accuracies (0..1) in one block.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

EXACT = 16
"""Up to so many blocks the sign-flip test takes every flip, and its p is exact."""
FLIPS = 2**EXACT
"""Beyond, so many flips are drawn at random."""
DECIMALS = 12
"""Accuracies are counts over counts; means that differ later than this are equal, and tie."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean over strata, each stratum weighing the same, with what its interval needs.

    `mean` and `sd` have the shape of the values without their last axis; `sd` is of one value
    within its stratum, NaN without degrees of freedom; `scale * sd` is the mean's standard error.
    """

    mean: Floats
    sd: Floats
    scale: float
    df: int

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """Student's interval, within [-1, 1], where a difference of accuracies lies anyway.

        It is that whole range when there is one seed a stratum: nothing tells noise from effect.
        """
        if self.df == 0:
            return np.full_like(self.mean, -1.0), np.full_like(self.mean, 1.0)
        reach = stats.t.ppf((1 + level) / 2, self.df) * self.scale * self.sd
        return np.clip(self.mean - reach, -1, 1), np.clip(self.mean + reach, -1, 1)


def estimate(values: ArrayLike, strata: Sequence[Hashable], *, floor: float = 0.0) -> Estimate:
    """The mean of `values` (..., n), where value i belongs to stratum `strata[i]`.

    Strata are fixed effects: the mean is that of stratum means, the variance is pooled within
    strata and at least `floor`, df = n - number of strata. With one stratum: a one-sample t.
    """
    rows = np.asarray(values, dtype=np.float64)
    member = _member(strata)
    counts = member.sum(axis=0)
    means = rows @ member / counts
    df = len(strata) - len(counts)
    residual = ((rows - means @ member.T) ** 2).sum(axis=-1)
    variance = np.maximum(residual / df, floor) if df else np.full(rows.shape[:-1], np.nan)
    return Estimate(
        mean=means.mean(axis=-1),
        sd=np.sqrt(variance),
        scale=float(np.sqrt((1 / counts).sum()) / len(counts)),
        df=df,
    )


def sign_flip(differences: ArrayLike, strata: Sequence[Hashable]) -> Floats:
    """Two-sided p of the sign-flip permutation test of `differences` (..., n), shape (...).

    The null is that the two arms are interchangeable in every block; the statistic is the mean of
    stratum means. Exact whatever the noise, as long as both arms have the same kind of it (Good,
    Permutation, Parametric and Bootstrap Tests, 3rd ed. 2005, section 3.2). Beyond 16 blocks
    65,536 flips are drawn, always the same ones, and counted with the +1 of Phipson and Smyth
    (2010), which keeps the test valid.
    """
    rows = np.asarray(differences, dtype=np.float64)
    if rows.shape[-1] == 1:  # its two flips are equally far out
        return np.ones(rows.shape[:-1])
    member = _member(strata)
    counts = member.sum(axis=0)
    weights = member @ (1 / counts) / len(counts)

    def mean(flipped: Floats, axis: int) -> Floats:
        return np.asarray(np.moveaxis(flipped, axis, -1) @ weights).round(DECIMALS)

    tested = stats.permutation_test(
        (rows,),
        mean,
        permutation_type="samples",
        vectorized=True,
        axis=-1,
        n_resamples=FLIPS,
        batch=max(1, 2**20 // rows.size),
        rng=np.random.default_rng(0),
    )
    return np.asarray(tested.pvalue, dtype=np.float64)


def holm(p: ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values (1979) along the last axis, in the order of `p`.

    One below alpha is significant with the family-wise error rate at most alpha.
    """
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, axis=-1, kind="stable")
    steps = np.arange(raw.shape[-1], 0, -1)
    ascending = np.minimum(np.take_along_axis(raw, order, axis=-1) * steps, 1.0)
    adjusted = np.empty_like(raw)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(ascending, axis=-1), axis=-1)
    return adjusted


def _member(strata: Sequence[Hashable]) -> Floats:
    """1 where value i belongs to stratum s, else 0; shape (n, number of strata)."""
    column = {stratum: index for index, stratum in enumerate(dict.fromkeys(strata))}
    return np.eye(len(column))[[column[stratum] for stratum in strata]]
