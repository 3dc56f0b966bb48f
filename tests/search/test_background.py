"""Work in the background rests while something is timed, and catches up afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import trainers
from search import background
from search.background import Background, undisturbed
from search.execution import worker
from search.execution.worker import Workplace
from search.trial import Assignment, Ending

SOON = 0.5
"""Seconds in which work that nothing holds back begins, many times over."""
LATE = 30.0
"""Seconds after which a test gives up: no figure, however slow the machine."""


class Recording:
    """Background work in two pieces, each of which says when it has begun and waits to go on."""

    def __init__(self) -> None:
        self.began = (threading.Event(), threading.Event())
        self.go_on = threading.Event()
        self.background = Background(self._work, self._failed, share=1.0)
        self.failures: list[Exception] = []

    def _work(self, last: bool) -> None:
        if last:
            return
        self.began[0].set()
        assert self.go_on.wait(LATE)
        self.background.pause()
        self.began[1].set()

    def _failed(self, error: Exception) -> None:
        self.failures.append(error)


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """Its thread ends with the test; what earlier tests have left hanging is not looked at."""
    monkeypatch.setattr(background, "_INTERPRETER", background._Interpreter())
    found = Recording()
    yield found
    found.go_on.set()
    assert found.background.close(LATE, LATE)
    assert found.failures == []


def test_no_work_begins_while_something_is_timed(recording: Recording) -> None:
    """Woken meanwhile it waits, and is done afterwards."""
    with undisturbed():
        recording.background.wake()
        assert not recording.began[0].wait(SOON)
    assert recording.began[0].wait(LATE)


def test_work_under_way_is_waited_for_until_its_pause(recording: Recording) -> None:
    """What is timed begins after the first piece, and the second begins after it has ended."""
    order: list[str] = []

    def time_something() -> None:
        with undisturbed():
            order.append("between" if not recording.began[1].wait(SOON) else "beside")

    computing = threading.Event()

    def compute() -> None:  # a process that computes is no process that waits for its store
        while not computing.is_set():
            sum(range(1000))

    recording.background.wake()
    assert recording.began[0].wait(LATE)
    busy, timing = threading.Thread(target=compute), threading.Thread(target=time_something)
    busy.start()
    timing.start()
    timing.join(2 * SOON)
    assert order == []
    recording.go_on.set()
    timing.join(LATE)
    computing.set()
    busy.join(LATE)
    assert order == ["between"]
    assert recording.began[1].wait(LATE)


def test_work_that_waits_for_its_store_holds_nothing_up(recording: Recording) -> None:
    """A store that hangs is not waited for: nothing computes then."""
    recording.background.wake()
    assert recording.began[0].wait(LATE)
    with undisturbed():
        assert not recording.began[1].is_set()


def test_an_attempt_measures_alone(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is recorded between the first and the last pass of a measurement."""
    measure = trainers.latency
    beside: list[bool] = []

    def latency(*args: Any, **kwargs: Any) -> Any:
        recording.background.wake()
        found = measure(*args, **kwargs)
        beside.append(recording.began[0].wait(SOON))
        return found

    monkeypatch.setattr(trainers, "latency", latency)
    config = {
        "name": "timed",
        "dataset": {"name": "digits", "subset": 100},
        "backbone": {"name": "resnet", "depth": 8, "width": 0.25},
        "training": {"epochs": 1, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.1}},
    }
    place = Workplace(str(tmp_path), batch_sizes=(1,), repeats=6)
    *told, ending = worker.attempt(Assignment(0, 0, 1, 0, "key", config, 0, []), place)
    assert isinstance(ending, Ending)
    assert ending.outcome == "finished", ending
    assert isinstance(told[0], dict)
    assert told[0]["latency"][0]["repeats"] == 6
    assert beside == [False]
    assert recording.began[0].wait(LATE)
