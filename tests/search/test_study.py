"""The study's decisions, without torch: a synthetic accuracy stands in for training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import spaces
from search.study import main_study
from search.study.journal import FILE, JournalError, read
from search.study.study import Study, seed_of
from search.trial import Assignment, Candidate, Ending
from spaces import Space

SPACE = """\
name: synthetic
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {float: [0.25, 2.0], step: 0.25}}
attention:
  choice:
    - {name: none}
    - {name: eca, mapping: {name: constant, kernel_size: {choice: [1, 3, 5, 7, 9]}}}
training: {epochs: 9, batch_size: 32, optimizer: {name: sgd, lr: {float: [0.01, 1.0], log: true}}}
"""


@pytest.fixture
def space(tmp_path: Path) -> Callable[..., Space]:
    """The synthetic space with a search section of one's own."""

    def make(text: str = SPACE, **search: Any) -> Space:
        path = tmp_path / "synthetic.yaml"
        path.write_text(f"{text}search: {json.dumps({'trials': 30, 'seed': 5, **search})}\n")
        return spaces.load(path)

    return make


def examine(values: dict[str, Any]) -> Candidate:
    """A network as large as its width and kernel say; equal values are equal networks."""
    text = json.dumps(values, sort_keys=True)
    size = values.get("backbone.width", 1.0) * 1000
    kernel = values.get("attention.eca.mapping.kernel_size", 0)
    config = {
        "training": {"epochs": 9, "batch_size": 32},
        "attention": {"name": values.get("attention", "eca")},
    }
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Candidate(config, key, key, {"params": size, "macs": size * 10 + kernel}, {}, "", text)


def accuracy(trial: int, values: dict[str, Any], epoch: int) -> float:
    """A curve that rises with width and has its own noise; a function of its arguments alone."""
    noise = int.from_bytes(hashlib.sha256(f"{trial}:{epoch}".encode()).digest()[:4], "big") / 2**32
    width = values.get("backbone.width", 1.0)
    return float((1 - 2.0**-width) * (1 - 2.0**-epoch) * (0.8 + 0.2 * noise))


def steps(study: Study, *, workers: int = 3) -> Iterator[None]:
    """Drive a study with virtual workers in turn; one step is one report or one ending."""
    running: list[tuple[Assignment, Iterator[int]]] = []
    while True:
        while len(running) < workers and (assignment := study.next()) is not None:
            study.start(assignment, "virtual:1")
            running.append((assignment, iter(range(assignment.known + 1, 10))))
        if not running:
            return
        for pair in list(running):
            assignment, epochs = pair
            epoch = next(epochs)
            values = study.history.trials[assignment.trial].values
            metrics = {"epoch": epoch, "val_accuracy": accuracy(assignment.trial, values, epoch)}
            ending = study.report(assignment.trial, assignment.replicate, metrics)
            if ending is None and epoch == 9:
                study.end(assignment.trial, assignment.replicate, Ending("finished", ""))
            if ending is not None or epoch == 9:
                running.remove(pair)
            study.commit()
            yield


def create(folder: Path, space: Space, **options: Any) -> Study:
    return Study.create(
        folder, space, examine, reference={"params": 2000, "macs": 20009}, chance=0.1, **options
    )


def finish(study: Study, *, workers: int = 3) -> Study:
    for _ in steps(study, workers=workers):
        pass
    study.close()
    return study


def told(study: Study) -> list[tuple[Any, ...]]:
    """What Optuna knows, trial by trial."""
    return [(t.state, t.params, t.values, t.system_attrs) for t in study.optuna.trials]


@pytest.mark.parametrize(
    "sampler",
    [
        {"name": "TPESampler"},
        {"name": "TPESampler", "multivariate": True},
        {"name": "NSGAIISampler", "population_size": 6},
        {"name": "NSGAIIISampler", "population_size": 6},
        {"name": "RandomSampler"},
        {"name": "QMCSampler"},
        {"name": "ParetoSampler"},
    ],
    ids=lambda spec: "-".join(map(str, spec.values())),
)
def test_a_rebuilt_study_is_the_one_that_ran(
    space: Callable[..., Space], tmp_path: Path, sampler: dict[str, Any]
) -> None:
    """Facts, Optuna's trials and their system attributes: the journal gives all of them back."""
    study = finish(create(tmp_path / "a", space(sampler=sampler)))
    again = Study.read(tmp_path / "a", study.space)

    assert again.trials == study.trials
    assert told(again) == told(study)
    assert again.counts() == study.counts()


