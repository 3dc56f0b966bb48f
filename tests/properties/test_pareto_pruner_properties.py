"""What the ParetoPruner promises, for any rivals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.pruning import Pruning
from search.pruning.pareto_pruner import ENOUGH, ParetoPruner, Verdict

COSTS = {"params": 0.01, "macs": 0.01}


@dataclass(frozen=True)
class Rival:
    """A trial at rung 1: its accuracy and its costs."""

    accuracy: float
    params: float
    macs: float

    def dominates(self, other: Rival) -> bool:
        """Nowhere worse and somewhere better, by more than a band in each cost."""
        return (
            self.accuracy > other.accuracy
            and self.params * 1.02 < other.params
            and self.macs * 1.02 < other.macs
        )


# Few distinct values, so that ties of every kind are common; costs are bands apart.
accuracies = st.integers(0, 6).map(lambda tenth: tenth / 10)
sizes = st.integers(1, 5).map(lambda power: 2.0**power)
rivals = st.builds(Rival, accuracies, sizes, sizes)
fields = st.lists(rivals, max_size=14)
factors = st.integers(2, 5)


def frozen(rival: Rival, state: TrialState = TrialState.PRUNED) -> FrozenTrial:
    """The rival as Optuna stores it."""
    return create_trial(
        state=state,
        value=rival.accuracy if state == TrialState.COMPLETE else None,
        intermediate_values={1: rival.accuracy},
        user_attrs={"params": rival.params, "macs": rival.macs},
    )


Goal = Literal["maximize", "minimize"]


def verdict(own: Rival, others: list[Rival], factor: int = 3, goal: Goal = "maximize") -> Verdict:
    """The trial `own` judged among `others`, and among the cheapest and worst of all, `ENOUGH` of
    them, which have gone further and have nothing to come back from.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=goal)
    low = -2.0 if goal == "maximize" else 2.0
    for _ in range(ENOUGH):
        study.add_trial(
            create_trial(
                value=low,
                intermediate_values={1: low, 2: low},
                user_attrs={"params": 0.0001, "macs": 0.0001},
            )
        )
    for other in others:
        study.add_trial(frozen(other))
    study.add_trial(frozen(own, TrialState.RUNNING))
    pruner = ParetoPruner(costs=COSTS, reduction_factor=factor)
    result = pruner.judge(study, study.trials[-1])
    assert result is not None
    assert pruner.prune(study, study.trials[-1]) == result.stops
    return result


@given(own=rivals, others=fields, factor=factors)
def test_a_dominating_trial_is_never_stopped(own: Rival, others: list[Rival], factor: int) -> None:
    """Who is better and cheaper than each rival goes on."""
    others = [other for other in others if own.dominates(other)]
    assert not verdict(own, others, factor).stops


@given(own=rivals, others=fields, factor=factors)
def test_the_front_is_never_stopped(own: Rival, others: list[Rival], factor: int) -> None:
    """Whom nobody dominates goes on, however many are on the front with it."""
    undominated = not any(
        other.accuracy >= own.accuracy
        and other.params <= own.params
        and other.macs <= own.macs
        and other != own
        for other in others
    )
    result = verdict(own, others, factor)
    assert undominated == (not result.dominators)
    assert not (undominated and (result.stops or result.deficit > 0))


@given(own=rivals, others=fields, factor=factors, draw=st.randoms(use_true_random=False))
def test_the_order_of_the_rivals_changes_nothing(
    own: Rival, others: list[Rival], factor: int, draw: object
) -> None:
    """Permuting the rivals changes neither the decision nor the standing."""
    shuffled = list(others)
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    one, two = verdict(own, others, factor), verdict(own, shuffled, factor)
    assert (one.stops, one.deficit, one.place) == (two.stops, two.deficit, two.place)
    assert (one.kept, one.margin) == (two.kept, two.margin)


@given(own=rivals, others=fields, new=rivals, factor=factors)
def test_a_dominated_rival_hurts_nobody_who_dominates_it(
    own: Rival, others: list[Rival], new: Rival, factor: int
) -> None:
    """Who goes on still does when a rival joins that it dominates: its place and deficit stay,
    and the quota never shrinks.
    """
    if not own.dominates(new):
        return
    before, after = verdict(own, others, factor), verdict(own, [*others, new], factor)
    assert (after.deficit, after.place) == (before.deficit, before.place)
    assert not (after.stops and not before.stops)


