"""A stopped trial that may reach the front after all goes on, once all trials are proposed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from search.study import garbage
from search.study.promotion import FEW, Line
from search.study.study import Study
from search.trial import Assignment, Ending
from spaces.settings import Budget

Synthetic = Callable[..., Study]
THRESHOLD = {"name": "ThresholdPruner", "lower": 0.3, "promote": 0.3}
"""Stops whoever is below 0.3 after an epoch."""


def curve(width: float, *, slow: float) -> list[float]:
    """Wider is better in the end, but a first epoch tells nothing of it. Networks of one width are
    `slow` to start, and better than their size.
    """
    first, last = 0.4 + 0.02 * (12 * width % 8), 0.5 + width / 5
    return [0.25, 0.4, last + 0.1] if width == slow else [first, (first + last) / 2, last]


def train(study: Study, given: Assignment, *, slow: float) -> list[int]:
    """One attempt until it ends; the epochs that it trains."""
    values = curve(study.history.trials[given.trial].values["backbone.width"], slow=slow)
    study.start(given, "here")
    trained = []
    for epoch in range(given.known + 1, len(values) + 1):
        trained.append(epoch)
        if study.report(given.trial, 0, {"epoch": epoch, "val_accuracy": values[epoch - 1]}):
            return trained
    study.end(given.trial, given.replicate, Ending("finished", ""))
    return trained


def go(study: Study, *, slow: float = 0.5, most: int = 100) -> list[tuple[int, list[int]]]:
    """Train one after the other; which trials, and the epochs of each attempt."""
    went: list[tuple[int, list[int]]] = []
    while len(went) < most and (given := study.next()) is not None:
        assert not study.done
        went.append((given.trial, train(study, given, slow=slow)))
    return went


def test_a_stopped_trial_goes_on_to_the_front(synthetic: Synthetic) -> None:
    """It is taken up where it was left when all others are over, is asked about no more, and counts
    as if it had never been stopped: for the front, the sampler and the counts.
    """
    study = synthetic(pruner=THRESHOLD)
    went = go(study, most=8)
    assert study.trials[1].outcome == "pruned"
    assert study.outcomes() == {"finished": 7, "pruned": 1, "failed": 0}
    assert not study.done

    assert go(study) == [(1, [2, 3])]
    assert dict(went)[1] == [1]
    trial = study.trials[1]
    assert (trial.outcome, trial.reason, trial.promoted is not None) == ("finished", "", True)
    assert [epoch["val_accuracy"] for epoch in trial.replicates[0].curve] == curve(0.5, slow=0.5)
    assert [a.outcome for a in trial.replicates[0].attempts] == ["pruned", "finished"]
    assert 1 in {member.number for member in study.pareto()}
    assert study.outcomes() == {"finished": 8, "pruned": 0, "failed": 0}
    assert study.done
    told = [t for t in study.optuna.trials if t.params["backbone.width"] == 0.5]
    assert [t.state.name for t in told] == ["PRUNED", "COMPLETE"]
    assert told[1].values == [curve(0.5, slow=0.5)[-1], 500.0, 500.0]
    assert study.history.spending.spent(None).epochs == 7 * 3 + 3


def test_without_the_key_a_stop_is_final(synthetic: Synthetic) -> None:
    """The same study ends with the trial stopped."""
    study = synthetic(pruner={"name": "ThresholdPruner", "lower": 0.3})
    assert len(go(study)) == 8
    assert study.done
    assert study.trials[1].outcome == "pruned"


def test_who_has_no_chance_stays_stopped(synthetic: Synthetic) -> None:
    """The same trial where a higher probability is asked for than it has."""
    study = synthetic(pruner=THRESHOLD)
    go(study)
    chance = study.trials[1].promoted
    assert chance is not None
    assert 0.3 <= chance < 0.9
    study.close()
    (study.folder / "journal.jsonl").unlink()
    study = synthetic(pruner={**THRESHOLD, "promote": chance + 0.01})
    assert len(go(study)) == 8
    assert study.done


def test_a_line_needs_a_few(synthetic: Synthetic) -> None:
    """With fewer than `FEW` finished nobody is promoted; with one more the likeliest is."""
    for finished, promoted in ((FEW - 1, 0), (FEW, 1)):
        study = synthetic(trials=finished + 1, pruner=THRESHOLD)
        assert len(go(study)) == finished + 1 + promoted
        study.close()
        (study.folder / "journal.jsonl").unlink()


def test_what_a_person_stopped_stays_stopped(synthetic: Synthetic) -> None:
    """`stop STUDY --trial 1` is no opinion of a pruner's."""
    study = synthetic(pruner={**THRESHOLD, "lower": 0.0})
    first = study.next()
    assert first is not None
    train(study, first, slow=0.5)
    given = study.next()
    assert given is not None
    study.start(given, "here")
    study.stop(given.trial)
    assert study.report(given.trial, 0, {"epoch": 1, "val_accuracy": 0.9}) is not None
    go(study, slow=math.nan)
    assert study.done
    assert study.trials[1].outcome == "pruned"