@pytest.mark.parametrize("name", ["TPESampler", "NSGAIISampler", "ParetoSampler"])
@pytest.mark.parametrize("cut", [1, 20, 77])
def test_a_study_closed_and_taken_up_proposes_the_same(
    space: Callable[..., Space], tmp_path: Path, name: str, cut: int
) -> None:
    """With one worker, stopping anywhere changes nothing: the same points, in the same order."""
    search = {"sampler": {"name": name}, "trials": 16}
    straight = create(tmp_path / "straight", space(**search))
    for _ in steps(straight, workers=1):
        pass
    straight.close()

    study = create(tmp_path / "cut", space(**search))
    for number, _ in enumerate(steps(study, workers=1)):
        if number == cut:
            break
    study.close()
    study = Study.drive(tmp_path / "cut", study.space, examine)
    for _ in steps(study, workers=1):
        pass
    study.close()

    assert [t.values for t in study.trials] == [t.values for t in straight.trials]
    assert [t.objectives for t in study.trials] == [t.objectives for t in straight.trials]


def test_a_driver_that_dies_leaves_nothing_running(
    space: Callable[..., Space], tmp_path: Path
) -> None:
    """Without a close: attempts are interrupted at the next start, trials finish once."""
    study = create(tmp_path / "a", space(trials=8))
    for number, _ in enumerate(steps(study)):
        if number == 31:
            break
    known = {t.number: t.epochs for t in study.trials}
    study._open.close()  # what a SIGKILL does: the lock goes, nothing more is written
    again = finish(Study.drive(tmp_path / "a", study.space, examine))

    assert [t.outcome for t in again.trials] == ["finished"] * 8
    assert all(t.epochs == 9 for t in again.trials)
    assert any(0 < epochs < 9 for epochs in known.values())
    interrupted = [a for t in again.trials for r in t.replicates for a in r.attempts[:-1]]
    assert interrupted
    assert {attempt.outcome for attempt in interrupted} == {"interrupted"}


def test_the_pruner_decides_the_same_after_a_restart(
    space: Callable[..., Space], tmp_path: Path
) -> None:
    """Stops are a function of the journal: cut midway, a study stops what an uncut one stops."""
    search = {"pruner": {"name": "MedianPruner", "n_startup_trials": 2}, "trials": 12}
    outcomes = []
    for name, cut in (("a", None), ("b", 30)):
        study = create(tmp_path / name, space(**search))
        for number, _ in enumerate(steps(study, workers=1)):
            if number == cut:
                break
        study.close()
        study = finish(Study.drive(tmp_path / name, study.space, examine), workers=1)
        outcomes.append([(t.outcome, t.epochs, t.reason) for t in study.trials])

    assert outcomes[0] == outcomes[1]
    assert {"finished", "pruned"} == {outcome for outcome, _, _ in outcomes[0]}


def test_trials_over_a_limit_are_never_started(space: Callable[..., Space], tmp_path: Path) -> None:
    """TPE is told, and stops proposing them; none of them is a trial."""
    study = finish(create(tmp_path / "a", space(trials=40, limits={"params": 800})))

    assert len(study.trials) == 40
    assert all(trial.costs["params"] <= 800 for trial in study.trials)
    refusals = [r["seq"] for r in read(tmp_path / "a") if r["kind"] == "refuse"]
    asks = [r["seq"] for r in read(tmp_path / "a") if r["kind"] in ("refuse", "ask")]
    half = asks[len(asks) // 2]
    early = sum(number < half for number in refusals)
    assert early > len(refusals) - early  # fewer in the second half of the asks


@pytest.mark.parametrize(
    ("metrics", "outcome"),
    [
        ({"epoch": 1}, "bad_report"),
        ({"epoch": 1, "val_accuracy": None}, "bad_report"),
        ({"epoch": 1, "val_accuracy": True}, "bad_report"),
        ({"epoch": 2, "val_accuracy": 0.5}, "bad_report"),
        ({"val_accuracy": 0.5}, "bad_report"),
        ({"epoch": 1, "val_accuracy": float("nan")}, "diverged"),
        ({"epoch": 1, "val_accuracy": float("inf")}, "diverged"),
    ],
)
def test_a_bad_report_ends_the_attempt_with_its_word(
    space: Callable[..., Space], tmp_path: Path, metrics: dict[str, Any], outcome: str
) -> None:
    """Told FAIL to the sampler; the study goes on."""
    study = create(tmp_path / "a", space(trials=2))
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "virtual:1")
    ending = study.report(assignment.trial, 0, metrics)

    assert ending is not None
    assert ending.outcome == outcome
    assert study.trials[0].outcome == outcome
    assert study.optuna.trials[0].state.name == "FAIL"
    assert study.next() is not None
    study.close()


