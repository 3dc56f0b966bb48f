"""Arms of a comparison over matched blocks: differences, tests, equivalence, and plain words.

What holds, and how well, at n seeds: simulated in `tests/search/test_statistics_calibration.py`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from search.comparison.paired import EXACT, Estimate, estimate, holm, sign_flip

Block: TypeAlias = tuple[Any, int]
"""A stratum, such as a width, and the number of a seed in it."""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm over all its blocks, complete or not; in accuracy, 0..1.

    `mean` weighs strata equally, `sd` is of one training, pooled within strata, None where no
    stratum has two seeds.
    """

    name: str
    n: int
    mean: float
    sd: float | None


@dataclass(frozen=True, slots=True)
class PairResult:
    """Arm `a` minus arm `b` over the `n` complete blocks; in accuracy, 0..1.

    `low` to `high` is the t interval of this pair alone at level 1 - alpha; no joint coverage of
    several pairs is claimed. `p` is of the sign-flip test, `exact` where all flips were taken;
    `p_holm` is corrected over all pairs tested. `significant`: at most alpha, and the interval has
    no 0 in it, so that one seed at many strata shows nothing. `equivalent`: two one-sided t tests
    at alpha, of this pair alone, both exclude a difference as large as the margin.
    """

    a: str
    b: str
    n: int
    strata: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    significant: bool
    equivalent: bool
    exact: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the blocks say. `noise` is the sd of one training, pooled over arms and strata.

    `noise_df` are its degrees of freedom (None and 0 without any); `dropped` are the blocks that
    some arm lacks, which no pair uses.
    """

    arms: tuple[ArmResult, ...]
    pairs: tuple[PairResult, ...]
    noise: float | None
    noise_df: int
    dropped: tuple[Block, ...]
    alpha: float
    margin: float


def compare(
    results: Mapping[str, Mapping[Block, float]],
    *,
    margin: float,
    alpha: float = 0.05,
    against: str | None = None,
    resolution: float = 0.0,
    same: Mapping[frozenset[str], Collection[Hashable]] | None = None,
) -> Comparison:
    """Every pair of arms, or every arm with `against`, over the blocks that all arms have.

    `results[arm][block]` is an accuracy or AP (0..1), `margin` the difference that would matter, in
    the same unit. `resolution` is the smallest step of an accuracy, 1 / number of images: they
    are never taken to be less noisy than counting images makes them (variance resolution^2 / 6),
    so that results that happen to be the same claim no certainty.

    What holds, by simulation with 3 to 20 seeds: under normal noise the 95 % interval covers 95 %,
    under heavy-tailed or skewed noise of one kind in both arms 95 to 97 %, and the sign-flip test
    keeps its level exactly. Where one arm's noise is skewed and the other's not, the test errs up
    to 5.3 % and the interval still covers 94 to 95 %, but misses mostly on one side, so that
    equivalence at alpha 0.05 errs up to 8 % there. No interval knows a collapse that its seeds did
    not meet: of an arm that collapses once in twenty trainings it covers the true mean 57 to 88 %.
    The sign-flip test asks whether arms are interchangeable in every stratum, the interval where
    the mean of the strata lies.

    `same` names the strata at which two arms are one network: their differences there are 0 without
    being measured, and say nothing of the others, so the pair goes by the rest of the strata.

    Raises ValueError on fewer than two arms, an unknown `against`, an accuracy that is NaN or
    outside 0..1, no complete block, a margin or alpha that is none.
    """
    _check(results, margin=margin, alpha=alpha, against=against)
    every = {block for scores in results.values() for block in scores}
    ordered = sorted(every, key=lambda block: (repr(block[0]), block[1]))
    complete = [block for block in ordered if all(block in arm for arm in results.values())]
    if not complete:
        raise ValueError(f"no block has a value of every arm: {', '.join(results)}")

    arms = [_arm(name, scores) for name, scores in results.items()]
    noise, noise_df = _noise(arms, results)
    names = list(results)
    tested = (
        list(combinations(names, 2))
        if against is None
        else [(name, against) for name in names if name != against]
    )
    told = []
    for a, b in tested:
        equal = (same or {}).get(frozenset({a, b}), ())
        if blocks := [block for block in complete if block[0] not in equal]:
            told.append(_pair(results, a, b, blocks, resolution))
    corrected = holm([one.p for one in told]) if told else np.empty(0)
    pairs = [
        _judged(one, float(p_holm), margin, alpha)
        for one, p_holm in zip(told, corrected, strict=True)
    ]
    dropped = tuple(block for block in ordered if block not in complete)
    return Comparison(tuple(arms), tuple(pairs), noise, noise_df, dropped, alpha, margin)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A pair before it is judged among the others."""

    a: str
    b: str
    blocks: list[Block]
    found: Estimate
    p: float


