"""Further seeds go where membership of the front is least certain, once all trials are over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from search.study.further import following
from search.study.history import is_open
from search.study.study import Study
from search.trial import Assignment, Ending
from tests.search.conftest import examine

FURTHER = {"seeds": 6, "most": 4, "sure": 0.95}


def accuracy(width: float, seed: int, noise: float) -> float:
    """Nothing is gained beyond width 1; each seed has its own luck, within `noise` both ways."""
    digest = hashlib.sha256(f"{width}:{seed}".encode()).digest()
    luck = int.from_bytes(digest[:4], "big") / 2**31 - 1
    return min(width, 1.0) / 2 + noise * luck


def train(study: Study, given: Assignment, noise: float) -> None:
    """One attempt, from where it was left to its end."""
    study.start(given, "here")
    value = accuracy(study.history.trials[given.trial].values["backbone.width"], given.seed, noise)
    for epoch in range(given.known + 1, 4):
        metrics = {"epoch": epoch, "val_accuracy": value}
        assert study.report(given.trial, given.replicate, metrics) is None
    study.end(given.trial, given.replicate, Ending("finished", ""))


def all_of(study: Study, noise: float, *, most: int = 100) -> list[tuple[int, int]]:
    """Train one after the other; the further seeds, in order."""
    asked: list[tuple[int, int]] = []
    while len(asked) < most and (given := study.next()) is not None:
        assert not study.done
        train(study, given, noise)
        if given.replicate:
            asked.append((given.trial, given.replicate))
    return asked


def test_a_further_seed_is_handed_out_once(synthetic: Callable[..., Study]) -> None:
    """Who asks again before its worker has begun is told to wait."""
    study = synthetic(further=FURTHER)
    while (given := study.next()) is not None and given.replicate == 0:
        train(study, given, 0.3)
    assert given is not None
    assert study.next() is None
    assert not study.done
    study.start(given, "here")
    other = study.next()
    assert other is not None
    assert (other.trial, other.replicate) != (given.trial, given.replicate)


def test_the_least_certain_network_is_next(synthetic: Callable[..., Study]) -> None:
    """All trials come first; then each seed goes to the probability nearest to a half. The first
    goes to a member of the front: of noise nobody knows anything.
    """
    study = synthetic(further=FURTHER)
    asked = []
    while (given := study.next()) is not None:
        if given.replicate:
            assert all(trial.outcome == "finished" for trial in study.trials)
            members = study.membership()
            if members is None:
                assert given.trial in {trial.number for trial in study.pareto()}
            else:
                free = [t.number for t in study.trials if len(t.replicates) < 4]
                nearest = min(abs(members[number] - 0.5) for number in free)
                assert abs(members[given.trial] - 0.5) == nearest
            asked.append(given.trial)
        train(study, given, 0.05)
        assert study.history.trials[given.trial].n == given.replicate + 1
    assert study.done
    assert len(asked) == 6
    assert len(study.trials) == 8
    assert max(trial.n for trial in study.trials) <= 4
    for trial in study.trials:
        seeds = [seed.curve[-1]["val_accuracy"] for seed in trial.replicates]
        assert trial.objectives is not None
        assert trial.objectives["val_accuracy"] == pytest.approx(sum(seeds) / len(seeds))


def test_they_end_where_nothing_is_uncertain(synthetic: Callable[..., Study]) -> None:
    """Of networks that noise cannot confuse only so many train again as it takes to know that."""
    study = synthetic(
        further={"seeds": 50, "most": 9},
        baselines=[{"backbone": {"width": width / 4}} for width in range(1, 5)],
        trials=4,
    )
    asked = all_of(study, 1e-6)
    assert study.done
    assert 1 <= len(asked) <= 4
    members = study.membership()
    assert members is not None
    assert all(share > 0.95 or share < 0.05 for share in members.values())


def test_several_workers_have_several_networks(synthetic: Callable[..., Study]) -> None:
    """Nobody waits for another's seed: who has one at work is passed over."""
    study = synthetic(further=FURTHER)
    for _ in range(8):
        first = study.next()
        assert first is not None
        train(study, first, 0.05)
    given = []
    for _ in range(3):
        one = study.next()
        assert one is not None
        study.start(one, "here")
        given.append(one)
    assert len({one.trial for one in given}) == 3
    assert not study.done