def test_crashes_have_a_budget_and_preemptions_have_none(
    space: Callable[..., Space], tmp_path: Path
) -> None:
    """Two crashes end a trial (`failures.crashed: 1`); any number of preemptions does not."""
    study = create(tmp_path / "a", space(trials=1))
    for word in ("preempted", "preempted", "crashed", "preempted", "crashed"):
        assignment = study.next()
        assert assignment is not None
        study.start(assignment, "virtual:1")
        study.end(assignment.trial, 0, Ending(word, "on purpose"))

    (trial,) = study.trials
    assert trial.outcome == "crashed"
    assert len(trial.replicates[0].attempts) == 5
    assert study.next() is None
    assert study.done
    study.close()


def test_a_crashed_network_may_be_tried_again(space: Callable[..., Space], tmp_path: Path) -> None:
    """Chance struck, not the config: the next proposal of the same point trains."""
    one = SPACE.replace("{float: [0.01, 1.0], log: true}", "0.1").replace(
        "{float: [0.25, 2.0], step: 0.25}", "1.0"
    )
    one = one.replace("{choice: [1, 3, 5, 7, 9]}", "3")
    study = create(tmp_path / "a", space(one, trials=4))
    for _ in range(2):
        assignment = study.next()
        assert assignment is not None
        study.start(assignment, "virtual:1")
        study.end(assignment.trial, 0, Ending("crashed", "on purpose"))
    finish(study)

    keys = [trial.key for trial in study.trials]
    assert keys.count(keys[0]) == 2
    assert {t.outcome for t in study.trials if t.key == keys[0]} == {"crashed", "finished"}


def test_seeds_belong_to_the_replicate(space: Callable[..., Space], tmp_path: Path) -> None:
    """Every trial's replicate k has the same seed; another study seed gives others."""
    study = finish(create(tmp_path / "a", space(trials=3, replicates=3)))

    seeds = {tuple(r.seed for r in trial.replicates) for trial in study.trials}
    assert seeds == {tuple(seed_of(5, k) for k in range(3))}
    assert seed_of(6, 0) != seed_of(5, 0)


def test_a_seed_is_handed_out_once(space: Callable[..., Space], tmp_path: Path) -> None:
    """On a cluster a worker takes its time to begin: another seed of the trial may be over before.
    Nobody else is given it meanwhile, and the trial is not over without it.
    """
    study = create(tmp_path / "a", space(trials=1, replicates=3))

    def train(given: Assignment) -> None:
        for epoch in range(1, 10):
            study.report(given.trial, given.replicate, {"epoch": epoch, "val_accuracy": 0.5})
        study.end(given.trial, given.replicate, Ending("finished", ""))

    first = study.next()
    assert first is not None
    study.start(first, "here")
    train(first)
    one, other = study.next(), study.next()
    assert one is not None
    assert other is not None
    study.start(one, "here")
    train(one)
    assert study.next() is None
    assert not study.done
    assert study.trials[0].outcome is None
    study.start(other, "there")
    train(other)
    assert study.done
    assert [seed.outcome for seed in study.trials[0].replicates] == ["finished"] * 3
    study.close()


def test_the_pruner_judges_the_first_replicate_alone(
    space: Callable[..., Space], tmp_path: Path
) -> None:
    """A stopped trial has one replicate; the others begin only when the first has finished."""
    pruner = {"name": "MedianPruner", "n_startup_trials": 2}
    study = finish(create(tmp_path / "a", space(trials=10, replicates=2, pruner=pruner)))

    assert {trial.outcome for trial in study.trials} == {"finished", "pruned"}
    for trial in study.trials:
        assert len(trial.replicates) == (1 if trial.outcome == "pruned" else 2)
        if trial.outcome == "finished":
            first, second = trial.replicates
            assert second.attempts[0].started >= first.attempts[-1].ended