def test_who_was_stopped_may_be_refused_a_second_chance(synthetic: Synthetic) -> None:
    """`stop STUDY 1` of a trial that the pruner has stopped: it is over, and stays so."""
    study = synthetic(pruner=THRESHOLD)
    went = go(study, most=4)
    assert study.trials[1].outcome == "pruned"
    assert study.unfinished(1)
    study.stop(1)
    assert not study.unfinished(1)
    assert not study.stopping
    went += go(study)
    assert [number for number, _ in went] == list(range(8))
    assert study.done
    assert not Study.read(study.folder, study.space).unfinished(1)

    study.close()
    (study.folder / "journal.jsonl").unlink()
    study = synthetic(pruner=THRESHOLD)
    went = go(study, most=8)
    assert not study.done
    study.stop(1)  # who is due already
    assert study.done
    assert study.next() is None


def test_with_a_budget_all_others_are_over_first(synthetic: Synthetic) -> None:
    """While one runs that may stop early the epochs that it leaves are for the next proposal; with
    no budget an idle worker takes the stopped one up at once.
    """
    for budget, at_once in ((None, True), ({"epochs": 100}, False)):
        study = synthetic(pruner=THRESHOLD, budget=budget)
        go(study, most=7)
        last = study.next()
        assert last is not None
        study.start(last, "here")
        second = study.next()
        assert (second is not None and second.trial == 1) == at_once
        if second is not None:
            study.start(second, "there")
        for epoch in (1, 2, 3):
            study.report(last.trial, 0, {"epoch": epoch, "val_accuracy": 0.3 + epoch / 10})
        study.end(last.trial, 0, Ending("finished", ""))
        assert not study.done
        assert [number for number, _ in go(study)] == [1][at_once:]
        study.close()
        (study.folder / "journal.jsonl").unlink()


def test_means_of_seeds_change_no_line(synthetic: Synthetic) -> None:
    """What is drawn, and what is to be beaten, are first seeds, as the stopped trial is one: the
    probability is that of the same study with one seed each.
    """
    chances = []
    for replicates in (1, 2):
        study = synthetic(pruner=THRESHOLD, replicates=replicates)
        while (given := study.next()) is not None and given.attempt == 1:
            if given.replicate == 0:
                train(study, given, slow=0.5)
                continue
            study.start(given, "here")
            for epoch in (1, 2, 3):
                metrics = {"epoch": epoch, "val_accuracy": 0.9}
                study.report(given.trial, given.replicate, metrics)
            study.end(given.trial, given.replicate, Ending("finished", ""))
        chances.append(study.history.trials[1].promoted)
        study.close()
        (study.folder / "journal.jsonl").unlink()
    assert chances[0] is not None
    assert chances[0] == chances[1]


