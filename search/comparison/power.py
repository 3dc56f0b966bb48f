"""How many seeds an effect needs, and what so many seeds can see: planning before training.

Effects and sd are in one unit, whichever; sd is of ONE training. A difference of two has
sd * sqrt(2): arms that share a seed share split and data order, which takes no variance off
different networks (measured ratio 0.996 on the 8,169 networks of NAS-Bench-201 with three seeds).
With several strata a block is a seed at one of them: divide a number of blocks by the strata.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from search.comparison.paired import EXACT, FLIPS, sign_flip

SIMULATED = 5_000
"""Comparisons simulated for one power: its standard error is at most 0.7 points."""
DRAWN = 30
"""Beyond so many differences no drawn flip changes nothing: one in 2^30 does, of 65,536."""
MANY = 32
"""Sign patterns that reject, from which on Student's t tells the power to a point or two."""


@cache
def least_p(n: int) -> float:
    """The least p that a sign-flip test of `n` differences can have, those of one sign.

    Of 2^n flips two are as far out. Above 16 differences 65,536 flips are drawn, and one is counted
    that was not (`paired.sign_flip`): 3.05e-5 however many there are, and somewhat more at 17 to 20
    or so, as the flip that changes nothing is then among those drawn.
    """
    if n <= EXACT:
        return float(2.0 ** (1 - n))
    return float(sign_flip(np.ones(n), [0] * n)) if n <= DRAWN else 2 / (FLIPS + 1)


def smallest_n(comparisons: int = 1, alpha: float = 0.05) -> int | None:
    """The fewest blocks at which a sign-flip test can be significant after Holm at all.

    Where the least p, times the number of comparisons, is alpha or less: 6 for one comparison at
    0.05, so that five seeds can never be significant. None where no number is enough, as for 1,639
    comparisons at 0.05.
    """
    _check(comparisons=comparisons, alpha=alpha)
    return next((n for n in range(1, EXACT + 2) if comparisons * least_p(n) <= alpha), None)


def power_at(
    n: int, effect: float, sd: float, *, alpha: float = 0.05, comparisons: int = 1
) -> float:
    """The chance that `n` blocks show an arm better by `effect` as significantly better.

    For Holm's hardest step, alpha / comparisons, so a lower bound with several. The level is the
    one the sign-flip test attains, at most that. Where fewer than 32 sign patterns reject, the test
    loses to Student's (at six blocks 73 % where the noncentral t says 80 %), so it is simulated,
    always with the same noise; above, the noncentral t holds. Beyond 16 blocks, where flips are
    drawn, it is taken to hold at the level that so many flips can tell.
    """
    _check(comparisons=comparisons, alpha=alpha, effect=effect, sd=sd)
    if comparisons * least_p(n) > alpha:
        return 0.0
    if sd == 0:
        return 1.0
    shift = effect / (sd * math.sqrt(2))
    half = 2.0 ** (n - 1) if n <= EXACT else (FLIPS + 1) / 2  # p is a multiple of 1 / half
    patterns = math.floor(half * alpha / comparisons + 1e-9)
    if patterns < MANY and n <= EXACT:
        return _simulated(n, shift, patterns)
    bar = stats.t.isf(patterns / half / 2, n - 1)
    return float(stats.nct.sf(bar, n - 1, shift * math.sqrt(n)))


def seeds_needed(
    effect: float, sd: float, *, power: float = 0.8, alpha: float = 0.05, comparisons: int = 1
) -> int | None:
    """The fewest blocks per arm that show `effect` with the given power; at least `smallest_n`.

    None where so many comparisons can never be significant.
    """
    _check(comparisons=comparisons, alpha=alpha, effect=effect, sd=sd, power=power)
    least = smallest_n(comparisons, alpha)
    if least is None:
        return None
    reach = stats.norm.isf(alpha / comparisons / 2) + stats.norm.ppf(power)
    known_sd = math.floor(2 * (reach * sd / effect) ** 2)  # fewer never do
    n: int = max(least, known_sd)
    while power_at(n, effect, sd, alpha=alpha, comparisons=comparisons) < power:
        n += 1
    return n


def detectable(
    n: int, sd: float, *, power: float = 0.8, alpha: float = 0.05, comparisons: int = 1
) -> float | None:
    """The smallest effect that `n` blocks show with the given power; None where none can be shown.

    That is below `smallest_n`.
    """
    _check(comparisons=comparisons, alpha=alpha, sd=sd, power=power)
    if comparisons * least_p(n) > alpha:
        return None
    if sd == 0:
        return 0.0

    def excess(effect: float) -> float:
        return power_at(n, effect, sd, alpha=alpha, comparisons=comparisons) - power

    high = sd
    while excess(high) < 0:
        high *= 2
    return float(optimize.brentq(excess, sd * 1e-6, high, xtol=sd * 1e-4))


def _simulated(n: int, shift: float, patterns: int) -> float:
    """How often the sum of n normal differences, each `shift` sd above 0, is among the `patterns`
    largest of its flips. Half of the flips do: the other half are their mirror images.
    """
    noise = np.random.default_rng(0).standard_normal((SIMULATED, n)) + shift
    observed = noise.sum(axis=1)
    as_far = np.zeros(SIMULATED, dtype=np.int64)
    for signs in _signs(n):
        as_far += (np.abs(noise @ signs.T) >= observed[:, None] - 1e-9).sum(axis=1)
    return float(np.mean((observed > 0) & (as_far <= patterns)))


def _signs(n: int) -> Iterator[NDArray[np.float64]]:
    """The 2^(n - 1) ways to sign n values, the last one kept, (512, n) or fewer at a time."""
    for start in range(0, 2 ** (n - 1), 512):
        numbers = np.arange(start, min(start + 512, 2 ** (n - 1)))
        yield np.where(numbers[:, None] >> np.arange(n) & 1, -1.0, 1.0)


def _check(
    *,
    comparisons: int = 1,
    alpha: float = 0.05,
    effect: float = 1.0,
    sd: float = 1.0,
    power: float = 0.8,
) -> None:
    if comparisons < 1:
        raise ValueError(f"there is one comparison or more (got {comparisons})")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha lies between 0 and 0.5 (got {alpha})")
    if not 0 < effect < math.inf:
        raise ValueError(f"an effect is a difference above 0 (got {effect})")
    if not 0 <= sd < math.inf:
        raise ValueError(f"a standard deviation is 0 or more (got {sd})")
    if not alpha < power < 1:
        raise ValueError(f"a power lies between alpha and 1 (got {power})")