@given(own=rivals, others=fields, factor=factors)
def test_a_rival_dominated_by_all_hurts_nobody(
    own: Rival, others: list[Rival], factor: int
) -> None:
    """A rival worse than everyone never makes anyone stop."""
    worst = Rival(accuracy=-1.0, params=1e6, macs=1e6)
    assert not (
        verdict(own, [*others, worst], factor).stops and not verdict(own, others, factor).stops
    )


@given(own=rivals, others=fields, factor=factors)
def test_nobody_stops_where_nobody_has_gone_on(
    own: Rival, others: list[Rival], factor: int
) -> None:
    """At the first rung, as long as no rival has shown what it tells."""
    study = optuna.create_study(direction="maximize")
    for other in others:
        study.add_trial(frozen(other))
    study.add_trial(frozen(own, TrialState.RUNNING))
    result = ParetoPruner(costs=COSTS, reduction_factor=factor).judge(study, study.trials[-1])
    assert result is not None
    assert result.margin == math.inf
    assert not result.stops


@given(own=rivals, others=fields, factor=factors)
def test_minimising_a_loss_is_maximising_its_negative(
    own: Rival, others: list[Rival], factor: int
) -> None:
    """The direction is the study's, and nothing else changes."""
    lossy = [Rival(-rival.accuracy, rival.params, rival.macs) for rival in (own, *others)]
    one, two = verdict(own, others, factor), verdict(lossy[0], lossy[1:], factor, "minimize")
    assert (one.stops, one.place, one.dominators) == (two.stops, two.place, two.dominators)


@given(own=rivals, others=fields, factor=factors)
def test_equal_costs_within_a_band_decide_nothing(
    own: Rival, others: list[Rival], factor: int
) -> None:
    """A tenth of the tolerance more or less changes no verdict."""
    nudged = Rival(own.accuracy, own.params * 1.001, own.macs / 1.001)
    assert verdict(nudged, others, factor).stops == verdict(own, others, factor).stops


