"""A comparison in words and tables: what it will train, and what it has told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from search import text
from search.comparison import comparing, statistics
from search.comparison.comparing import Plan, Same, Told
from search.comparison.statistics import Comparison
from spaces.errors import counted
from spaces.objectives import spoken

if TYPE_CHECKING:
    from search.study.study import Study


def plan(name: str, plan: Plan) -> Iterator[str]:
    """What a comparison will train and what that can tell, line by line."""
    blocks = f" at {counted(len(plan.strata), 'block')}" if len(plan.strata) > 1 else ""
    yield (
        f"{name}: {counted(len(plan.arms), 'arm')}{blocks}, {counted(plan.replicates, 'seed')}: "
        f"{counted(plan.networks, 'network')}, {counted(plan.trainings, 'training')} of "
        f"{counted(plan.epochs, 'epoch')}"
    )
    yield from (f"  {line}" for line in same(plan.same))
    yield f"  {significance(plan)}"
    if plan.smallest is None or plan.replicates < plan.smallest:
        yield (
            f"  so {counted(plan.replicates, 'seed')} can prove nothing, and would be refused, "
            "unless --anyway is given"
        )
    if plan.noise is None:
        yield (
            "  noise of one training: not known yet (no study here has repeated seeds on these "
            "images for as many epochs)"
        )
        if plan.sees_in_sd is not None:
            yield (
                f"  {counted(plan.replicates, 'seed')} would see a difference of "
                f"{plan.sees_in_sd:.2g} times that sd at 80 % power"
            )
    else:
        freedom = "degree" if plan.noise.df == 1 else "degrees"
        yield (
            f"  noise of one training: sd {100 * plan.noise.sd:.2f} points "
            f"({plan.noise.df} {freedom} of freedom, from {plan.noise.source})"
        )
        if plan.sees is not None:
            yield (
                f"  {counted(plan.replicates, 'seed')} would see a difference of "
                f"{100 * plan.sees:.2g} points at 80 % power"
            )
        needed = ", ".join(f"{100 * e:g}: {n:,}" for e, n in (plan.seeds or {}).items())
        if needed:
            yield f"  seeds to see one of so many points at 80 % power: {needed}"
        yield "  (what arms have in common may take off: seeds are shared, and not counted on)"
    if plan.hours is None:
        yield "  time: not known before a study here has trained on these images"
    else:
        yield f"  time: about {_hours(plan.hours)} of one worker (pace of {plan.paced})"


def significance(plan: Plan) -> str:
    """From how many seeds on a difference can be significant at all, for the pairs asked."""
    how = "(sign-flip test, Holm's correction)"
    if plan.smallest is None:
        return (
            f"{counted(len(plan.pairs), 'pair')}: no difference can be significant with any number "
            f"of seeds {how}: fewer pairs, as with --against, or a larger --alpha"
        )
    return (
        f"{counted(len(plan.pairs), 'pair')}: below {plan.smallest} seeds no difference can be "
        f"significant, however large {how}"
    )


def same(found: Sequence[Same]) -> Iterator[str]:
    """Which arms are one network, and so not trained twice."""
    for one in found:
        where = "" if one.everywhere else f" at {'; '.join(map(comparing.shown, one.strata))}"
        yield f"{one.arm} is {one.of}{where}: the same network, trained once"


def so_far(study: Study) -> Iterator[str]:
    """What a comparison has told, as it was said that it would be judged."""
    yield from told(study.name, comparing.told(study))


def told(name: str, told: Told | None) -> Iterator[str]:
    """Arms, then pairs with what each difference is worth."""
    if told is None:
        yield f"{name}: no block is complete, so there is nothing to compare"
        return
    found = told.comparison
    yield f"{name}: {told.metric} by arm"
    heading, *rows = arm_rows(found)
    yield text.columns(heading, rows, left=["arm"])
    yield from same(told.same)
    if found.pairs:
        yield ""
        heading, *rows = pair_rows(found)
        yield text.columns(heading, rows, left=["pair"])
        yield f"differences in points (0.01 of {spoken(told.metric)}); {_noise(found)}"
        yield ""
        yield from (statistics.sentence(pair, found.margin) for pair in found.pairs)
    yield from told.caveats


def arm_rows(found: Comparison) -> Iterator[list[str]]:
    """The heading, then a row an arm."""
    yield ["arm", "n", "mean", "sd"]
    for arm in found.arms:
        yield [arm.name, str(arm.n), f"{arm.mean:.4f}", "-" if arm.sd is None else f"{arm.sd:.4f}"]


def pair_rows(found: Comparison) -> Iterator[list[str]]:
    """The heading, then a row a pair; differences in points."""
    level = f"{100 * (1 - found.alpha):g} % interval"
    yield ["pair", "n", "difference", level, "p", "Holm"]
    for pair in found.pairs:
        yield [
            f"{pair.a} - {pair.b}",
            str(pair.n),
            statistics.signed(pair.difference),
            f"{statistics.signed(pair.low)} to {statistics.signed(pair.high)}"
            if pair.n > pair.strata
            else "unknown",
            _chance(pair.p),
            _chance(pair.p_holm),
        ]


def _noise(found: Comparison) -> str:
    noise = found.noise
    return "noise unknown" if noise is None else f"sd of one training {100 * noise:.2f}"


def _chance(p: float) -> str:
    return "<0.0001" if p < 1e-4 else f"{p:.4f}"


def _hours(hours: float) -> str:
    return counted(max(1, round(60 * hours)), "minute") if hours < 1 else f"{hours:.1f} hours"
