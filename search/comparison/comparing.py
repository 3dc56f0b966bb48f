"""A comparison of arms: what it will train and what that can tell, and what it has told.

The arms of a space with `arms` are trained at every block with the same seeds; a pair of arms is
compared by its differences block by block and seed by seed (`search.comparison.statistics`). Where
two arms build and train the same they are one, and nothing is trained twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from search.study.precedents import Noise, Precedents
from spaces import Config, Space, SpaceError, arms
from spaces.errors import Problem, counted, listed, nearest
from spaces.objectives import FEW, USUAL, shared, tasks

if TYPE_CHECKING:
    from search.comparison.statistics import Comparison
    from search.study.proposing import Examine
    from search.study.study import Study
    from search.trial import Trial

Stratum = tuple[tuple[str, Any], ...]
"""One value of every block: (("backbone.width", 0.5),)."""
EFFECTS = (0.001, 0.002, 0.003, 0.005)
"""Differences of accuracy, or AP, that a plan says the seeds for: 0.1 to 0.5 points."""
TWO = 2
"""Seeds below which nothing tells noise from effect, however many blocks there are."""
WANTED = 0.8
"""The power that a plan says the seeds for."""


@dataclass(frozen=True, slots=True)
class Same:
    """Two arms that build and train the same network, at these blocks or at all of them."""

    arm: str
    of: str
    strata: tuple[Stratum, ...]
    everywhere: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a comparison will train, known before anything does.

    `smallest` are the seeds below which no pair can be significant, None where no number is
    enough for so many pairs. `seeds` has for each effect the seeds that it needs, and `sees` is the
    smallest effect that those asked for see at 80 % power (None: none): both None where no noise is
    known; `sees_in_sd` is that effect in standard deviations of one training. `hours` are those of
    one worker, however many GPUs it has, None where no pace is known. Where arms are equal at some
    blocks, all of this is of the pair that differs at the fewest.
    """

    arms: tuple[str, ...]
    strata: tuple[Stratum, ...]
    replicates: int
    networks: int
    epochs: int
    same: tuple[Same, ...]
    pairs: tuple[tuple[str, str], ...]
    smallest: int | None
    noise: Noise | None
    seeds: Mapping[float, int] | None
    sees: float | None
    sees_in_sd: float | None
    hours: float | None
    paced: str | None

    @property
    def trainings(self) -> int:
        """How many trainings there are in all."""
        return self.networks * self.replicates


def plan(
    space: Space,
    examine: Examine,
    known: Precedents,
) -> Plan:
    """What a comparison will train and tell; trains nothing.

    Raises SpaceError where there is nothing to compare: one arm, or arms that are all the same.
    """
    from search.comparison import power

    alpha = space.search.compare.alpha
    found = {
        (arm, block): examine(values)
        for values in space.settings()
        if (arm := arms.of(values)) is not None and (block := arms.block(values)) is not None
    }
    names = list(dict.fromkeys(arm for arm, _ in found))
    strata = tuple(dict.fromkeys(block for _, block in found))
    keys = {place: candidate.key for place, candidate in found.items()}
    same = tuple(_same(names, strata, keys))
    pairs = tuple(compared(names, same, space.search.compare.against))
    if not pairs:
        said = "one arm" if len(names) < 2 else "every arm builds and trains the same network"
        raise SpaceError([Problem(None, "arms", f"nothing to compare: {said}")])
    metric = space_metric(space)
    configs = {candidate.key: candidate for candidate in found.values()}
    epochs = max(c.config["training"]["epochs"] for c in configs.values())
    noise = known.noise(metric, epochs)
    pace = known.pace()
    apart = min(_apart(pair, same, strata) for pair in pairs)
    smallest = power.smallest_n(len(pairs), alpha)
    wanted: dict[str, Any] = {"power": WANTED, "alpha": alpha, "comparisons": len(pairs)}
    return Plan(
        arms=tuple(names),
        strata=strata,
        replicates=space.search.replicates,
        networks=len(configs),
        epochs=epochs,
        same=same,
        pairs=pairs,
        smallest=smallest and max(TWO, math.ceil(smallest / apart)),
        noise=noise,
        seeds=None
        if noise is None or smallest is None
        else {
            effect: math.ceil(blocks / apart)
            for effect in EFFECTS
            if (blocks := power.seeds_needed(effect, noise.sd, **wanted)) is not None
        },
        sees=None
        if noise is None or space.search.replicates < TWO
        else power.detectable(space.search.replicates * apart, noise.sd, **wanted),
        sees_in_sd=None
        if space.search.replicates < TWO
        else power.detectable(space.search.replicates * apart, 1.0, **wanted),
        hours=None
        if pace is None
        else sum(
            pace.seconds(c.costs["macs"]) * c.config["training"]["epochs"] for c in configs.values()
        )
        * space.search.replicates
        / 3600,
        paced=None if pace is None else pace.source,
    )