def test_a_study_can_be_extended(space: Callable[..., Space], tmp_path: Path) -> None:
    """A new total goes on where the old one ended."""
    study = finish(create(tmp_path / "a", space(trials=3)))
    assert study.history.ended == "3 of 3 trials"
    study = Study.drive(tmp_path / "a", study.space, examine)
    study.extend(5)
    finish(study)

    assert len(study.trials) == 5
    assert study.history.ended == "5 of 5 trials"


def test_a_folder_holds_one_study(space: Callable[..., Space], tmp_path: Path) -> None:
    """Creating where a journal has records is refused; so is driving where there is none."""
    finish(create(tmp_path / "a", space(trials=1)))

    with pytest.raises(JournalError, match="already started"):
        create(tmp_path / "a", space(trials=1))
    with pytest.raises(JournalError, match="no study here"):
        Study.drive(tmp_path / "b", space(), examine)
    assert not (tmp_path / "b").exists()


def test_what_is_reported_twice_is_kept_once(space: Callable[..., Space], tmp_path: Path) -> None:
    """A resumed attempt may repeat epochs; a late report of an ended attempt changes nothing."""
    study = create(tmp_path / "a", space(trials=1))
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "virtual:1")
    for epoch in (1, 1, 2, 1, 2, 3):
        assert study.report(0, 0, {"epoch": epoch, "val_accuracy": 0.5}) is None
    study.end(0, 0, Ending("finished", ""))
    late = study.report(0, 0, {"epoch": 4, "val_accuracy": 0.9})
    study.close()

    assert [epoch["epoch"] for epoch in study.trials[0].replicates[0].curve] == [1, 2, 3]
    assert late is not None
    assert (tmp_path / "a" / FILE).read_text().count('"kind":"epoch"') == 3


def run_one(study: Study, *endings: Ending, epochs: int = 0) -> Assignment:
    """Hand out an attempt, report some epochs and end it; once for each ending."""
    for ending in endings:
        assignment = study.next()
        assert assignment is not None
        study.start(assignment, "virtual:1")
        for epoch in range(assignment.known + 1, assignment.known + epochs + 1):
            study.report(assignment.trial, 0, {"epoch": epoch, "val_accuracy": 0.5})
        study.end(assignment.trial, assignment.replicate, ending)
    return assignment


def test_preemptions_can_have_a_budget(space: Callable[..., Space], tmp_path: Path) -> None:
    """With `failures.preempted: 1` a second preemption ends the trial, and is no failure."""
    study = create(tmp_path / "a", space(trials=1, failures={"preempted": 1}))
    run_one(study, Ending("preempted", ""), Ending("preempted", ""))

    assert study.trials[0].outcome == "preempted"
    assert not study.trials[0].failed
    assert study.counts()["preempted"] == 1
    assert study.optuna.trials[0].state.name == "FAIL"
    study.close()


@pytest.mark.parametrize("moment", ["waiting", "running", "resumed"])
def test_a_trial_can_be_stopped_by_hand(
    space: Callable[..., Space], tmp_path: Path, moment: str
) -> None:
    """It ends as pruned with what was said, whether it waited, ran, or its driver died first."""
    study = create(tmp_path / "a", space(trials=2))
    assignment = study.next()
    assert assignment is not None
    if moment == "waiting":
        study.start(assignment, "virtual:1")
        study.end(0, 0, Ending("preempted", ""))  # it is queued again
        study.stop(0, "enough")
    else:
        study.start(assignment, "virtual:1")
        study.stop(0, "enough")
        assert study.stopping == {0: "enough"}
        assert study.trials[0].outcome is None
        if moment == "running":
            ending = study.report(0, 0, {"epoch": 1, "val_accuracy": 0.5})
            assert ending == Ending("pruned", "enough")
        else:
            study._open.close()
            study = Study.drive(tmp_path / "a", study.space, examine)

    assert (study.trials[0].outcome, study.trials[0].reason) == ("pruned", "enough")
    assert not study.stopping
    assert study.optuna.trials[0].state.name == "PRUNED"
    study.stop(0, "again")  # it is over: nothing happens
    assert study.trials[0].reason == "enough"
    following = study.next()
    assert following is not None
    assert following.trial == 1
    study.close()