def test_a_driver_that_dies_at_a_promotion_takes_it_up(synthetic: Synthetic) -> None:
    """The journal says who was promoted: its next driver hands it out at once, and the pruner that
    had stopped it is not asked again.
    """
    study = synthetic(pruner=THRESHOLD)
    go(study, most=8)
    given = study.next()
    assert given is not None
    study.start(given, "here")
    assert study.report(1, 0, {"epoch": 2, "val_accuracy": 0.1}) is None  # below the threshold
    study.close()

    again = Study.drive(study.folder, study.space, lambda values: pytest.fail("nothing is asked"))
    try:
        assert again.trials[1].promoted == study.trials[1].promoted
        given = again.next()
        assert given is not None
        assert (given.trial, given.attempt, given.known) == (1, 3, 2)
        train(again, given, slow=0.5)
        assert again.done
        read = Study.read(study.folder, study.space)
        assert read.trials == again.trials
    finally:
        again.close()


def test_the_budget_holds(synthetic: Synthetic) -> None:
    """What is left pays for the two epochs that lack, or nobody is promoted."""
    for epochs, promoted in ((7 * 3 + 1 + 1, False), (7 * 3 + 1 + 2, True)):
        study = synthetic(pruner=THRESHOLD, budget={"epochs": epochs})
        assert len(go(study)) == 8 + promoted
        assert study.done
        assert study.history.spending.spent(None).epochs <= epochs
        study.close()
        (study.folder / "journal.jsonl").unlink()


def test_without_a_checkpoint_the_whole_training_is_paid_for(synthetic: Synthetic) -> None:
    """Where it was deleted: three epochs, beside what runs, not the two that the curve lacks."""
    for epochs, promoted in ((7 * 3 + 1 + 2, False), (7 * 3 + 1 + 3, True)):
        study = synthetic(
            pruner=THRESHOLD, budget={"epochs": epochs}, failures={"crashed": 1, "max": 1.0}
        )
        assert len(go(study, most=8)) == 8
        study.bare.add(study.trials[1].key_of(0))
        given = study.next()
        assert (given is not None) == promoted
        if given is not None:
            study.start(given, "here")
            study.end(1, 0, Ending("crashed", "before its first checkpoint"))
            given = study.next()
            assert given is not None
            study.start(given, "here")
            for epoch in (1, 2, 3):  # the first is trained again
                spending = study.history.spending
                assert spending.spent(None).epochs == 7 * 3 + epoch
                assert study._unpaid_epochs(1)  # all that is left is owed
                study.report(
                    1, 0, {"epoch": epoch, "val_accuracy": curve(0.5, slow=0.5)[epoch - 1]}
                )
                assert not study.bare
            study.end(1, 0, Ending("finished", ""))
            assert study.trials[1].outcome == "finished"
        assert study.done
        assert study.history.spending.spent(None).epochs <= epochs
        study.close()
        (study.folder / "journal.jsonl").unlink()


def test_a_killed_driver_s_second_chance_is_paid_for_whole(synthetic: Synthetic) -> None:
    """Its successor finds no checkpoint either: what the trial lacks is all of it, and where that
    is not paid for it waits.
    """
    for epochs, goes_on in ((7 * 3 + 1 + 3, True), (7 * 3 + 1 + 3 - 1, False)):
        study = synthetic(pruner=THRESHOLD, budget={"epochs": 7 * 3 + 1 + 3})
        go(study, most=8)
        study.bare |= garbage.bare(study, garbage.folders(study))
        assert study.bare == {study.trials[1].key_of(0)}
        given = study.next()
        assert given is not None
        study.start(given, "here")
        study.commit()
        assert study._journal is not None
        study._journal.close()  # as a kill leaves it: nothing is said of its end
        study._journal = None
        search_ = study.space.search.model_copy(update={"budget": Budget(epochs=epochs)})
        space = replace(study.space, search=search_)
        again = Study.drive(study.folder, space, lambda values: pytest.fail("nothing is asked"))
        try:
            again.bare |= garbage.bare(again, garbage.folders(again))
            assert (again.next() is not None) == goes_on
        finally:
            again.close()
        (study.folder / "journal.jsonl").unlink()


