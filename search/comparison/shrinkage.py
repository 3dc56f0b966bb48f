"""What a search promised against what confirmation found: shrinkage, and whether ranks held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from search.comparison.paired import estimate


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """Search minus confirmed, the mean over `n` networks with its t interval; in accuracy, 0..1.

    Above 0 where the search chose its winners partly by luck. The interval takes networks as
    drawn independently; of one network it is the whole range, -1 to 1.
    """

    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Spearman's rho and Kendall's tau-b over `n` networks; None below two, or where all tie."""

    n: int
    spearman: float | None
    kendall: float | None


def shrinkage(
    searched: Sequence[float], confirmed: Sequence[float], *, alpha: float = 0.05
) -> Shrinkage:
    """How much less was confirmed than the search had said, network by network (accuracy, 0..1).

    Raises ValueError on no networks, lists of two lengths, and what is not finite.
    """
    before, after = _pair(searched, confirmed)
    if not len(before):
        raise ValueError("no network was confirmed")
    found = estimate(before - after, [0] * len(before))
    low, high = found.interval(1 - alpha)
    return Shrinkage(len(before), float(found.mean), float(low), float(high))


def rank_correlation(short: Sequence[float], full: Sequence[float]) -> RankCorrelation:
    """Whether the short schedule orders networks as the full one does; ties share their rank.

    Raises ValueError on lists of two lengths, and on what is not finite.
    """
    before, after = _pair(short, full)
    n = len(before)
    if n < 2 or not np.ptp(before) or not np.ptp(after):
        return RankCorrelation(n, None, None)
    return RankCorrelation(
        n,
        float(stats.spearmanr(before, after).statistic),
        float(stats.kendalltau(before, after).statistic),
    )


def _pair(
    first: Sequence[float], second: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(first) != len(second):
        raise ValueError(f"every network needs both values (got {len(first)} and {len(second)})")
    pair = np.array([first, second], dtype=np.float64)
    if not np.isfinite(pair).all():
        raise ValueError("an accuracy is a finite number (got NaN or infinity)")
    return pair[0], pair[1]
