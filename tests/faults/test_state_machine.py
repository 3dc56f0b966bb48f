"""Any sequence of reports, endings, kills, full disks and resumes, against an undisturbed study.

Two real studies are led through the same decisions. One has its driver killed, at times in the
middle of a record, its disk filled and its MLflow taken away; the other, the twin, never hears of
it. What was acknowledged must be the same in both at any time, and so must what comes next.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

import spaces
from search.study.history import replicate_of
from search.study.journal import FILE
from search.study.study import Study
from search.tracking.projection import Snapshot, trial_run
from search.trial import Assignment, Ending
from spaces import durable

EPOCHS = 3
SPACE = """\
name: torture
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {float: [0.25, 1.5], step: 0.25}}
attention:
  choice:
    - {name: none}
    - {name: eca, mapping: {name: constant, kernel_size: {choice: [1, 3, 5]}}}
training: {epochs: 3, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
"""
SAMPLERS = (
    {"name": "TPESampler", "n_startup_trials": 2},
    {"name": "NSGAIISampler", "population_size": 3},
    {"name": "RandomSampler"},
)
PRUNERS = (None, {"name": "MedianPruner", "n_startup_trials": 1}, {"name": "ParetoPruner"})
FAILING = ("crashed", "preempted", "oom", "host_oom", "timeout", "invalid")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

Place = tuple[int, int]


@dataclass(frozen=True)
class Decision:
    """One thing that happens to a study; `place` is (trial, replicate), None a new proposal."""

    kind: str
    place: Place | None = None
    word: str = ""

    def happen(self, study: Study) -> Any:
        """Let it happen; returns what a twin must return too."""
        if self.kind == "hand":
            return _hand(study, self.place)
        assert self.place is not None
        if self.kind == "report":
            return study.report(*self.place, _metrics(study, self.place, self.word))
        if self.kind == "stop":
            return study.stop(self.place[0])
        return study.end(*self.place, Ending(self.word, f"{self.word} on purpose"))


def _hand(study: Study, place: Place | None) -> Assignment | None:
    """Start what waits at the place, or a new proposal."""
    if place is None:
        assignment = study.next()
    else:
        study._queue.remove(place)  # the order in which things wait is an executor's own affair
        assignment = study._assignment(*place)
    if assignment is not None:
        study.start(assignment, "virtual:1")
    return assignment and (assignment.trial, assignment.replicate, assignment.known)


def _metrics(study: Study, place: Place, word: str) -> dict[str, Any]:
    """The next epoch: a function of network, seed and epoch; or a bad one."""
    key = study.history.trials[place[0]].key_of(place[1])
    epoch = _epochs(study, place) + 1
    noise = int.from_bytes(f"{key}{epoch}".encode(), "big") % 997
    accuracy = {"": 0.1 + noise / 2000, "nan": float("nan"), "bad": "none"}[word]
    return {"epoch": epoch, "val_accuracy": accuracy}


def _epochs(study: Study, place: Place) -> int:
    replicate = replicate_of(study.history.trials[place[0]], place[1])
    return len(replicate.curve) if replicate else 0


class Torture(RuleBasedStateMachine):
    """The study, its twin, and what is decided but not yet acknowledged."""

    victim: ModuleType

    @initialize(
        sampler=st.sampled_from(SAMPLERS),
        pruner=st.sampled_from(PRUNERS),
        replicates=st.integers(1, 2),
        duplicates=st.sampled_from(["copy", "replicate"]),
        oom=st.sampled_from(["fail", "halve_batch"]),
        trials=st.integers(2, 6),
    )
    def begin(self, **search: Any) -> None:
        """A study of one's own, and its twin."""
        self.scratch = Path(tempfile.mkdtemp(dir=MEMORY))
        failures = {"consecutive": 1000, "crashed": 1, "preempted": 1}
        limits = {"params": 1300}
        text = f"{SPACE}search: {json.dumps({**search, 'failures': failures, 'limits': limits})}\n"
        self.space = spaces.load(Path("torture.yaml"), text=text)
        ticks = itertools.count(1_700_000_000)
        self.clock = lambda: float(next(ticks))
        self.study = self.victim.create(self.scratch / "study", self.space, clock=self.clock)
        self.twin = self.victim.create(self.scratch / "twin", self.space, clock=self.clock)
        self.pending: list[tuple[Decision, int, int, Any]] = []
        self.shown: dict[str, str] = {}
        self.unshown: set[int] = set()
        self.mlflow = True
        self.acknowledge()

    # ---- what happens ----------------------------------------------------------------------

    @property
    def journal(self) -> Path:
        return self.scratch / "study" / FILE

    def running(self) -> list[Place]:
        return self.study._running()

    @rule(data=st.data())
    def hand_out(self, data: st.DataObject) -> None:
        """A worker is free: something that waits goes first, as it does in every executor."""
        waiting = sorted(self.study._queue)
        place = data.draw(st.sampled_from(waiting)) if waiting else None
        if len(self.running()) < 4:
            self.decide(Decision("hand", place))

    @precondition(lambda self: self.running())
    @rule(data=st.data(), word=st.sampled_from(["", "", "", "", "", "", "nan", "bad"]))
    def report(self, data: st.DataObject, word: str) -> None:
        """An epoch of a running attempt; after the last one it has finished."""
        place = data.draw(st.sampled_from(self.running()))
        over = _epochs(self.study, place) == EPOCHS
        self.decide(Decision("end", place, "finished") if over else Decision("report", place, word))

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def train_to_the_end(self, data: st.DataObject) -> None:
        """A running attempt comes to its end, one way or the other."""
        place = data.draw(st.sampled_from(self.running()))
        while place in self.running():
            over = _epochs(self.study, place) == EPOCHS
            self.decide(Decision("end", place, "finished") if over else Decision("report", place))

    @precondition(lambda self: self.running())
    @rule(data=st.data(), word=st.sampled_from(FAILING))
    def fail(self, data: st.DataObject, word: str) -> None:
        """A running attempt ends badly."""
        self.decide(Decision("end", data.draw(st.sampled_from(self.running())), word))

    @precondition(lambda self: self.study.trials)
    @rule(data=st.data())
    def stop_trial(self, data: st.DataObject) -> None:
        """A person stops a trial, whatever it does just now."""
        number = data.draw(st.integers(0, len(self.study.trials) - 1))
        self.decide(Decision("stop", (number, 0)))

    @rule()
    def acknowledge(self) -> None:
        """Commit: from here on nothing of it may be lost; MLflow is told."""
        self.study.commit()
        durable.arm(None)  # no disk is ever full for the twin
        for decision, _, _, said in self.pending:
            assert decision.happen(self.twin) == said
        self.pending.clear()
        self.show()

    @rule()
    def mlflow_comes_and_goes(self) -> None:
        """While it is away, what changes is kept; when it is back, it is written."""
        self.mlflow = not self.mlflow

    # ---- what goes wrong -------------------------------------------------------------------

    @rule(share=st.floats(0, 1))
    def kill(self, share: float) -> None:
        """SIGKILL: of what was not acknowledged, only some bytes have reached the disk."""
        book = self.study._journal
        assert book is not None
        size = book._durable.size + round(share * (book._size - book._durable.size))
        book._lease._released.set()
        book._lease._beating.join()
        book._lease._lock.release()
        book._syncer.shutdown()
        os.close(book._file)
        os.truncate(self.journal, size)
        self.resume(size)

    @rule()
    def pause(self) -> None:
        """A signal: the driver ends in order."""
        self.study.close()
        self.resume(self.journal.stat().st_size)

    @rule(
        data=st.data(),
        point=st.sampled_from(["append.begun", "append.torn", "append.written", "commit.begun"]),
        n=st.integers(1, 3),
        lasting=st.booleans(),
    )
    def fill_the_disk(self, data: st.DataObject, point: str, n: int, lasting: bool) -> None:
        """One of the next writes fails, for a moment or until the driver has given up."""
        durable.arm(f"{point}:{n}{'+' * lasting}:enospc")
        try:
            self.hand_out(data)
            if self.running():
                self.train_to_the_end(data)
            self.acknowledge()
            full = False
        except OSError:
            full = True
            size = self.journal.stat().st_size
            try:
                self.study.close()
            except OSError:
                pass  # nor could it say good-bye
        finally:
            durable.arm(None)
        if full:
            self.resume(min(size, self.journal.stat().st_size))

    # ---- and what must hold ----------------------------------------------------------------

    def decide(self, decision: Decision) -> None:
        """Let it happen to the study; the twin hears of it when it is acknowledged."""
        before = self.study._journal._size
        self.pending.append((decision, before, -1, None))
        said = decision.happen(self.study)
        self.pending[-1] = (decision, before, self.study._journal._size, said)

    def resume(self, size: int) -> None:
        """Take the study up again; it is as the twin is, which never stopped."""
        data = self.journal.read_bytes()[:size]
        asking = None
        for decision, before, after, _ in self.pending:
            began = b"\n" in data[before:]  # one record of it at least is there: it was decided
            proposed = decision == Decision("hand") and not 0 <= after <= size
            if began and proposed:
                asking = decision  # the driver ended between its refusals and its proposal
            elif began:
                decision.happen(self.twin)
        self.pending.clear()
        stopped = [place for place in self.twin._running() if place[0] in self.twin.stopping]
        for place in stopped:  # their workers died with the driver
            self.twin.end(*place, Ending("pruned", "stopped by hand"))
        self.study = self.driven("study")
        self.study.begin(pid=1, host="here", executor="inprocess")
        self.hand_back(self.study)
        if asking and stopped:  # told of between the two, which never happens to the twin
            self.twin.close()
            shutil.copy(self.journal, self.scratch / "twin" / FILE)
            self.twin = self.driven("twin")
        self.hand_back(self.twin)
        if asking and not stopped:
            asking.happen(self.twin)
            if set(self.twin._running()) != set(self.study._running()):
                asking.happen(self.study)
        self.study.commit()
        self.compare()
        self.unshown = {trial.number for trial in self.study.trials}
        self.show()

    def driven(self, name: str) -> Study:
        """The study of that name, taken up by a driver."""
        examine = self.victim.examiner(self.space)
        return Study.drive(self.scratch / name, self.space, examine, clock=self.clock)

    def hand_back(self, study: Study) -> None:
        """Every attempt that was running, and all that waited, gets a worker again."""
        for place in list(study._queue):
            _hand(study, place)

    def compare(self) -> None:
        """The same facts, the same memory of the sampler, the same attempts under way."""
        assert [_facts(t) for t in self.study.trials] == [_facts(t) for t in self.twin.trials]
        assert _told(self.study) == _told(self.twin)
        assert set(self.study._running()) == set(self.twin._running())
        assert self.study.counts() == self.twin.counts()
        assert self.study.outcomes() == self.twin.outcomes()
        assert len(self.study.trials) <= self.space.search.trials

    def show(self) -> None:
        """Write to MLflow what has changed, if it is there: each trial under its one name."""
        self.unshown |= {trial.number for trial in self.study.touched()}
        if self.mlflow:
            snapshot = Snapshot.of(self.study, live=True)
            for trial in snapshot.shown:
                if trial.number in self.unshown:
                    run = trial_run(trial, snapshot, "parent")
                    self.shown[run.tags["eca.trial"]] = run.digest
            self.unshown.clear()

    def teardown(self) -> None:
        """The last driver ends in order: nothing runs, MLflow shows every trial, and what is read
        back would propose what the twin proposes.
        """
        if sys.exc_info()[0] is not None or not hasattr(self, "study"):
            return  # what is wrong is known
        self.mlflow = True
        self.acknowledge()
        snapshot = Snapshot.of(self.study, live=True)
        assert self.shown == {
            str(trial.number): trial_run(trial, snapshot, "parent").digest
            for trial in snapshot.shown
        }
        self.kill(1.0)
        self.acknowledge()
        self.decide(Decision("hand"))
        self.acknowledge()
        self.compare()
        for study in (self.study, self.twin):
            study.close()
        read = Study.read(self.scratch / "study", self.space)
        assert not read._running()
        assert all(run.status != "RUNNING" for run in _runs(read))
        shutil.rmtree(self.scratch)


def _runs(study: Study) -> list[Any]:
    snapshot = Snapshot.of(study, live=False)
    return [trial_run(trial, snapshot, "parent") for trial in snapshot.shown]


def _facts(trial: Any) -> Any:
    """A trial without its times and attempts, nor replicates that were stopped while they waited:
    one of a driver that died on the way was never begun.
    """
    replicates = [r for r in trial.replicates if not (r.number and r.outcome == "pruned")]
    return (
        trial.values,
        trial.config,
        trial.key,
        trial.outcome,
        trial.objectives,
        trial.spread,
        [(r.number, r.seed, r.key, r.curve, r.outcome) for r in replicates],
        [alias["values"] for alias in trial.aliases],
    )


def _told(study: Study) -> list[Any]:
    """All that Optuna knows."""
    return [(t.state, t.params, t.values, t.system_attrs) for t in study.optuna.trials]


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:.*torn last record")
@pytest.mark.parametrize("examples", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_nothing_is_lost(examples: int, victim: ModuleType) -> None:
    """Whatever happens, in any order: acknowledged is kept, and the search goes on as it would."""
    machine = type("Torture", (Torture,), {"victim": victim})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# ---- what it has found ---------------------------------------------------------------------------


@pytest.fixture
def begun(victim: ModuleType, tmp_path: Path) -> Callable[..., tuple[Study, Assignment]]:
    """A study with one attempt under way."""

    def make(**search: Any) -> tuple[Study, Assignment]:
        text = f"{SPACE}search: {json.dumps({'trials': 3, **search})}\n"
        study = victim.create(tmp_path / "study", spaces.load(Path("torture.yaml"), text=text))
        assignment = study.next()
        study.start(assignment, "virtual:1")
        return study, assignment

    return make


def test_a_stop_outlives_its_driver(begun: Callable[..., tuple[Study, Assignment]]) -> None:
    """A driver that ends before a stopped trial's worker was told ends it as stopped."""
    study, assignment = begun()
    study.stop(assignment.trial)
    study.close()

    assert study.trials[0].outcome == "pruned"
    assert study.trials[0].reason == "stopped by hand"


def test_too_large_and_halved_are_one_record(
    begun: Callable[..., tuple[Study, Assignment]],
) -> None:
    """No kill comes between the two: a batch that was too large is never tried again as it was."""
    study, assignment = begun(oom="halve_batch")
    study.end(assignment.trial, 0, Ending("oom", "too large"))
    study.commit()
    path = study.folder / FILE

    (end,) = [line for line in path.read_text().splitlines() if '"outcome":"oom"' in line]
    assert '"accumulate":2' in end
    assert path.read_text().splitlines()[-1] == end
    study.close()


def test_useless_proposals_count_on(victim: ModuleType, tmp_path: Path) -> None:
    """What was proposed in vain before a driver's end counts after it: the search turns to an
    unseen point as early as it would have.
    """
    limited = f"{SPACE}search: {{trials: 3, limits: {{params: 1}}}}\n"
    study = victim.create(tmp_path / "study", spaces.load(Path("torture.yaml"), text=limited))
    durable.arm("append.begun:41:enospc")
    try:
        with pytest.raises(OSError, match="No space left"):
            study.next()
    finally:
        durable.arm(None)
        study.close()
    again = Study.drive(study.folder, study.space, victim.examiner(study.space))

    assert again.history.useless == 40
    assert again.next() is None
    assert again.history.asks == 100
    again.close()