def space_metric(space: Space) -> str:
    """The accuracy or AP that arms are compared by. Raises SpaceError where another comes first."""
    from search.front.pareto import judged

    metric = judged(space.search.objectives)
    if metric is None or space.search.objectives[metric].goal != "max":
        own = shared(tasks(space.tree) or USUAL)
        best = [f"{space.search.judge}_{name}" for name, goal in own.items() if goal == "max"]
        said = "arms are compared by what goes up, as an accuracy does"
        said += f" (allowed: one before any other objective, of {listed(best, FEW)})"
        raise SpaceError([space.problem("search.objectives", said)])
    return metric


def compared(
    names: list[str], same: tuple[Same, ...], against: str | None
) -> Iterator[tuple[str, str]]:
    """The pairs of arms that differ somewhere: all, or each arm against one.

    An arm that is another everywhere goes by that one's name.
    """
    aliases = {one.arm: one.of for one in same if one.everywhere}
    distinct = [name for name in names if name not in aliases]
    if against is None:
        yield from combinations(distinct, 2)
        return
    against = aliases.get(against, against)
    yield from ((name, against) for name in distinct if name != against)


@dataclass(frozen=True, slots=True)
class Told:
    """What a comparison has told: `comparison` over the arms that are different networks.

    `caveats` are what a reader must know before believing it.
    """

    metric: str
    comparison: Comparison
    same: tuple[Same, ...]
    strata: tuple[Stratum, ...]
    caveats: tuple[str, ...]


def told(
    study: Study,
    *,
    margin: float | None = None,
    alpha: float | None = None,
    against: str | None = None,
) -> Told | None:
    """What a study with arms has told so far; None before one block is complete.

    Margin, alpha and the arm to compare against are those that the study was started with, unless
    others are given, which is said. Raises SpaceError for a study that compares nothing.
    """
    from search.comparison import statistics

    if study.space.arms is None:
        said = "it has no arms (allowed: what `eca-search compare` has made)"
        raise SpaceError([Problem(None, study.name, said)])
    planned = study.space.search.compare
    same = sames(study)
    aliases = {one.arm: one.of for one in same if one.everywhere}
    against = against or planned.against
    known = results(study)
    if not shares(known):
        said = f"{study.judged} is no share of 1 (allowed: results of 0..1, which points are of)"
        raise SpaceError([Problem(None, "search.objectives", said)])
    if against is not None and against not in known:
        said = f"no such arm{nearest(against, list(known))} (there are: {listed(known)})"
        raise SpaceError([Problem(None, "against", said)])
    found = {arm: values for arm, values in known.items() if values and arm not in aliases}
    complete = set.intersection(*map(set, found.values())) if found else set()
    if len(found) < 2 or not complete or (against and aliases.get(against, against) not in found):
        return None
    comparison = statistics.compare(
        found,
        margin=margin or planned.margin,
        alpha=alpha or planned.alpha,
        against=aliases.get(against, against) if against else None,
        resolution=resolution(study),
        same={frozenset({one.arm, one.of}): frozenset(one.strata) for one in same},
    )
    strata = tuple(dict.fromkeys(arms.block(values) for values in study.space.settings()))
    lost = [arm for arm in known if arm not in found and arm not in aliases]
    other = aliases.get(against, against) if against else None
    before = aliases.get(planned.against, planned.against) if planned.against else None
    caveats = tuple(_caveats(study, comparison, lost, None if other == before else against))
    return Told(space_metric(study.space), comparison, same, strata, caveats)


def shares(found: Mapping[str, Mapping[Any, float]]) -> bool:
    """Whether all results lie in 0..1: what people's own tasks report may be anything."""
    return all(0 <= value <= 1 for values in found.values() for value in values.values())


def resolution(study: Study) -> float:
    """The smallest step of an accuracy: one of the images that judge; 0 where none counted them.

    An AP has smaller steps and no smallest one: it is taken to be as coarse, to be safe.
    """
    told = (trial.images for trial in study.trials if trial.images is not None)
    counted = next(told, None) or images(study.trials[0])
    return 1 / counted[1] if counted and counted[1] else 0.0


