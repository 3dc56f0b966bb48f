"""A search's study: begun, taken up, read, closed.

It folds the journal into facts (`search.study.history`) and into what Optuna knows
(`search.study.memory`): the *main study*, which holds one Optuna trial for every proposal, told
COMPLETE, PRUNED or FAIL, and the *curve study* of `search.pruning`, which sees the reports. Both
are rebuilt from the journal, so a resumed search goes on as if it had never stopped. Executors
(`search.execution.ray_tune`, `search.execution.inprocess`) only carry assignments to workers and
reports back.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import JournalError
from search.study import verdict
from search.study.deciding import Deciding, once, seed_of
from search.study.journal import FORMAT, Journal, Ledger, Record, read
from search.study.memory import Memory, pruner_spec
from search.trial import Ending, Trial
from spaces import Space

if TYPE_CHECKING:
    from search.study.proposing import Examine

__all__ = ["Study", "pruner_spec", "seed_of"]


class Study(Deciding):
    """A study read from its folder, or driven (between `create` or `drive` and `close`)."""

    def __init__(
        self,
        folder: Path,
        space: Space,
        records: Iterable[Record],
        *,
        journal: Ledger | None = None,
        examine: Examine | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        memory = Memory(space, list(records), examine=examine, read=journal is None)
        super().__init__(folder, space, memory, journal, clock)
        self._outlived = 0.0

    # ---- opening and closing ---------------------------------------------------------------

    @classmethod
    def create(
        cls,
        folder: Path,
        space: Space,
        examine: Examine,
        *,
        reference: Mapping[str, float],
        chance: float,
        versions: Mapping[str, str] | None = None,
        plugins: Sequence[str] = (),
        forked: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Study:
        """Start a study in a folder whose journal holds nothing yet; raises `JournalError` else.

        `forked` is the uuid of the study whose results it begins with.
        """
        journal = Journal(folder, clock=clock)
        if journal.records:
            journal.close()
            raise JournalError(f"{folder}: a study was already started here")
        record = journal.append(
            "study",
            version=FORMAT,
            uuid=uuid.uuid4().hex,
            name=space.name,
            space=space.to_yaml(),
            trials=space.search.trials,
            reference=dict(reference),
            chance=chance,
            versions=dict(versions or {}),
            plugins=list(plugins),
            **({"forked": forked} if forked else {}),
        )
        journal.commit()
        return cls(folder, space, [record], journal=journal, examine=examine, clock=clock)

    @classmethod
    def drive(
        cls,
        folder: Path,
        space: Space,
        examine: Examine,
        *,
        force: bool = False,
        say: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.time,
    ) -> Study:
        """Take up an existing study: what was running when its driver ended will go on.

        A driver on another machine that is silent is waited for, which is said, or with `force` not
        even that. Raises `JournalError` when another driver owns it or the journal is damaged.
        """
        read(folder)  # no study here: say so before a lock is made
        journal = Journal(folder, clock=clock, force=force, say=say)
        try:
            study = cls(
                folder, space, journal.records, journal=journal, examine=examine, clock=clock
            )
            journal.records.clear()
            study._recover()
        except BaseException:
            journal.close()
            raise
        return study

    @classmethod
    def read(cls, folder: Path, space: Space) -> Study:
        """The study as its journal tells it now; nothing is locked and nothing can be decided."""
        return cls(folder, space, read(folder))

    def begin(self, **driver: Any) -> None:
        """Say who drives: pid, host, executor, the GPUs it gives a trial."""
        lived = {"outlived": round(self._outlived, 3)} if self._outlived else {}
        self._record("driver", **driver, **lived)
        self.commit()

    def close(self, reason: str = "the driver ended") -> None:
        """Commit and let go; attempts that still run are ended as interrupted."""
        if self._journal is None:
            return
        try:
            self._conclude(reason)
        finally:
            journal, self._journal = self._journal, None
            journal.close()  # raises where the disk is full; it is closed all the same

    def conclude(self) -> None:
        """Say how it ended, on the disk, and hold on: nobody else drives it before `close`."""
        self._conclude("the driver ended")
        self.commit()

    def _conclude(self, reason: str) -> None:
        for trial, replicate in self._running():
            self.end(trial, replicate, self._verdict_left(trial, replicate, reason))
        if self.done and not (self.history.ended or self.history.halted):
            self._record("halt" if self._hopeless else "done", reason=self.why_done)

    @property
    def fence(self) -> int:
        """The fencing number of this driver's lease."""
        return self._open.fence

    @property
    def acknowledged(self) -> int:
        """How many bytes of its journal are on the disk for sure."""
        return self._open.acknowledged

    # ---- what changes the study itself -----------------------------------------------------

    def extend(self, trials: int) -> None:
        """Set the new total number of trials."""
        if trials != self.history.total:
            self._record("extend", trials=trials)

    def edited(self, changes: Mapping[str, Any]) -> None:
        """Keep the space that this driver was given, and in which keys (old, new) it differs."""
        if changes:
            self._record("edit", space=self.space.to_yaml(), changes=dict(changes))
            self._queue.add_more()

    def carried(self, trials: int) -> None:
        """Say that so many trials of another study were taken over, which is all there are."""
        self._record("carried", trials=trials)

    def carry(self, known: Trial, values: Mapping[str, Any]) -> None:
        """Take over the results of another study's trial: the same run, at these values here."""
        proposal = self._memory.sampling.ask(self.history, dict(values))
        self._record(proposal.kind, **proposal.fields, carried=known.number)
        if proposal.kind != "ask":
            return
        number = proposal.fields["trial"]
        self._queue.append((number, 0))
        for replicate in known.replicates:
            waiting = (number, replicate.number)
            if replicate.outcome == "finished" and waiting in self._queue:
                self._queue.remove(waiting)
                self.start(self._assignment(*waiting), replicate.attempts[-1].worker)
                if replicate.number == 0 and verdict.timed(known, self.space.search.timing):
                    self._time(self.history.trials[number], known.latencies)
                place = {"trial": number, "replicate": replicate.number}
                told = once({"device": replicate.attempts[-1].device, "images": known.images})
                for metrics in replicate.curve:
                    self._record("epoch", **place, metrics=metrics, **told)
                    told = {}
                self.end(*waiting, Ending("finished", "carried over"))

    # ---- after a driver's death ------------------------------------------------------------

    def _recover(self) -> None:
        """Attempts nobody runs any more are interrupted; what has not ended is queued."""
        left = self.history.updated  # the last that the driver before wrote, or was heard of
        heard = self._open.heard or left
        self._outlived = max(0.0, min(heard, self._clock()) - left)
        self.history.spending.heard(self.fence, self._clock())
        for number, index in self._running():
            died = self._verdict_left(number, index, "its driver died")
            self.end(number, index, died, ended=left + self._outlived)
        queued = set(self._queue)
        for trial in self.trials:
            if trial.outcome is None and not trial.replicates:
                self._queue.append((trial.number, 0))
            for replicate in trial.replicates:
                again = (trial.number, replicate.number)
                if replicate.outcome is None and again not in queued:
                    self._queue.append(again)
            ended = bool(trial.replicates) and trial.replicates[0].outcome is not None
            told = trial.outcome is not None and not self._memory.sampling.main.waits(trial.number)
            if ended and (not told or self._worth_more(trial)):
                self._settle(trial.number)
        for number in list(self.stopping):
            self._end_waiting(number)
        self._queue.add_more()
        self.commit()

    def _worth_more(self, trial: Trial) -> bool:
        """Whether a seed has ended since it was said what a trial is worth, and why it ended."""
        worth = (*verdict.worth(trial, list(self.objectives)), verdict.why(trial))
        told = (trial.objectives, trial.spread, trial.reason)
        return trial.outcome == "finished" and worth != told

    def _verdict_left(self, number: int, index: int, why: str) -> Ending:
        """How an attempt ends whose driver does: as a person or the pruner had said, if one had."""
        reason = self.stopping.get(number)
        if reason is None and index == 0:
            reason = self._memory.pruning.stop(number)
        return Ending("pruned", reason) if reason else Ending("interrupted", why)
