"""What the ParetoPruner promises, for any rivals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import optuna
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.pareto_pruner import ParetoPruner, Verdict
from search.pruning import Pruning

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


def verdict(own: Rival, others: list[Rival], factor: int = 3, goal: str = "maximize") -> Verdict:
    """The trial `own` judged among `others`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=goal)
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
    assert (result.rank == 0) == undominated == (not result.dominators)
    assert not (undominated and result.stops)


@given(own=rivals, others=fields, factor=factors, draw=st.randoms(use_true_random=False))
def test_the_order_of_the_rivals_changes_nothing(
    own: Rival, others: list[Rival], factor: int, draw: object
) -> None:
    """Permuting the rivals changes neither the decision nor the standing."""
    shuffled = list(others)
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    one, two = verdict(own, others, factor), verdict(own, shuffled, factor)
    assert (one.stops, one.rank, one.place, one.kept) == (two.stops, two.rank, two.place, two.kept)


@given(own=rivals, others=fields, new=rivals, factor=factors)
def test_a_dominated_rival_hurts_nobody_who_dominates_it(
    own: Rival, others: list[Rival], new: Rival, factor: int
) -> None:
    """Who goes on still does when a rival joins that it dominates: its rank and place stay, and
    the quota never shrinks.
    """
    if not own.dominates(new):
        return
    before, after = verdict(own, others, factor), verdict(own, [*others, new], factor)
    assert (after.rank, after.place) == (before.rank, before.place)
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
def test_at_least_the_quota_goes_on(own: Rival, others: list[Rival], factor: int) -> None:
    """Asked about each of n trials in turn, at least ceil(n / factor) go on."""
    everyone = [own, *others]
    going = sum(
        not verdict(trial, everyone[:i] + everyone[i + 1 :], factor).stops
        for i, trial in enumerate(everyone)
    )
    assert going >= math.ceil(len(everyone) / factor)


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


bands = st.builds(Rival, accuracies, sizes, sizes)
curves = st.lists(
    st.tuples(
        bands, st.lists(accuracies | st.just(math.nan), min_size=1, max_size=9), st.booleans()
    ),
    min_size=1,
    max_size=16,
)


@given(
    curves, factors, st.integers(1, 3), st.booleans(), st.sampled_from(["max", "min"]), st.data()
)
def test_a_search_asks_arrays_that_answer_as_the_pruner_does(
    trials: list[tuple[Rival, list[float], bool]],
    factor: int,
    first: int,
    cheaper: bool,
    goal: str,
    data: st.DataObject,
) -> None:
    """Whatever is reported in whatever order, and whoever fails or begins anew meanwhile."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = {"name": "ParetoPruner", "reduction_factor": factor, "first_rung": first}
    among = "cheaper" if cheaper else "all"
    pruning = Pruning({**spec, "among": among}, name="x", goal=goal, costs=COSTS)
    reference = ParetoPruner(costs=COSTS, reduction_factor=factor, first_rung=first)
    going: dict[int, list[float]] = {}
    for number, (rival, curve, _) in enumerate(trials):
        pruning.begin(number, {"params": rival.params, "macs": rival.macs})
        going[number] = list(curve)
    while going:
        number = data.draw(st.sampled_from(sorted(going)))
        epoch = len(trials[number][1]) - len(going[number]) + 1
        pruning.report(number, epoch, going[number].pop(0))
        frozen = pruning.study.get_trials(deepcopy=False)[number]
        seen = pruning._cheaper(number) if cheaper else None
        with pruning._peers.only(seen):
            judged = reference.judge(pruning.study, frozen)
        said = pruning.stop(number)
        assert (said is not None) == (judged is not None and judged.stops)
        if judged is not None and said is not None and judged.dominators:
            assert str(judged).partition("better at ")[2] == said.partition("better at ")[2]
        if said is not None or not going[number]:
            del going[number]
            pruning.end(number, "crashed" if trials[number][2] else "pruned")
        elif trials[number][2] and data.draw(st.integers(0, 9)) == 0:
            pruning.anew(number)
            going[number] = list(trials[number][1])
