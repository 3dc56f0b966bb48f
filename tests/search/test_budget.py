"""What a study may spend: no training begins that the budget does not pay for, whatever happens."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import spaces
from search.cli import main
from search.report import budget
from search.study.history import History
from search.study.study import Study
from search.trial import Assignment, Candidate, Ending
from spaces import Space

SPACE = """\
name: metered
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {float: [0.25, 2.0]}}
training: {epochs: 5, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
"""
EPOCHS = 5
MINUTE = 60.0


class Clock:
    """Unix time that a test moves."""

    def __init__(self) -> None:
        self.now = 1.8e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def space(tmp_path: Path) -> Callable[..., Space]:
    """A space of as many networks as there are numbers, with a search section of one's own."""

    def make(**search: Any) -> Space:
        path = tmp_path / "metered.yaml"
        given = {"trials": 1000, "sampler": {"name": "RandomSampler"}, **search}
        path.write_text(f"{SPACE}search: {json.dumps(given)}\n")
        return spaces.load(path)

    return make


def examine(values: dict[str, Any]) -> Candidate:
    key = repr(values["backbone.width"])
    config = {"training": {"epochs": EPOCHS, "batch_size": 32}}
    return Candidate(config, key, key, {"params": 1.0, "macs": 1.0}, {}, "", key)


def create(folder: Path, space: Space, clock: Clock, *, gpu: float = 0.0) -> Study:
    reference = {"params": 2.0, "macs": 2.0}
    study = Study.create(folder, space, examine, reference=reference, chance=0.1, clock=clock)
    study.begin(pid=1, host="here", executor="inprocess", gpu=gpu)
    return study


def drive(study: Study, clock: Clock, *, workers: int = 1, every: float = MINUTE) -> Iterator[None]:
    """So many workers, each of which takes `every` seconds for an epoch; a step is one round."""
    running: list[Assignment] = []
    while True:
        while len(running) < workers and (assignment := study.next()) is not None:
            study.start(assignment, "virtual:1")
            running.append(assignment)
        if not running:
            return
        clock.now += every
        for assignment in list(running):
            place = assignment.trial, assignment.replicate
            epoch = len(study.history.trials[place[0]].replicates[place[1]].curve) + 1
            ending = study.report(*place, {"epoch": epoch, "val_accuracy": 0.5})
            if ending is None and epoch == EPOCHS:
                study.end(*place, Ending("finished", ""))
            if ending is not None or epoch == EPOCHS:
                running.remove(assignment)
        yield


def finish(study: Study, clock: Clock, **how: Any) -> Study:
    for _ in drive(study, clock, **how):
        pass
    assert study.done
    study.close()
    return study


def trained(study: Study) -> int:
    """Epochs in the journal."""
    return sum(trial.epochs for trial in study.trials)


@pytest.mark.parametrize("workers", [1, 4])
def test_epochs_are_never_overspent(
    space: Callable[..., Space], tmp_path: Path, clock: Clock, workers: int
) -> None:
    """What runs is reserved: of 28 epochs 25 go to five whole trainings, on one worker or four."""
    study = finish(
        create(tmp_path / "a", space(budget={"epochs": 28}), clock), clock, workers=workers
    )
    study = Study.read(study.folder, study.space)

    assert [trial.outcome for trial in study.trials] == ["finished"] * 5
    assert trained(study) == 25
    assert study.history.ended == "budget.epochs: 25 of 28 spent, the next training takes 5"


def test_further_seeds_count(space: Callable[..., Space], tmp_path: Path, clock: Clock) -> None:
    """Each seed of a network is a training."""
    study = finish(create(tmp_path / "a", space(budget={"epochs": 20}, replicates=2), clock), clock)

    assert [trial.n for trial in study.trials] == [2, 2]
    assert trained(study) == 20


def test_retries_count(space: Callable[..., Space], tmp_path: Path, clock: Clock) -> None:
    """Epochs that a second attempt trains again are spent as well, though the curve has them."""
    study = create(tmp_path / "a", space(budget={"epochs": 10}), clock)
    first = study.next()
    assert first is not None
    study.start(first, "virtual:1")
    for epoch in (1, 2, 3):
        study.report(0, 0, {"epoch": epoch, "val_accuracy": 0.5})
    study.end(0, 0, Ending("crashed", "its worker died"))
    again = study.next()
    assert again is not None
    assert again.attempt == 2
    study.start(again, "virtual:2")
    for epoch in range(1, 6):
        study.report(0, 0, {"epoch": epoch, "val_accuracy": 0.5})
    study.end(0, 0, Ending("finished", ""))

    assert study.history.spending.spent().epochs == 8  # three, and five of which three again
    assert study.next() is None  # two are left
    assert study.done
    study.close()
    read = Study.read(study.folder, study.space)
    assert read.history.spending.spent() == study.history.spending.spent()


def test_what_dead_drivers_trained_again_counts(
    space: Callable[..., Space], tmp_path: Path, clock: Clock
) -> None:
    """Two drivers die at the third epoch, without a word: all that they trained is spent."""
    study = create(tmp_path / "a", space(budget={"epochs": 100}), clock)
    for attempt in (1, 2, 3):
        assignment = study.next()
        assert assignment is not None
        assert assignment.attempt == attempt
        study.start(assignment, "virtual:1")
        for epoch in (1, 2, 3):
            device = {"device": f"device {attempt}"} if epoch == 1 else {}
            study.report(0, 0, {"epoch": epoch, "val_accuracy": 0.5, **device})
        assert study.history.spending.spent().epochs == 3 * attempt
        if attempt < 3:
            study.commit()
            assert study._journal is not None
            study._journal.close()  # and no word more, as where it is killed
            study = Study.drive(study.folder, study.space, examine, clock=clock)
    for epoch in (4, 5):
        study.report(0, 0, {"epoch": epoch, "val_accuracy": 0.5})
    study.end(0, 0, Ending("finished", ""))
    study.close()

    read = Study.read(study.folder, study.space)
    assert read.history.spending.spent().epochs == 11
    attempts = read.trials[0].replicates[0].attempts
    assert [attempt.device for attempt in attempts] == ["device 1", "device 2", "device 3"]
    assert [attempt.epochs for attempt in attempts] == [3, 3, 5]
    assert budget.records(read)[-1]["epochs"] == 11
    assert "6 more were trained to no gain" in str(budget.section(read))


def test_nothing_is_trained_again_past_the_budget(
    space: Callable[..., Space], tmp_path: Path, clock: Clock
) -> None:
    """An attempt that trains again what is known ends where that has spent the rest."""
    study = create(tmp_path / "a", space(budget={"epochs": 6}), clock)
    for epochs in (4, 2):
        assignment = study.next()
        assert assignment is not None
        study.start(assignment, "virtual:1")
        endings = [
            study.report(0, 0, {"epoch": epoch, "val_accuracy": 0.5})
            for epoch in range(1, epochs + 1)
        ]
        study.end(0, 0, Ending("crashed", "its worker died"))

    assert endings[0] is None
    assert endings[1] == Ending("interrupted", "budget.epochs: 6 of 6 spent")
    assert len(study.trials[0].replicates[0].curve) == 4
    study.close()


def test_a_journal_of_before_says_at_the_end_what_was_repeated() -> None:
    """Earlier releases counted what an attempt trained again in the record of its end."""
    config = {"training": {"epochs": 5}}
    facts = {"values": {}, "config": config, "label": "", "identity": "a", "key": "a"}
    facts |= {"costs": {}, "kernels": {}, "placement": ""}
    place = {"time": 0.0, "fence": 1, "trial": 0, "replicate": 0}
    history = History(
        [
            {"kind": "ask", **place, **facts},
            {"kind": "start", **place, "attempt": 1, "seed": 1, "worker": ""},
            {"kind": "epoch", **place, "metrics": {"epoch": 1}},
            {"kind": "end", **place, "outcome": "crashed", "reason": "", "final": False}
            | {"repeated": 3},
        ]
    )

    assert history.spending.spent().epochs == 4
    assert history.trials[0].replicates[0].attempts[0].epochs == 4


def test_gpu_hours_are_of_every_gpu(
    space: Callable[..., Space], tmp_path: Path, clock: Clock
) -> None:
    """Two GPUs for five minutes are ten GPU-minutes: an hour pays for six trainings."""
    study = create(tmp_path / "a", space(budget={"gpu_hours": 1.0}), clock, gpu=2.0)
    finish(study, clock, workers=2)

    assert [trial.outcome for trial in study.trials] == ["finished"] * 6
    spent = study.history.spending.spent()
    assert spent.gpu_hours == pytest.approx(1.0)
    assert spent.hours == pytest.approx(0.25)
    assert budget.records(study)[-1]["worker_hours"] == pytest.approx(0.5)
    assert budget.records(study)[-1]["gpu_hours"] == pytest.approx(1.0)


def test_nothing_begins_that_the_rest_does_not_pay_for(
    space: Callable[..., Space], tmp_path: Path, clock: Clock
) -> None:
    """A training took a tenth of an hour so far: of 0.25 hours two are paid for and no third."""
    study = create(tmp_path / "a", space(budget={"hours": 0.25}), clock)
    finish(study, clock, every=MINUTE * 1.2)

    assert [trial.outcome for trial in study.trials] == ["finished"] * 2
    said = "budget.hours: 0.2 of 0.25 spent, the next training takes about 0.1"
    assert study.history.ended == said


def test_what_runs_when_it_is_spent_is_interrupted_after_its_epoch(
    space: Callable[..., Space], tmp_path: Path, clock: Clock
) -> None:
    """The first training turns out longer than the whole budget: it stops, and is no failure."""
    study = create(tmp_path / "a", space(budget={"hours": 0.04}), clock)
    finish(study, clock)

    (trial,) = study.trials
    assert trial.outcome is None
    assert len(trial.replicates[0].curve) == 3  # 0.05 hours
    assert trial.replicates[0].attempts[-1].outcome == "interrupted"
    assert study.history.ended is not None
    assert study.history.ended.startswith("budget.hours: 0.05 of 0.04 spent")


def test_a_larger_budget_goes_on(space: Callable[..., Space], tmp_path: Path, clock: Clock) -> None:
    """The training that was interrupted goes on where it was, then others."""
    folder = finish(
        create(tmp_path / "a", space(budget={"hours": 0.04}, trials=2), clock), clock
    ).folder
    clock.now += 1e6  # nobody drives for eleven days: that is not spent
    study = Study.drive(folder, space(budget={"hours": 1}, trials=2), examine, clock=clock)
    assert not study.done
    study.begin(pid=2, host="here", executor="inprocess", gpu=0.0)
    finish(study, clock)

    assert [trial.outcome for trial in study.trials] == ["finished", "finished"]
    assert [len(a.replicates[0].attempts) for a in study.trials] == [2, 1]
    assert study.history.ended == "2 of 2 trials"
    assert study.history.spending.spent().hours == pytest.approx(10 / 60)


def test_a_dead_driver_s_attempts_end_when_it_did(
    space: Callable[..., Space], tmp_path: Path, clock: Clock
) -> None:
    """A driver killed on Friday and followed on Monday has not held its GPUs over the weekend."""
    study = create(tmp_path / "a", space(budget={"gpu_hours": 10}), clock, gpu=1.0)
    for _ in itertools.islice(drive(study, clock, workers=2), 3):
        pass
    study.commit()
    study._open._lease.release()  # as the kernel does with a dead one's lock
    clock.now += 60 * 3600
    after = Study.drive(study.folder, study.space, examine, clock=clock)
    after.begin(pid=2, host="here", executor="inprocess", gpu=1.0)
    clock.now += MINUTE

    # three rounds of two workers; then, as far as the lease's own file says, a moment
    assert after.history.spending.spent(clock.now).gpu_hours == pytest.approx(0.1)
    assert after.history.spending.spent(clock.now).hours == pytest.approx(4 / 60)
    after.close()


def test_without_a_budget_what_is_spent_is_known(
    space: Callable[..., Space], tmp_path: Path, clock: Clock
) -> None:
    """It is counted all the same, from the journal alone."""
    study = finish(create(tmp_path / "a", space(trials=3), clock, gpu=0.5), clock)
    spent = Study.read(study.folder, study.space).history.spending.spent()

    assert spent.epochs == 15
    assert spent.gpu_hours == pytest.approx(0.125)
    assert spent.hours == pytest.approx(0.25)


def test_results_taken_over_are_not_spent_again(
    space: Callable[..., Space], tmp_path: Path, clock: Clock
) -> None:
    """A fork's budget is its own: the study that it came from has paid for what it brings."""
    old = finish(create(tmp_path / "a", space(trials=3), clock), clock)
    fork = create(tmp_path / "b", space(budget={"epochs": 5}, trials=5), clock)
    for trial in old.trials:
        fork.carry(trial, trial.values)
    fork.carried(3)
    finish(fork, clock)

    assert [trial.outcome for trial in fork.trials] == ["finished"] * 4
    assert fork.history.spending.spent().epochs == 5


def test_the_command_line_says_what_is_spent(
    write_space: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real search ends at its budget with exit 0, says how to go on, and does so."""
    path = write_space(search="budget: {epochs: 7}", width="{float: [0.25, 0.5]}", epochs=3)
    runs = tmp_path / "runs"
    folder = str(runs / "small")

    assert main(["run", str(path), "--out", str(runs)]) == 0
    ended = "budget.epochs: 6 of 7 spent, the next training takes 3"
    told = capsys.readouterr().out
    assert "small: 2 of 4 trials: 2 finished" in told
    assert f"over: {ended}" in told
    assert f"resume {folder} search.budget.epochs=N" in told
    assert main(["status", folder]) == 0
    assert "budget   6 of 7 epochs\n" in capsys.readouterr().out

    assert main(["resume", folder]) == 0  # nothing to be had without more
    assert f"small is finished ({ended})" in capsys.readouterr().err
    assert main(["resume", folder, "search.budget.epochs=9"]) == 0
    capsys.readouterr()
    assert main(["status", folder, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["trials"]["finished"] == 3
    assert status["budget"]["epochs"] == {"spent": 9, "limit": 9}
    assert status["budget"]["gpu_hours"] == {"spent": 0.0, "limit": None}