def images(trial: Trial) -> tuple[int, int] | None:
    """How many images train a trial and how many judge it, as its workers have counted them.

    Where none has said so, as in journals of earlier releases, how many train and how many are held
    out, by what the dataset says of itself; None where that is nothing.
    """
    from trainers.network import describe

    if trial.images is not None:
        return trial.images
    config = Config.model_validate(trial.config)
    known = config.dataset.subset or describe(config).images
    if not known:
        return None
    judging = round(config.dataset.val * known)
    return known - judging, judging


def _caveats(
    study: Study, found: Comparison, lost: list[str], against: str | None
) -> Iterator[str]:
    """What a reader must know before believing it.

    `lost` are arms without a result, `against` is the arm to compare with where it was chosen
    afterwards.
    """
    planned = study.space.search.compare
    if lost:
        yield (
            f"left out, as no seed of it has a result: {', '.join(lost)}; p is corrected for "
            f"{counted(len(found.pairs), 'pair')}, fewer than were planned"
        )
    if against is not None:
        chosen = "as was chosen afterwards: fewer pairs are corrected for"
        yield f"compared with {against} alone, {chosen}"
    if "forked" in study.history.study:
        yield "begun from results that had been seen: the error rate is above alpha"
    if not study.history.ended:
        yield "not finished: what a look in between shows is no test result"
    if found.dropped:
        blocks = counted(len(found.dropped), "block")
        yield f"{blocks} left out of the tests: some arm has no result there"
    if (found.margin, found.alpha) != (planned.margin, planned.alpha):
        yield (
            f"margin and alpha were said to be {planned.margin:g} and {planned.alpha:g} before it "
            "began: others, chosen afterwards, prove less"
        )
    if any("search.replicates" in changes for changes in study.history.edits):
        yield "seeds were added after results were seen: the error rate is above alpha"


def results(study: Study) -> dict[str, dict[tuple[Stratum, int], float]]:
    """The last epoch's value of every finished seed: arm -> (stratum, seed) -> value.

    An arm that was answered from another's trial has that one's values.
    """
    metric = space_metric(study.space)
    found: dict[str, dict[tuple[Stratum, int], float]] = {}
    for values in study.space.settings():
        found.setdefault(str(arms.of(values)), {})
    for trial in study.trials:
        finals = {
            replicate.number: replicate.curve[-1][metric]
            for replicate in trial.replicates
            if replicate.outcome == "finished"
        }
        for values in (trial.values, *(alias["values"] for alias in trial.aliases)):
            told = found[str(arms.of(values))]
            told.update({(arms.block(values), seed): value for seed, value in finals.items()})
    return found


def sames(study: Study) -> tuple[Same, ...]:
    """Which arms are the same network, as the journal tells."""
    keys: dict[tuple[str, Stratum], str] = {}
    for trial in study.trials:
        for values in (trial.values, *(alias["values"] for alias in trial.aliases)):
            keys[str(arms.of(values)), arms.block(values)] = trial.key
    settings = list(study.space.settings())
    names = list(dict.fromkeys(str(arms.of(values)) for values in settings))
    strata = tuple(dict.fromkeys(arms.block(values) for values in settings))
    return tuple(_same(names, strata, keys))


def shown(stratum: Stratum) -> str:
    """A stratum in words: `backbone.width=0.5`."""
    return ", ".join(f"{name}={value}" for name, value in stratum)


def _same(
    names: list[str], strata: tuple[Stratum, ...], keys: Mapping[tuple[str, Stratum], str]
) -> Iterator[Same]:
    """Each arm with the earlier arms that it is, at some blocks or at all."""
    for later, name in enumerate(names):
        for earlier in names[:later]:
            equal = tuple(
                s for s in strata if (name, s) in keys and keys[name, s] == keys.get((earlier, s))
            )
            if equal:
                yield Same(name, earlier, equal, len(equal) == len(strata))
            if len(equal) == len(strata):
                break  # what else it is, the earlier one is too


def _apart(pair: tuple[str, str], same: tuple[Same, ...], strata: tuple[Stratum, ...]) -> int:
    """At how many blocks the two differ."""
    equal = next((one.strata for one in same if {one.arm, one.of} == set(pair)), ())
    return len(strata) - len(equal)