def _pair(
    results: Mapping[str, Mapping[Block, float]],
    a: str,
    b: str,
    blocks: list[Block],
    resolution: float,
) -> _Measured:
    differences = [results[a][block] - results[b][block] for block in blocks]
    strata = [stratum for stratum, _ in blocks]
    found = estimate(differences, strata, floor=resolution**2 / 6)
    return _Measured(a, b, blocks, found, float(sign_flip(differences, strata)))


def _judged(pair: _Measured, p_holm: float, margin: float, alpha: float) -> PairResult:
    low, high = pair.found.interval(1 - alpha)
    inner_low, inner_high = pair.found.interval(1 - 2 * alpha)
    return PairResult(
        a=pair.a,
        b=pair.b,
        n=len(pair.blocks),
        strata=len({stratum for stratum, _ in pair.blocks}),
        difference=float(pair.found.mean),
        low=float(low),
        high=float(high),
        p=pair.p,
        p_holm=p_holm,
        significant=bool(p_holm <= alpha and not low <= 0 <= high),
        equivalent=bool(-margin < inner_low and inner_high < margin),
        exact=len(pair.blocks) <= EXACT,
    )


def sentence(pair: PairResult, margin: float) -> str:
    """The pair in plain words, in percentage points, with its n.

    An arm is called better when it is significantly so.
    """
    seeds, rest = divmod(pair.n, pair.strata)
    size = f"{pair.n if rest else seeds} {'differences' if rest else 'seed' + 's' * (seeds != 1)}"
    size += f" at {pair.strata} blocks" * (pair.strata > 1)
    found = f"{points(abs(pair.difference))} points"
    if pair.significant:
        better, worse = (pair.a, pair.b) if pair.difference > 0 else (pair.b, pair.a)
        ends = sorted((abs(pair.low), abs(pair.high)))
        small = f", less than {points(margin)}" if pair.equivalent else ""
        return (
            f"{better} is better than {worse} by {found} "
            f"({points(ends[0])} to {points(ends[1])}){small}; {size}"
        )
    if pair.equivalent:
        return (
            f"no difference larger than {points(margin)} points between {pair.a} and {pair.b}; "
            f"{size}"
        )
    around = f" ({points(pair.low)} to {points(pair.high)})" if rest or seeds > 1 else ""
    return (
        f"undecided: {pair.a} minus {pair.b} is {points(pair.difference)} points{around}; "
        f"{size}, more needed"
    )


def points(accuracy: float) -> str:
    """A difference of accuracies (0..1) in percentage points, to a hundredth of one."""
    return f"{round(100 * accuracy, 2) + 0.0:g}"


def signed(accuracy: float) -> str:
    """A difference of accuracies (0..1) in percentage points as a table has it: `+0.65`."""
    return f"{100 * accuracy:+.2f}"


def _check(
    results: Mapping[str, Mapping[Block, float]],
    *,
    margin: float,
    alpha: float,
    against: str | None,
) -> None:
    if len(results) < 2:
        raise ValueError(f"a comparison needs two arms or more (got {len(results)})")
    if against is not None and against not in results:
        raise ValueError(f"no arm named {against!r}; there are: {', '.join(results)}")
    if not 0 < margin < math.inf:
        raise ValueError(f"a margin is a difference above 0 (got {margin})")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha lies between 0 and 0.5 (got {alpha})")
    for name, scores in results.items():
        for block, score in scores.items():
            if not 0 <= score <= 1:  # NaN too
                raise ValueError(f"a result lies in 0..1 (got {score} of {name} at {block})")


def _arm(name: str, scores: Mapping[Block, float]) -> ArmResult:
    found = estimate(list(scores.values()), [stratum for stratum, _ in scores])
    sd = float(found.sd) if found.df else None
    return ArmResult(name=name, n=len(scores), mean=float(found.mean), sd=sd)


def _noise(
    arms: list[ArmResult], results: Mapping[str, Mapping[Block, float]]
) -> tuple[float | None, int]:
    """The pooled sd of one training and its degrees of freedom."""
    squares, freedom = 0.0, 0
    for arm in arms:
        if arm.sd is not None:
            df = arm.n - len({stratum for stratum, _ in results[arm.name]})
            squares += df * arm.sd**2
            freedom += df
    return (math.sqrt(squares / freedom), freedom) if freedom else (None, 0)