def test_a_study_that_is_taken_up_chooses_as_it_would_have(
    synthetic: Callable[..., Study], tmp_path: Any
) -> None:
    """After each seed another driver goes on; one dies within a seed, which is trained to its end.
    The seeds are those of a study that was left alone.
    """
    study = synthetic(further=FURTHER)
    alone = all_of(study, 0.05)
    assert len(alone) == 6
    folder = tmp_path / "runs" / "synthetic"
    study.close()
    (folder / "journal.jsonl").unlink()

    study = synthetic(further=FURTHER)
    asked: list[tuple[int, int]] = []
    for count in range(6):
        asked += all_of(study, 0.05, most=1)
        if count == 2:
            cut = study.next()
            assert cut is not None
            study.start(cut, "here")
            study.report(cut.trial, cut.replicate, {"epoch": 1, "val_accuracy": 0.3})
        study.close()
        study = Study.drive(folder, study.space, examine)
        if count == 2:
            again = study.next()
            assert again is not None
            assert cut is not None
            assert (again.trial, again.replicate, again.known) == (cut.trial, cut.replicate, 1)
            train(study, again, 0.05)
            asked.append((again.trial, again.replicate))
        if len(asked) == 6:
            break
    assert asked[:3] == alone[:3]
    assert len(asked) == 6
    assert study.next() is None
    assert study.done
    study.close()


def test_a_budget_ends_them(synthetic: Callable[..., Study]) -> None:
    """What it does not pay for is not trained: eight trials and two seeds of three epochs."""
    study = synthetic(further=FURTHER, budget={"epochs": 31})
    assert len(all_of(study, 0.05)) == 2
    assert study.done
    assert study.why_done.startswith("budget.epochs: 30 of 31 spent")


def test_what_a_person_stopped_stays_stopped(synthetic: Callable[..., Study]) -> None:
    """Its result stays, and no other seed is asked for."""
    study = synthetic(further=FURTHER)
    for _ in range(8):
        first = study.next()
        assert first is not None
        train(study, first, 0.05)
    second = study.next()
    assert second is not None
    study.start(second, "here")
    study.stop(second.trial)
    metrics = {"epoch": 1, "val_accuracy": 0.5}
    ending = study.report(second.trial, second.replicate, metrics)
    assert ending == Ending("pruned", "stopped by hand")
    assert second.trial not in {number for number, _ in all_of(study, 0.05)}
    trial = study.history.trials[second.trial]
    assert (trial.outcome, trial.n) == ("finished", 1)
    assert not any(map(is_open, trial.replicates))


def test_nothing_is_asked_for_where_nothing_is_said(synthetic: Callable[..., Study]) -> None:
    """Without the key there are no further seeds."""
    study = synthetic()
    assert all_of(study, 0.05) == []
    assert following(study.trials, study.space.search, study.membership()) is None


def test_a_seed_whose_driver_died_before_its_worth_was_said_counts(
    synthetic: Callable[..., Study], tmp_path: Any
) -> None:
    """The journal ends between the seed's end and the trial's: the next driver says it."""
    study = synthetic(further=FURTHER)
    ((number, index),) = all_of(study, 0.05, most=1)
    known = study.history.trials[number]
    study.close()
    journal = tmp_path / "runs" / "synthetic" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if '"kind":"end"' in line)
    assert '"kind":"trial"' in lines[last + 1]
    journal.write_text("".join(lines[: last + 1]))

    again = Study.drive(tmp_path / "runs" / "synthetic", study.space, examine)
    assert again.history.trials[number].n == index + 1 == 2
    assert again.history.trials[number].objectives == known.objectives
    assert again.history.trials[number].spread == known.spread
    again.close()


def test_one_that_waits_can_be_stopped_and_is_not_over(synthetic: Callable[..., Study]) -> None:
    """A further seed that was cut off: the study is not done, also for who only reads it."""
    study = synthetic(further={**FURTHER, "seeds": 1})
    for _ in range(8):
        first = study.next()
        assert first is not None
        train(study, first, 0.05)
    given = study.next()
    assert given is not None
    study.start(given, "here")
    study.end(given.trial, given.replicate, Ending("interrupted", "its driver left"))
    study.commit()
    assert not study.done
    assert not Study.read(study.folder, study.space).done
    assert study.unfinished(given.trial)
    study.stop(given.trial)
    assert study.next() is None
    assert study.done
    assert study.history.trials[given.trial].n == 1