def two_stopped(study: Study) -> None:
    """All eight are proposed, and two of them stopped that both have a chance."""
    for _ in range(8):
        given = study.next()
        assert given is not None
        values = curve(study.history.trials[given.trial].values["backbone.width"], slow=-1)
        if given.trial in (1, 4):
            values = [0.29 if given.trial == 4 else 0.28, 0.4, 0.9]
        study.start(given, "here")
        for epoch, value in enumerate(values, start=1):
            if study.report(given.trial, 0, {"epoch": epoch, "val_accuracy": value}):
                break
        else:
            study.end(given.trial, 0, Ending("finished", ""))
    assert study.outcomes()["pruned"] == 2


def test_who_is_too_dear_stands_in_nobody_s_way(synthetic: Synthetic) -> None:
    """The likeliest has no checkpoint, and the budget does not pay for all of it: the next has its
    chance. Of two that it pays for one by one, the second waits for what is left, also before the
    worker of the first has begun.
    """
    first = []
    for bare in (False, True):
        budget = {"epochs": 6 * 3 + 2 + 2}
        study = synthetic(pruner={**THRESHOLD, "promote": 0.01}, budget=budget)
        two_stopped(study)
        if bare:
            study.bare.add(study.trials[first[0]].key_of(0))
        given = study.next()
        assert given is not None
        first.append(given.trial)
        assert study.next() is None
        assert not study.done
        study.start(given, "here")
        assert study.next() is None
        study.close()
        (study.folder / "journal.jsonl").unlink()
    assert sorted(first) == [1, 4]


def test_all_seeds_of_a_second_chance_are_paid_for(synthetic: Synthetic) -> None:
    """Else it would end without a result: of two seeds five epochs are left to train, not two."""
    for left, promoted in ((4, False), (5, True)):
        study = synthetic(pruner=THRESHOLD, replicates=2, budget={"epochs": 7 * 6 + 1 + left})
        while (given := study.next()) is not None:
            if given.replicate == 0:
                train(study, given, slow=0.5)
                continue
            study.start(given, "here")
            for epoch in (1, 2, 3):
                metrics = {"epoch": epoch, "val_accuracy": 0.9}
                study.report(given.trial, given.replicate, metrics)
            study.end(given.trial, given.replicate, Ending("finished", ""))
        assert study.done
        trial = study.trials[1]
        assert (trial.outcome, trial.n) == (("finished", 2) if promoted else ("pruned", 0))
        study.close()
        (study.folder / "journal.jsonl").unlink()


def test_seeds_of_one_second_chance_are_not_another_s(synthetic: Synthetic) -> None:
    """Two workers, and epochs for one of two chances with both its seeds: the other stays stopped.
    With those of both, both finish.
    """
    for left, finished in ((9, 7), (10, 8)):
        study = synthetic(
            pruner={**THRESHOLD, "promote": 0.01},
            replicates=2,
            budget={"epochs": 6 * 6 + 2 + left},
        )
        going: list[Assignment] = []
        trained: dict[tuple[int, int], int] = {}
        while True:
            while len(going) < 2 and (given := study.next()) is not None:
                study.start(given, "here")
                going.append(given)
                trained[given.trial, given.replicate] = given.known
            if not going:
                break
            given = going.pop(0)
            values = curve(study.history.trials[given.trial].values["backbone.width"], slow=-1)
            if given.trial in (1, 4) and given.replicate == 0:
                values = [0.29 if given.trial == 4 else 0.28, 0.4, 0.9]
            place = (given.trial, given.replicate)
            trained[place] += 1
            value = values[trained[place] - 1]
            metrics = {"epoch": trained[place], "val_accuracy": value}
            if study.report(*place, metrics) is not None:
                continue
            if trained[place] == 3:
                study.end(*place, Ending("finished", ""))
            else:
                going.append(given)
        assert study.done
        outcomes = [trial.outcome for trial in study.trials]
        assert outcomes.count("finished") == finished, outcomes
        assert outcomes.count("pruned") == 8 - finished
        study.close()
        (study.folder / "journal.jsonl").unlink()


