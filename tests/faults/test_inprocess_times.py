"""A trial over its time in this very process: what an alarm reaches, and what it does not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import spaces
from search.execution import inprocess
from search.execution.worker import Workplace
from search.study.study import Study
from search.trial import Assignment, Candidate, Ending

SPACE = """\
name: times
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5]}}
attention: {name: none}
training: {epochs: 3, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
"""
Messages = Iterator[dict[str, float] | Ending]


def examine(values: dict[str, Any]) -> Candidate:
    """A network as large as it is wide."""
    width = values["backbone.width"]
    config = {"training": {"epochs": 3, "batch_size": 32}, "attention": {"name": "none"}}
    costs = {"params": 1000 * width, "macs": 1e6 * width}
    return Candidate(config, f"w{width}", f"w{width}", costs, {}, "", f"w{width}")


def attempt(assignment: Assignment, hang: Callable[[], None]) -> Messages:
    """Three epochs; the first trial hangs after its first, and lets no Exception through."""
    yield {"epoch": 1, "val_accuracy": 0.5}
    if assignment.trial == 0:
        try:
            hang()
        except Exception as error:
            yield Ending("crashed", f"the alarm was swallowed: {error!r}")
    yield {"epoch": 2, "val_accuracy": 0.5}
    yield {"epoch": 3, "val_accuracy": 0.5}
    yield Ending("finished", "")


def spin() -> None:
    """A loop of Python's."""
    while True:
        pass


def sleep() -> None:
    """A call that waits for ever."""
    time.sleep(10**6)


def wait() -> None:
    """For what never comes."""
    threading.Event().wait()


@pytest.fixture
def create(tmp_path: Path) -> Callable[..., Study]:
    """Start a study of two networks with a search section of one's own."""

    def make(**options: Any) -> Study:
        path = tmp_path / "times.yaml"
        path.write_text(f"{SPACE}search: {json.dumps({'trials': 2, **options})}\n")
        reference = {"params": 500, "macs": 500e3}
        folder = tmp_path / "runs" / "times"
        return Study.create(folder, spaces.load(path), examine, reference=reference, chance=0.1)

    return make


@pytest.mark.parametrize("hang", [spin, sleep, wait])
@pytest.mark.parametrize(
    ("timeouts", "reason"),
    [({"no_progress": 0.5}, "no epoch for 0.5 s"), ({"trial": 0.7}, "over 0.7 s in all")],
)
def test_a_trial_that_hangs_ends_and_the_next_trains(
    create: Callable[..., Study],
    hang: Callable[[], None],
    timeouts: dict[str, float],
    reason: str,
) -> None:
    """Python code and calls that wait are interrupted; the trial's own `except` is passed by."""
    study = create(timeouts=timeouts)
    inprocess.drive(study, Workplace("none"), attempt=lambda it, place: attempt(it, hang))
    study.close()

    late, whole = study.trials
    assert (late.outcome, late.reason) == ("timeout", reason)
    assert late.epochs == 1
    assert (whole.outcome, whole.epochs) == ("finished", 3)


def test_an_alarm_that_is_swallowed_rings_again(
    create: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare `except` of a trial's, or a `__del__`, costs a moment and not the timeout."""
    monkeypatch.setattr(inprocess, "AGAIN", 0.2)
    swallowed: list[BaseException] = []

    def hang() -> None:
        while len(swallowed) < 2:
            try:
                time.sleep(20)
                return  # nothing rang again
            except BaseException as late:
                swallowed.append(late)
        time.sleep(20)

    study = create(timeouts={"no_progress": 0.5})
    inprocess.drive(study, Workplace("none"), attempt=lambda it, place: attempt(it, hang))
    study.close()

    late, whole = study.trials
    assert (late.outcome, late.reason) == ("timeout", "no epoch for 0.5 s")
    assert len(swallowed) == 2
    assert (whole.outcome, whole.epochs) == ("finished", 3)


def test_a_trial_stopped_by_hand_ends_at_its_next_epoch(create: Callable[..., Study]) -> None:
    """Nobody can end it earlier from here; the epoch that was under way is kept."""
    study = create()
    inprocess.drive(
        study,
        Workplace("none"),
        attempt=lambda it, place: attempt(it, lambda: study.stop(0)),
    )
    study.close()

    stopped, whole = study.trials
    assert (stopped.outcome, stopped.reason) == ("pruned", "stopped by hand")
    assert stopped.epochs == 2
    assert whole.outcome == "finished"