def test_a_stopped_trial_gets_no_more_replicates(
    space: Callable[..., Space], tmp_path: Path
) -> None:
    """What has finished of it counts; what waits for a worker does not train any more."""
    study = create(tmp_path / "a", space(trials=1, replicates=3))
    run_one(study, Ending("finished", ""), epochs=9)
    study.stop(0)

    (trial,) = study.trials
    assert trial.outcome == "finished"
    assert trial.n == 1
    assert study.next() is None
    study.close()


def test_seeds_that_a_finished_trial_was_given_since_are_stopped(
    space: Callable[..., Space], tmp_path: Path
) -> None:
    """The one that runs ends as pruned, the one that waits does not train; its result stays."""
    study = create(tmp_path / "a", space(trials=1))
    run_one(study, Ending("finished", ""), epochs=9)
    assert not study.unfinished(0)
    study.close()
    study = Study.drive(tmp_path / "a", space(trials=1, replicates=3), examine)
    study.edited({"search.replicates": (1, 3)})
    assert study.unfinished(0)
    second = study.next()
    assert second is not None
    study.start(second, "virtual:1")
    study.stop(0)
    assert dict(study.stopping) == {0: "stopped by hand"}
    ending = study.report(0, second.replicate, {"epoch": 1, "val_accuracy": 0.5})

    assert ending == Ending("pruned", "stopped by hand")
    (trial,) = study.trials
    assert [replicate.outcome for replicate in trial.replicates] == ["finished", "pruned", "pruned"]
    assert (trial.outcome, trial.n) == ("finished", 1)
    assert not study.unfinished(0)
    assert not study.stopping
    assert study.next() is None
    study.close()


def test_memory_that_is_not_enough_halves_the_batch(
    space: Callable[..., Space], tmp_path: Path
) -> None:
    """`oom: halve_batch` trains anew with halves of halves, under a run key of their own."""
    study = create(tmp_path / "a", space(trials=1, oom="halve_batch"))
    first = run_one(study, Ending("oom", "2 GiB"), epochs=2)
    second = run_one(study, Ending("oom", "2 GiB"))
    third = study.next()

    assert third is not None
    assert [a.config["training"].get("accumulate") for a in (first, second, third)] == [None, 2, 4]
    assert len({first.key, second.key, third.key}) == 3
    assert third.known == 0  # the epochs of the larger batch are another recipe's
    study.start(third, "virtual:1")
    study._open.close()

    study = Study.drive(tmp_path / "a", study.space, examine)
    again = study.next()
    assert again is not None
    assert again.key == third.key
    assert study.trials[0].accumulate == 4
    study.close()


def test_a_batch_is_not_halved_below_two(space: Callable[..., Space], tmp_path: Path) -> None:
    """Parts of two images are the smallest that batch norm can do with: then it is oom for good."""
    study = create(tmp_path / "a", space(trials=1, oom="halve_batch"))
    run_one(study, *[Ending("oom", "2 GiB")] * 5)  # 32 images: 16, 8, 4, 2

    assert study.trials[0].outcome == "oom"
    assert study.trials[0].accumulate == 16
    study.close()


def test_by_default_full_memory_is_never_tried_again(
    space: Callable[..., Space], tmp_path: Path
) -> None:
    """The same settings would want the same memory."""
    study = create(tmp_path / "a", space(trials=1))
    run_one(study, Ending("oom", "2 GiB"))

    assert study.trials[0].outcome == "oom"
    study.close()


BROKEN = Ending("invalid", "ValueError: no such file /data/1")