def test_what_a_second_chance_began_anew_has_reached_counts(synthetic: Synthetic) -> None:
    """Stopped at two of three epochs, begun again, taken away after the first: two are left, not
    one, and nobody else is given them.
    """
    pruner = {"name": "ThresholdPruner", "lower": 0.3, "n_warmup_steps": 2, "promote": 0.01}
    study = synthetic(pruner=pruner, budget={"epochs": 6 * 3 + 2 * 2 + 3})
    for _ in range(8):
        given = study.next()
        assert given is not None
        study.start(given, "here")
        width = study.history.trials[given.trial].values["backbone.width"]
        values = [0.4, 0.4 + 0.02 * (12 * width % 8), 0.5 + width / 5]
        if given.trial in (1, 4):
            values = [0.2, 0.28 if given.trial == 1 else 0.29, 0.9]
        for epoch, value in enumerate(values, start=1):
            if study.report(given.trial, 0, {"epoch": epoch, "val_accuracy": value}):
                break
        else:
            study.end(given.trial, 0, Ending("finished", ""))
    study.bare.add(study.trials[1].key_of(0))
    given = study.next()
    assert given is not None
    assert given.trial == 1
    study.start(given, "here")
    study.report(given.trial, 0, {"epoch": 1, "val_accuracy": 0.2})
    study.end(given.trial, 0, Ending("preempted", "its node went"))
    again = study.next()
    assert again is not None
    assert again.trial == given.trial
    study.start(again, "there")
    assert study.next() is None  # the other could go on from where it was, for one epoch
    for epoch in (2, 3):
        assert study.report(again.trial, 0, {"epoch": epoch, "val_accuracy": 0.9}) is None
    study.end(again.trial, 0, Ending("finished", ""))
    assert study.done
    assert study.history.spending.spent(None).epochs == 6 * 3 + 2 * 2 + 3
    assert Study.read(study.folder, study.space).trials == study.trials


def test_further_seeds_come_last(synthetic: Synthetic) -> None:
    """A promoted trial may be on the front: doubts are cleared when all trials are over."""
    study = synthetic(pruner=THRESHOLD, further={"seeds": 2, "most": 3})
    numbers = [number for number, _ in go(study)]
    assert numbers[8] == 1
    assert len(numbers) == 8 + 1 + 2


def test_a_line_is_the_textbook_s() -> None:
    """Slope, error and the prediction interval, against scipy's regression of random points: the
    interval's bound at probability p gives p (Draper & Smith, Applied Regression Analysis, 3rd
    edition, section 3.1).
    """
    draw = np.random.default_rng(0)
    x = draw.normal(size=9)
    y = 0.7 * x + draw.normal(scale=0.1, size=9)
    line, oracle = Line.through(x, y), stats.linregress(x, y)
    assert line is not None
    assert line.below(math.inf, 0.0) == 1.0
    assert line.slope == pytest.approx(oracle.slope, rel=1e-12)
    residuals = y - (oracle.intercept + oracle.slope * x)
    error = residuals @ residuals / 7
    for at in (-2.0, 0.0, 3.0):
        deviation = math.sqrt(
            error * (1 + 1 / 9 + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
        )
        for p in (0.05, 0.5, 0.9):
            bound = oracle.intercept + oracle.slope * at + stats.t.ppf(p, 7) * deviation
            assert line.below(bound, at) == pytest.approx(p, rel=1e-9)


def test_no_line_gives_certainty() -> None:
    """Few points that lie on a line exactly, or began or ended alike, are chance, no knowledge."""
    early = [0.1, 0.2, 0.3, 0.4]
    assert Line.through(early, [0.5 + 0.7 * value for value in early]) is None
    assert Line.through([0.1] * 4, early) is None
    assert Line.through(early, [0.1] * 4) is None
    assert Line.through(early[:3], [0.5, 0.6, 0.8]) is None
    assert Line.through(early, [0.5, 0.6, 0.8, 0.9]) is not None