@given(others=fields, params=sizes, value=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_no_number_no_training(others: list[Rival], params: float, value: float) -> None:
    """NaN or infinity at a rung is stopped there, even when it is the cheapest by far."""
    result = verdict(Rival(value, params / 100, 0.001), others)
    assert result.stops


@given(own=rivals, others=fields, factor=factors)
def test_rivals_without_a_number_do_not_count(own: Rival, others: list[Rival], factor: int) -> None:
    """NaN rivals change no verdict."""
    lost = [Rival(math.nan, 0.001, 0.001)] * 5
    assert verdict(own, [*others, *lost], factor) == verdict(own, others, factor)


@dataclass(frozen=True)
class Finished:
    """A trial that was trained to its end: its accuracy at the rung and in the end, its costs."""

    early: float
    late: float
    params: float
    macs: float

    def dominates(self, other: Finished) -> bool:
        """At the rung and in the end."""
        here = (Rival(one.early, one.params, one.macs) for one in (self, other))
        end = (Rival(one.late, one.params, one.macs) for one in (self, other))
        return next(here).dominates(next(here)) and next(end).dominates(next(end))

    def affordable(self, other: Finished) -> bool:
        """Whether it costs no more than the other."""
        return self.params <= other.params and self.macs <= other.macs

    def later(self, other: Finished) -> bool:
        """Whether it is ahead of the other in the end, at no more cost."""
        return self.affordable(other) and self.late > other.late


ended = st.builds(Finished, accuracies, accuracies, sizes, sizes)


def learnt(own: Rival, known: list[Finished], factor: int = 3) -> Verdict:
    """The trial `own` judged at the first of two steps, among trials that have finished both."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for one in known:
        study.add_trial(
            create_trial(
                value=one.late,
                intermediate_values={1: one.early, 2: one.late},
                user_attrs={"params": one.params, "macs": one.macs},
            )
        )
    study.add_trial(frozen(own, TrialState.RUNNING))
    result = ParetoPruner(costs=COSTS, reduction_factor=factor).judge(study, study.trials[-1])
    assert result is not None
    return result


@given(
    own=rivals, known=st.lists(ended, min_size=ENOUGH, max_size=20), new=ended, worst=st.booleans()
)
def test_what_is_dominated_throughout_teaches_nothing(
    own: Rival, known: list[Finished], new: Finished, worst: bool
) -> None:
    """A finished rival that is behind at the rung and in the end moves neither deficits nor the
    margin that was learnt, so it stops nobody and saves nobody.
    """
    if worst:
        new = Finished(-1.0, -1.0, 1e6, 1e6)
    elif not any(other.dominates(new) for other in known):
        return
    before, after = learnt(own, known), learnt(own, [*known, new])
    assert (after.deficit, after.margin) == (before.deficit, before.margin)
    assert after.stops == before.stops


@given(own=rivals, known=st.lists(ended, min_size=1, max_size=20), factor=factors)
def test_among_few_the_margin_is_wide_and_the_quota_goes_on(
    own: Rival, known: list[Finished], factor: int
) -> None:
    """Fewer than `ENOUGH` that have gone further stop nobody at the first rung."""
    result = learnt(own, known, factor)
    assert (result.margin == math.inf) == (len(known) < ENOUGH)
    quota = math.ceil((len(known) + 1) / factor)
    assert result.kept == (0 if len(known) >= ENOUGH else quota)


@given(own=rivals, known=st.lists(ended, min_size=ENOUGH, max_size=20), data=st.data())
def test_who_is_no_further_behind_than_a_comeback_goes_on(
    own: Rival, known: list[Finished], data: st.DataObject
) -> None:
    """Whatever the factor says, and in whatever order they had finished."""
    result = learnt(own, known, factor=20)
    assert result.stops == (result.deficit > result.margin)
    shuffled = data.draw(st.permutations(known))
    again = learnt(own, shuffled, factor=20)
    assert (again.margin, again.stops) == (result.margin, result.stops)
    here = [*known, Finished(own.accuracy, 0.0, own.params, own.macs)]
    front = [one for one in known if not any(other.later(one) for other in known)]
    furthest = max(
        max(rival.early for rival in here if rival.affordable(one)) - one.early for one in front
    )
    assert result.margin == pytest.approx(furthest * (1 + 2 / len(front)))


bands = st.builds(Rival, accuracies, sizes, sizes)
reported = st.lists(
    st.tuples(
        bands, st.lists(accuracies | st.just(math.nan), min_size=1, max_size=9), st.integers(0, 3)
    ),
    min_size=1,
    max_size=24,
)
ENDS = ("finished", "pruned", "crashed", "finished")


@given(reported, factors, st.booleans(), st.sampled_from(["max", "min"]), st.data())
def test_a_search_asks_arrays_that_answer_as_the_pruner_does(
    trials: list[tuple[Rival, list[float], int]],
    factor: int,
    cheaper: bool,
    goal: str,
    data: st.DataObject,
) -> None:
    """Whatever is reported in whatever order, and whoever finishes, fails or begins anew."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = {"name": "ParetoPruner", "reduction_factor": factor, "spacing": 1.4}
    pruning = Pruning(
        {**spec, "among": "cheaper" if cheaper else "all"}, name="x", goal=goal, costs=COSTS
    )
    reference = ParetoPruner(costs=COSTS, reduction_factor=factor, spacing=1.4)
    going: dict[int, list[float]] = {}
    for number, (rival, curve, _) in enumerate(trials):
        pruning.begin(number, {"params": rival.params, "macs": rival.macs})
        going[number] = list(curve)
    with pytest.MonkeyPatch.context() as patch:  # comebacks of a few trials, so that they occur
        patch.setattr("search.pruning.pareto_pruner.FEW", 2)
        patch.setattr("search.pruning.pareto_pruner.ENOUGH", 3)
        while going:
            number = data.draw(st.sampled_from(sorted(going)))
            epoch = len(trials[number][1]) - len(going[number]) + 1
            pruning.report(number, epoch, going[number].pop(0))
            frozen = pruning.study.get_trials(deepcopy=False)[number]
            with pruning._peers.only(pruning._cheaper(number) if cheaper else None):
                judged = reference.judge(pruning.study, frozen)
            assert pruning._rungs is not None
            told = pruning._rungs.judge(number)
            assert repr(told) == repr(judged)  # NaN is equal to NaN there
            stopped = pruning.stop(number)
            assert (stopped is not None) == (judged is not None and judged.stops)
            if stopped is not None:
                del going[number]
                pruning.end(number, "pruned")
            elif not going[number]:
                del going[number]
                pruning.end(number, ENDS[trials[number][2]])
            elif trials[number][2] == 2 and data.draw(st.integers(0, 9)) == 0:
                pruning.anew(number)
                going[number] = list(trials[number][1])