@pytest.mark.parametrize(
    ("endings", "given_up"),
    [
        ([BROKEN] * 3, True),
        ([BROKEN, Ending("invalid", "ValueError: no such file /data/27"), BROKEN], True),
        ([BROKEN, BROKEN, Ending("invalid", "ValueError: 3 channels")], False),
        ([BROKEN, BROKEN, Ending("finished", ""), BROKEN, BROKEN], False),
        ([Ending("finished", ""), BROKEN, BROKEN, BROKEN], True),
        ([Ending("diverged", "loss is nan"), *[Ending("diverged", "loss is inf")] * 2], True),
        ([Ending("finished", ""), *[Ending("diverged", "loss is nan")] * 4], False),
    ],
    ids=["first", "numbers", "reasons", "interrupted", "later", "diverged", "diverged-later"],
)
def test_a_search_that_fails_for_one_reason_is_given_up(
    space: Callable[..., Space], tmp_path: Path, endings: list[Ending], given_up: bool
) -> None:
    """Three in a row for one reason end it; what only says something of a config does so first."""
    study = create(tmp_path / "a", space(trials=9, sampler={"name": "RandomSampler"}))
    for ending in endings:
        run_one(study, ending, epochs=9 if ending.outcome == "finished" else 0)

    assert (study.next() is None) == given_up
    assert ("one reason" in study.why_done) == given_up
    study.close()
    assert bool(study.history.halted) == given_up
    assert study.history.ended is None


def test_what_came_through_before_a_resume_counts(
    space: Callable[..., Space], tmp_path: Path
) -> None:
    """A search that has finished trials is not given up for three that diverge after a restart."""
    study = create(tmp_path / "a", space(trials=9, sampler={"name": "RandomSampler"}))
    run_one(study, Ending("finished", ""), epochs=9)
    study._open.close()

    study = Study.drive(tmp_path / "a", study.space, examine)
    study.begin(pid=1, host="here", executor="inprocess")
    run_one(study, *[Ending("diverged", "loss is nan")] * 3)
    assert study.next() is not None
    study.close()


def test_the_pruner_forgets_what_a_larger_batch_reported(
    space: Callable[..., Space], tmp_path: Path
) -> None:
    """After `halve_batch` a trial is judged by its own curve, live and rebuilt."""
    study = create(
        tmp_path / "a",
        space(
            trials=1,
            oom="halve_batch",
            pruner={"name": "ThresholdPruner", "lower": 0.3, "n_warmup_steps": 2},
        ),
    )
    run_one(study, Ending("oom", "2 GiB"), epochs=2)  # at 0.5: above the threshold
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "virtual:1")
    assert study.report(0, 0, {"epoch": 1, "val_accuracy": 0.1}) is None
    ending = study.report(0, 0, {"epoch": 2, "val_accuracy": 0.2})

    assert ending is not None
    assert ending.outcome == "pruned"
    assert study._memory.pruning.study.trials[0].intermediate_values == {1: 0.1, 2: 0.2}
    study.close()
    rebuilt = Study.read(tmp_path / "a", study.space)
    assert rebuilt._memory.pruning.study.trials[0].intermediate_values == {1: 0.1, 2: 0.2}


def test_a_search_given_up_goes_on_when_asked(space: Callable[..., Space], tmp_path: Path) -> None:
    """What was wrong may have been mended: the next driver counts failures anew."""
    study = create(tmp_path / "a", space(trials=9, sampler={"name": "RandomSampler"}))
    run_one(study, BROKEN, BROKEN, BROKEN)
    study.close()

    study = Study.drive(tmp_path / "a", study.space, examine)
    study.begin(pid=1, host="here", executor="inprocess")
    run_one(study, BROKEN)
    assert study.next() is not None
    assert study.history.halted is None
    study.close()


def test_tpe_sees_the_front_and_the_newest(
    space: Callable[..., Space], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reads for a proposal stops growing; a rebuilt study shows it the same trials."""
    monkeypatch.setattr(main_study, "RECENT", 10)
    study = finish(create(tmp_path / "a", space(trials=40)))
    main = study._memory.sampling.main
    rebuilt = Study.read(study.folder, study.space)._memory.sampling.main

    with main._storage.shown(True), rebuilt._storage.shown(True):
        seen = {trial.number for trial in main.optuna.get_trials(deepcopy=False)}
        again = {trial.number for trial in rebuilt.optuna.get_trials(deepcopy=False)}
    front = {trial.number for trial in main.optuna.best_trials}
    newest = sorted(main.optuna.trials, key=lambda trial: trial.datetime_complete)[-10:]
    assert len(main.optuna.trials) >= 40
    assert seen == again == front | {trial.number for trial in newest}
