"""The desk between a study and Ray's hooks: which of Ray's trials carries which attempt.

It knows the study, times and outcomes; it knows nothing of Ray but the ids of its trials and nodes.
`search.execution.ray_tune` calls it from Ray's hooks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from search.errors import Unfit
from search.execution import notice
from search.execution.worker import Workplace
from search.study import logs
from search.study.study import Study
from search.trial import Assignment, Ending

Watch = Callable[[Study], None]

FINISHED = "FINISHED"
"""What Ray wants to be told when there is nothing more to run."""
RESET = 60.0
"""Seconds in which a worker that did something else before must take an attempt up."""
DOUBT = 30.0
"""Seconds in which a cluster notices that a node is gone."""


@dataclass
class Carried:
    """An attempt that Ray carries; times are monotonic seconds."""

    assignment: Assignment
    asked: float | None = None  # when a worker that did something else before was told of it
    begun: float | None = None
    progress: float = 0.0
    node: str = ""
    ending: Ending | None = None  # why we have killed it; Ray says then that it died
    doubt: float | None = None  # when its worker was lost, its node perhaps with it


@dataclass
class Desk:
    """The study's attempts in Ray's hands.

    `slots` says how many may run now, `nodes` which nodes are alive, `leaving` why the driver is to
    end: then nothing new begins, and what its workers have stored goes on at `resume`.
    """

    study: Study
    workplace: Workplace
    slots: Callable[[], int]
    nodes: Callable[[], set[str]]
    watch: Watch = lambda study: None
    leaving: Callable[[], str] = notice.given
    clock: Callable[[], float] = time.monotonic
    carried: dict[str, Carried] = field(default_factory=dict)
    dying: int = 0
    """Workers that were killed, and whose last words came first: the next attempt meets the end."""
    error: BaseException | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what goes wrong in a hook: Ray would wrap it, or blame the trial."""
        try:
            yield
        except BaseException as error:
            self.error = self.error or error
            raise

    def take(self, trial_id: str) -> dict[str, str] | str | None:
        """The next assignment as a Ray config; None: ask later; FINISHED: there is no more."""
        if self.error is not None:
            return FINISHED
        if self.leaving():
            return None if self.carried else FINISHED
        self.decide()
        slots = self.slots()
        if len(self.carried) < slots:
            assignment = self.study.next()
            if assignment is not None:
                self.carried[trial_id] = Carried(assignment)
                place = json.dumps(asdict(self.workplace))
                return {"assignment": json.dumps(asdict(assignment)), "workplace": place}
        self.refuse_to_wait()
        if self.carried:
            return None
        if not self.study.done:
            raise self._no_room()
        return FINISHED

    def refuse_to_wait(self) -> None:
        """Raise `Unfit` where attempts wait for a place that the cluster has no more."""
        if not self.carried or any(attempt.begun for attempt in self.carried.values()):
            return
        if self.slots() < 1 and not any(attempt.asked for attempt in self.carried.values()):
            raise self._no_room()

    def _no_room(self) -> Unfit:
        return Unfit(
            "the cluster has no room for a trial any more; the study is paused\n"
            f"  go on where there is: eca-search resume {self.study.folder}"
        )

    def ask(self, trial_id: str) -> None:
        """A worker that did something else before was told of the attempt, now or earlier."""
        attempt = self.carried.get(trial_id)
        if attempt is not None and attempt.asked is None:
            attempt.asked = self.clock()

    def start(self, trial_id: str, worker: str, node: str = "") -> None:
        """The attempt's worker (`host:pid`) has taken it up, on a node."""
        attempt = self.carried[trial_id]
        attempt.begun = attempt.progress = self.clock()
        attempt.node = node
        self.study.start(attempt.assignment, worker)

    def report(self, trial_id: str, metrics: dict[str, Any]) -> bool:
        """One epoch came in; True: stop the attempt."""
        attempt = self.carried.get(trial_id)
        if attempt is None or attempt.ending is not None:
            return False  # its worker is being killed: its end will be told
        if attempt.begun is None:
            self.start(trial_id, "")  # whoever it is, it has begun
        attempt.progress = self.clock()
        it = attempt.assignment
        ending = self.study.report(it.trial, it.replicate, metrics)
        if ending is None and metrics.get("epoch") != it.config["training"]["epochs"]:
            ending = self._crowded_out(trial_id)
        return ending is not None

    def _crowded_out(self, trial_id: str) -> Ending | None:
        """Interrupt an attempt after its epoch where a person wants fewer at a time; the newest go
        first. What the cluster has lost places for, Ray tells of.
        """
        at_most = self.study.at_most
        if at_most is None or trial_id in list(self.carried)[:at_most]:
            return None
        ending = Ending("interrupted", f"at most {at_most} trials at a time, by hand")
        it = self.carried[trial_id].assignment
        self.study.end(it.trial, it.replicate, ending)
        return ending

    def complete(self, trial_id: str, epochs: list[dict[str, Any]], ending: Ending | None) -> None:
        """The attempt is over by its own word, or (`ending` None) because `report` said stop.

        Its last `epochs` may come along.
        """
        attempt = self.carried.get(trial_id)
        if attempt is not None and attempt.ending is not None:
            attempt.ending = None
            self.dying += 1
        if ending is not None:
            any(self.report(trial_id, metrics) for metrics in epochs)  # up to one that ends it
        self.end(trial_id, ending)

    def died(self, trial_id: str, ending: Ending, *, lost: bool, said: str = "") -> None:
        """The attempt's worker died: as we wanted, or as `ending` says.

        With `lost` nobody knows why, and its node may be gone as well: that is found out first.
        `said` is all that is known, for the attempt's log.
        """
        attempt = self.carried.get(trial_id)
        if attempt is None:
            return
        if said and attempt.begun is not None and attempt.ending is None:
            it = attempt.assignment
            logs.append(self.study.folder, it.trial, it.replicate, it.attempt, said)
        if attempt.ending is not None:
            self.end(trial_id, attempt.ending)
        elif attempt.begun is None and self.dying:
            self.dying -= 1
            self.end(trial_id, Ending("interrupted", "its worker was killed before it began"))
        elif attempt.node and attempt.node not in self.nodes():
            self.end(trial_id, Ending("preempted", ending.reason))
        elif lost and attempt.node:
            attempt.ending, attempt.doubt = ending, self.clock()
        else:
            self.end(trial_id, ending)

    def decide(self) -> None:
        """End the attempts whose workers were lost as soon as it is known what became of them."""
        lost = [(name, it) for name, it in self.carried.items() if it.doubt is not None]
        for trial_id, attempt in lost:
            assert attempt.ending is not None
            assert attempt.doubt is not None
            if attempt.node not in self.nodes():
                self.end(trial_id, Ending("preempted", attempt.ending.reason))
            elif self.clock() - attempt.doubt > DOUBT:
                self.end(trial_id, attempt.ending)

    def end(self, trial_id: str, ending: Ending | None) -> None:
        """Close the book on a Ray trial; `ending` is None when the study has ended it itself."""
        attempt = self.carried.pop(trial_id, None)
        if attempt is None:
            return
        if ending is not None and ending.outcome == "preempted" and self.leaving():
            ending = Ending("interrupted", ending.reason)  # it was the driver that ended it
        if attempt.begun is None:
            self.study.start(attempt.assignment, "")  # no worker came up: an attempt all the same
        if ending is not None:
            self.study.end(attempt.assignment.trial, attempt.assignment.replicate, ending)

    def condemned(self) -> list[str]:
        """Attempts whose workers are to be killed now, each once; why is remembered."""
        found = []
        for trial_id, attempt in self.carried.items():
            if attempt.ending is None:
                attempt.ending = self._sentence(attempt)
                if attempt.ending is not None:
                    found.append(trial_id)
        return found

    def _sentence(self, attempt: Carried) -> Ending | None:
        """Why an attempt is to be killed, if it is: a person's wish, or one of its times."""
        limits, now = self.study.space.search.timeouts, self.clock()
        if attempt.begun is None:
            if attempt.asked is not None and now - attempt.asked > RESET:
                return Ending("interrupted", f"its worker did not take it up for {RESET:g} s")
            return None
        stopped = self.study.stopping.get(attempt.assignment.trial)
        if stopped is not None:
            return Ending("pruned", stopped)
        if limits.trial is not None and now - attempt.begun > limits.trial:
            return Ending("timeout", f"over {limits.trial:g} s in all")
        if limits.no_progress is not None and now - attempt.progress > limits.no_progress:
            return Ending("timeout", f"no epoch for {limits.no_progress:g} s")
        return None
