"""The decisions of a search: what to try next, when to stop it, what it was worth.

A `Study` folds the journal into facts (`search.history`) and into what Optuna knows: the *main
study*, which holds one Optuna trial for every proposal, told COMPLETE, PRUNED or FAIL, and the
*curve study* of `search.pruning`, which sees the reports. Both are rebuilt from the journal, so a
resumed search goes on as if it had never stopped. Executors (`search.ray_tune`,
`search.inprocess`) only carry assignments to workers and reports back.

Every decision is one record, appended before anybody acts on it.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import pareto, verdict
from search.errors import JournalError
from search.history import History, is_open, planned, replicate_of
from search.journal import FORMAT, Journal, Ledger, Record, read
from search.redaction import redacted
from search.trial import Assignment, Ending, Trial, digest_int
from spaces import Space
from spaces.errors import counted
from spaces.latency import Latency

if TYPE_CHECKING:
    import optuna

    from search.proposing import Examine, Proposing
    from search.pruning import Pruning

TOLD = ("reason", "detail", "text")
"""Fields of records that hold what a library or a person's own code has said."""
GROWING = "search.replicates"
"""The key of the space that says how many seeds there are."""
SAID = 10_000
"""At most so many characters of it are kept."""


class Study:
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
        self.folder = folder
        self.space = space
        self.objectives = space.search.objectives
        self.history = History()
        self._journal = journal
        self._examine = examine
        self._clock = clock
        self._records = list(records)
        self.judged = pareto.judged(space.search.objectives)
        self._proposing: Proposing | None = None
        self._pruning: Pruning | None = None
        self._queue: deque[tuple[int, int]] = deque()  # (trial, replicate) to be handed out
        self._stop: str | None = None
        self._outlived = 0.0
        self._members: tuple[int, dict[int, float] | None] = (-1, None)  # at so many seeds
        self.behind: Callable[[], int] = lambda: 0
        """How many trials its driver has yet to tell MLflow of."""
        self.at_most: int | None = None
        """How many attempts a person allows at a time, since this driver began; None: no word."""
        if journal is None:
            for record in self._records:
                self.history.apply(record)
        else:
            self._rebuild()
            self._records = []  # all that they say is known now

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
            for trial, replicate in self._running():
                self.end(trial, replicate, self._verdict_left(trial, replicate, reason))
            if self.done and not self.history.ended:
                self._record("halt" if self._hopeless else "done", reason=self.why_done)
        finally:
            journal, self._journal = self._journal, None
            journal.close()  # raises where the disk is full; it is closed all the same

    @property
    def fence(self) -> int:
        """The fencing number of this driver's lease."""
        return self._open.fence

    @property
    def acknowledged(self) -> int:
        """How many bytes of its journal are on the disk for sure."""
        return self._open.acknowledged

    def commit(self, *, now: bool = True) -> bool:
        """Put every decision so far on the disk; True when they are there."""
        return self._open.commit(now=now)

    def extend(self, trials: int) -> None:
        """Set the new total number of trials."""
        if trials != self.history.total:
            self._record("extend", trials=trials)

    def edited(self, changes: Mapping[str, Any]) -> None:
        """Keep the space that this driver was given, and in which keys (old, new) it differs."""
        if changes:
            self._record("edit", space=self.space.to_yaml(), changes=dict(changes))
            self._queue_more()

    def carried(self, trials: int) -> None:
        """Say that so many trials of another study were taken over, which is all there are."""
        self._record("carried", trials=trials)

    def carry(self, known: Trial, values: Mapping[str, Any]) -> None:
        """Take over the results of another study's trial: the same run, at these values here."""
        proposal = self._sampling.ask(self.history, dict(values))
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
                told = _told({"device": replicate.attempts[-1].device, "images": known.images})
                for metrics in replicate.curve:
                    self._record("epoch", **place, metrics=metrics, **told)
                    told = {}
                self.end(*waiting, Ending("finished", "carried over"))

    @property
    def checkpoints(self) -> str:
        """Where its training states are: a folder or an fsspec URI, this study's alone."""
        uri = self.space.search.checkpoints.uri
        if uri is None:
            return str(self.folder / "checkpoints")
        return f"{uri.rstrip('/')}/{self.name}-{self.uuid[:8]}"

    def note(self, text: str) -> None:
        """Keep a sentence for whoever reads the study later."""
        self._record("note", text=text)

    # ---- what executors call ---------------------------------------------------------------

    def next(self) -> Assignment | None:
        """The next attempt to hand to a worker; None when there is nothing to hand out just now.

        After None, either something is running (ask again when it has ended) or `done` holds.
        What the budget does not pay for, beside what runs, is not handed out.
        """
        if not self._queue and not self._propose() and not self._doubt():
            return None
        if self.space.arms is not None:  # block by block: what is cut short is still complete
            self._queue = deque(sorted(self._queue, key=lambda place: (place[1], place[0])))
        paid = next((place for place in self._queue if not self._unpaid(*place)), None)
        if paid is None:
            return None
        self._queue.remove(paid)
        return self._assignment(*paid)

    def _assignment(self, number: int, index: int) -> Assignment:
        trial = self.history.trials[number]
        known = replicate_of(trial, index)
        asked = self.space.search.timing is not None and index == 0 and not trial.latencies
        measured = self.history.latencies.get(trial.identity, ())
        return Assignment(
            trial=number,
            replicate=index,
            attempt=len(known.attempts) + 1 if known else 1,
            seed=seed_of(self.space.search.seed, index),
            key=trial.key_of(index),
            config=trial.config,
            known=len(known.curve) if known else 0,
            latencies=[asdict(latency) for latency in measured] if asked else None,
        )

    def start(self, assignment: Assignment, worker: str) -> None:
        """An attempt was handed to a worker (`host:pid`, or what is known of it)."""
        self._record(
            "start",
            trial=assignment.trial,
            replicate=assignment.replicate,
            attempt=assignment.attempt,
            seed=assignment.seed,
            worker=worker,
        )

    def report(self, number: int, index: int, metrics: Mapping[str, Any]) -> Ending | None:
        """Take one epoch's metrics of a running attempt; an `Ending` means: stop it, it is over.

        A list under `latency` is the network's, and is kept first; `device` is what the attempt
        trains on, `images` how many train and how many judge. Of an epoch already known, which a
        resumed attempt may train again, no more is kept than that it was trained: each at once, for
        the budget, as its driver may die. An objective's metric that is missing or no number ends
        the attempt as `bad_report`, one that is not finite as `diverged`; the pruner judges the
        first replicate, never at its last epoch. Once the budget is spent an attempt is interrupted
        there: with a larger budget it goes on.
        """
        trial = self.history.trials[number]
        replicate = replicate_of(trial, index)
        if replicate is None or not is_open(replicate):
            return Ending("interrupted", "this attempt was ended already")
        epoch = metrics.get("epoch")
        if isinstance(epoch, (int, float)) and epoch <= len(replicate.curve):
            self._record("again", trial=number, replicate=index, **_told(metrics))
            return self._overspent(number, index)
        if metrics.get("latency") and not trial.latencies:
            self._time(trial, [Latency(**latency) for latency in metrics["latency"]])
        expected = len(replicate.curve) + 1
        known = {**metrics, **self.history.trials[number].untrained}
        ending = verdict.complaint(known, objectives=self.objectives, expected=expected)
        if ending is None:
            numbers = verdict.finite(metrics)
            told = _told(metrics)
            self._record("epoch", trial=number, replicate=index, metrics=numbers, **told)
            if number in self.stopping:
                ending = Ending("pruned", self.stopping[number])
            elif index == 0 and self._stop:
                ending = Ending("pruned", self._stop)
            else:
                return self._overspent(number, index)
        if ending is not None:
            self.end(number, index, ending)
        return ending

    def _overspent(self, number: int, index: int) -> Ending | None:
        """Interrupt an attempt where the budget is spent, unless its curve is whole."""
        trial = self.history.trials[number]
        known = replicate_of(trial, index)
        if known is None or len(known.curve) >= trial.config["training"]["epochs"]:
            return None
        over = self.history.spending.over(self.space.search.budget, self._clock())
        ending = Ending("interrupted", over) if over else None
        if ending is not None:
            self.end(number, index, ending)
        return ending

    def _time(self, trial: Trial, found: Iterable[Latency]) -> None:
        """Keep what was measured of a trial's network."""
        kept = verdict.first(found, self.history.latencies.get(trial.identity, ()))
        self._record("latency", trial=trial.number, latencies=[asdict(latency) for latency in kept])

    def end(self, number: int, index: int, ending: Ending, *, ended: float | None = None) -> None:
        """A running attempt is over; a second ending of the same attempt is ignored.

        `ended` says when, in unix seconds, where that was before now.
        """
        replicate = replicate_of(self.history.trials[number], index)
        if replicate is None or not is_open(replicate):
            return
        if ending.outcome == "finished" and not replicate.curve:
            ending = Ending("bad_report", "it finished without reporting an epoch")
        trial = self.history.trials[number]
        search = self.space.search
        team = search.resources.team
        parts = verdict.halved(trial, index, ending, team) if search.oom != "fail" else None
        again = verdict.retried(replicate.attempts, ending, self.space.search.failures)
        again = (again or parts is not None) and number not in self.stopping
        self._record(
            "end",
            trial=number,
            replicate=index,
            attempt=replicate.attempts[-1].number,
            outcome=ending.outcome,
            reason=ending.reason,
            **({"detail": ending.detail} if ending.detail else {}),
            final=not again,
            **({"accumulate": parts} if again and parts is not None else {}),
            **({"ended": round(ended, 3)} if ended is not None else {}),
        )
        if again:
            self._queue.appendleft((number, index))
        else:
            self._settle(number)

    def stop(self, number: int, reason: str = "stopped by hand") -> None:
        """End a trial for a person, as pruned: now where it waits, else when its worker is told.

        Of one that has finished it ends the seeds that were asked for since. One that is over, or
        was stopped before, is left alone. Raises KeyError for no such trial.
        """
        if self.unfinished(number) and number not in self.stopping:
            self._record("stop", trial=number, reason=reason)
            self._end_waiting(number)

    def narrow(self, at_most: int) -> None:
        """From now on at most so many attempts at a time, for a person, until the driver ends."""
        self.at_most = at_most
        self.note(f"at most {at_most} trials at a time, by hand")

    def unfinished(self, number: int) -> bool:
        """Whether anything of a trial runs or waits, such as seeds that it was given since."""
        trial = self.history.trials[number]
        if trial.outcome is None or any(map(is_open, trial.replicates)):
            return True
        return trial.outcome == "finished" and any(
            (known := replicate_of(trial, index)) is None or known.outcome is None
            for index in self._added(trial)
        )

    @property
    def stopping(self) -> Mapping[int, str]:
        """Trials that a person has stopped and that are not over yet, and what was said."""
        return self.history.stopping

    @property
    def done(self) -> bool:
        """Whether nothing runs, nothing waits that the budget pays for, and nothing more will be
        proposed.
        """
        if self._running():
            return False
        if self._queue:
            return all(self._unpaid(*place) for place in self._queue)
        if any(trial.outcome is None for trial in self.history.trials.values()):
            return False
        return bool(self.why_done) and self._doubted is None

    @property
    def why_done(self) -> str:
        """The sentence that says why nothing more is trained; empty while something may be."""
        if self._queue:
            return self._unpaid(*self._queue[0])
        if len(self.history.trials) >= self.history.total:
            return f"{len(self.history.trials)} of {counted(self.history.total, 'trial')}"
        exhausted = self._proposing.exhausted if self._proposing else ""
        return exhausted or self._hopeless or self._unpaid_proposal

    # ---- what readers ask ------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The study's name."""
        return self.space.name

    @property
    def uuid(self) -> str:
        """The study's own identity: two studies of one name differ in it."""
        return str(self.history.study["uuid"])

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial, in the order they were proposed."""
        return tuple(self.history.trials[number] for number in sorted(self.history.trials))

    @property
    def reference(self) -> dict[str, float]:
        """The costs that hypervolume is measured from: the space's, never the results'."""
        return dict(self.history.study["reference"])

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return float(self.history.study["chance"])

    @property
    def started(self) -> float:
        """When the study began, in unix seconds."""
        return float(self.history.study["time"])

    @property
    def updated(self) -> float:
        """When its journal last grew, in unix seconds."""
        return self.history.updated

    @property
    def tracking_uri(self) -> str | None:
        """The MLflow store its last driver used, without credentials."""
        return self.history.tracking_uri

    def touched(self) -> list[Trial]:
        """Trials that changed since this was last asked."""
        numbers = sorted(self.history.touched)
        self.history.touched.clear()
        return [self.history.trials[number] for number in numbers]

    def counts(self, *, driven: bool = True) -> dict[str, int]:
        """Trials running and waiting; proposals refused (infeasible) and answered (duplicate)."""
        return self.history.counts(driven=driven)

    @property
    def expected(self) -> int:
        """How many trials there are to be: of arms that are one network, one."""
        history = self.history
        apart = 0 if self.space.arms is None else history.duplicates
        return history.total - apart

    def outcomes(self) -> dict[str, int]:
        """Trials finished, pruned, failed."""
        return self.history.outcomes()

    def pareto(self) -> list[Trial]:
        """The front: finished networks that none matches at no more cost, cheapest first."""
        return pareto.front(self.trials, self.objectives)

    def hypervolume(self) -> float:
        """What the front is worth; see `search.pareto.study_hypervolume`."""
        return pareto.study_hypervolume(
            self.trials, self.objectives, chance=self.chance, reference=self.reference
        )

    def membership(self) -> dict[int, float] | None:
        """How surely each network is on the front; see `search.membership`."""
        from search.membership import membership

        return membership(self.trials, self.objectives, seed=self.space.search.seed)

    @property
    def optuna(self) -> optuna.Study:
        """The main Optuna study, as the sampler knows it."""
        return self._sampling.main.optuna

    # ---- what follows from a decision -------------------------------------------------------

    def _propose(self) -> bool:
        """Ask until a point comes that is worth training; False when there is none now.

        The arms of a comparison are all proposed at once: they are known, and few.
        """
        if self._hopeless or self._unpaid_proposal:
            return False
        for proposal in self._sampling.proposals(self.history):
            self._record(proposal.kind, **proposal.fields)
            if proposal.kind == "ask":
                self._queue.append((proposal.fields["trial"], 0))
            elif proposal.kind == "alias":
                self._queue_replicates(proposal.fields["of"])
            if self._queue and self.space.arms is None:
                return True
        return bool(self._queue)

    def _doubt(self) -> bool:
        """Queue a further seed where the front is least certain; True: there is one."""
        self._queue.extend(place for place in [self._doubted] if place is not None)
        return bool(self._queue)

    @property
    def _doubted(self) -> tuple[int, int] | None:
        """The further seed that is due once all trials are over; see `search.further`."""
        from search import further

        trials = self.trials
        if self.space.search.further is None or self._hopeless or not self.why_done:
            return None
        if any(trial.outcome is None for trial in trials):
            return None
        ended = sum(trial.n for trial in trials)
        if self._members[0] != ended:
            self._members = ended, self.membership()
        return further.following(trials, self.space.search, self._members[1])

    @property
    def _now(self) -> float:
        """For a budget of hours: the time, or, where nobody drives, that of the last record."""
        return self.updated if self._journal is None else self._clock()

    def _unpaid(self, number: int, index: int) -> str:
        """Why the budget does not pay for what a replicate has still to train; empty: it does."""
        trial = self.history.trials[number]
        known = replicate_of(trial, index)
        left = trial.config["training"]["epochs"] - (len(known.curve) if known else 0)
        return self.history.spending.unpaid(self.space.search.budget, left, self._now)

    @property
    def _unpaid_proposal(self) -> str:
        """Why it pays for no trial that is still to be proposed; empty: it may pay for one."""
        spending = self.history.spending
        return spending.unpaid(self.space.search.budget, spending.shortest or 1, self._now)

    @property
    def _hopeless(self) -> str:
        """Why going on makes no sense: what ended since the driver began failed for one reason."""
        few = self.space.search.failures.consecutive
        ended = [self.history.trials[number] for number in self.history.lately[-few:]]
        return verdict.hopeless(ended, few, proven=self.history.proven)

    def _end_waiting(self, number: int) -> None:
        """End what a stopped trial has waiting for a worker."""
        for waiting in [place for place in self._queue if place[0] == number]:
            self._queue.remove(waiting)
            self.start(self._assignment(*waiting), "")
            self.end(*waiting, Ending("pruned", self.stopping[number]))

    def _queue_more(self) -> None:
        """Queue the seeds that a driver was given beyond those that the study began with.

        Earlier ones that a finished trial lacks were stopped by a person, and stay so.
        """
        grown = any(GROWING in edit for edit in self.history.edits)
        for trial in self.trials if grown else ():
            if trial.outcome == "finished":
                self._queue_replicates(trial.number, first=self._added(trial).start)

    def _added(self, trial: Trial) -> range:
        """The numbers of a trial's seeds beyond those that the study began with."""
        grown = [edit[GROWING][0] for edit in self.history.edits if GROWING in edit]
        now: int = self.space.search.replicates
        return range(grown[0] if grown else now, max(now, planned(trial)))

    def _queue_replicates(self, number: int, first: int = 1) -> bool:
        """Queue what a trial whose first replicate has finished still lacks; True: something."""
        trial = self.history.trials[number]
        began = trial.replicates[0].outcome if trial.replicates else None
        if began != "finished" or number in self.stopping:
            return False
        missing = [
            (number, index)
            for index in range(first, max(self.space.search.replicates, planned(trial)))
            if replicate_of(trial, index) is None and (number, index) not in self._queue
        ]
        self._queue.extend(missing)
        return bool(missing)

    def _settle(self, number: int) -> None:
        """Queue the trial's next replicates, or, when all have ended, say what it was worth."""
        trial = self.history.trials[number]
        first = trial.replicates[0]
        self._queue_replicates(number)
        queued = any(waiting == number for waiting, _ in self._queue)
        if queued or any(replicate.outcome is None for replicate in trial.replicates):
            return
        objectives, spread = verdict.worth(trial, list(self.objectives))
        self._record(
            "trial",
            trial=number,
            outcome=first.outcome,
            reason=verdict.why(trial),
            objectives=objectives,
            spread=spread,
        )

    # ---- one record at a time --------------------------------------------------------------

    @property
    def _open(self) -> Ledger:
        if self._journal is None:
            raise RuntimeError("this study was only read; `eca-search resume` drives it")
        return self._journal

    def _record(self, kind: str, **fields: Any) -> None:
        """Write a record; what others have said goes in short, and without the secrets in it."""
        said = {key: redacted(fields[key])[:SAID] for key in TOLD if fields.get(key)}
        self._fold(self._open.append(kind, **{**fields, **said}))

    @property
    def _sampling(self) -> Proposing:
        if self._proposing is None:
            self._rebuild()
        assert self._proposing is not None
        return self._proposing

    def _rebuild(self) -> None:
        """Fold every record again: into facts, into the main study and into the curve study."""
        # Optuna takes 0.4 s to import: readers of facts never do
        from search.proposing import Proposing
        from search.pruning import Pruning

        self._proposing = Proposing(self.space, self._examine)
        self._pruning = Pruning(
            pruner_spec(self.space) if self.judged else None,
            name=self.space.name,
            goal=self.objectives[self.judged].goal if self.judged else "max",
            costs=pareto.foreseen(self.objectives),
        )
        self.history = History()
        for record in self._records:
            self._fold(record)
        self.history.touched.clear()

    def _fold(self, record: Record) -> None:
        """Let one record have its effect, the same in a live study and in a rebuilt one."""
        assert self._proposing is not None
        assert self._pruning is not None
        kind = record["kind"]
        self.history.apply(record)
        self._proposing.fold(record, self.history)
        if kind == "ask":
            epochs = record["config"]["training"]["epochs"]
            self._pruning.begin(record["trial"], record["costs"], epochs=epochs)
        elif kind in {"epoch", "end"} and record["replicate"] == 0:
            self._fold_first_replicate(record)

    def _fold_first_replicate(self, record: Record) -> None:
        """The pruner sees the first replicate alone."""
        assert self._pruning is not None
        if record["kind"] == "end":
            if record["final"]:
                self._pruning.end(record["trial"], record["outcome"])
            elif "accumulate" in record:
                self._pruning.anew(record["trial"])
        elif self.judged is not None:
            metrics = record["metrics"]
            self._pruning.report(record["trial"], int(metrics["epoch"]), metrics[self.judged])
            self._stop = self._pruning.stop(record["trial"])

    # ---- after a driver's death ------------------------------------------------------------

    def _running(self) -> list[tuple[int, int]]:
        return [
            (trial.number, replicate.number)
            for trial in self.history.trials.values()
            for replicate in trial.replicates
            if is_open(replicate)
        ]

    def _verdict_left(self, number: int, index: int, why: str) -> Ending:
        """How an attempt ends whose driver does: as a person or the pruner had said, if one had."""
        assert self._pruning is not None
        reason = self.stopping.get(number)
        if reason is None and index == 0:
            reason = self._pruning.stop(number)
        return Ending("pruned", reason) if reason else Ending("interrupted", why)

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
            if ended and (trial.outcome is None or self._sampling.main.waits(trial.number)):
                self._settle(trial.number)
        for number in list(self.stopping):
            self._end_waiting(number)
        self._queue_more()
        self.commit()


def pruner_spec(space: Space) -> dict[str, Any] | None:
    """The pruner as the space names it, without what it leaves open."""
    pruner = space.search.pruner
    return None if pruner is None else pruner.model_dump(exclude_defaults=True)


def seed_of(study_seed: int, replicate: int) -> int:
    """A replicate's seed: never the trial's number, the worker's or the attempt's."""
    return digest_int(study_seed, "replicate", replicate)


def _told(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a report tells of its attempt, once: its device, and how many images train and judge."""
    device, images = report.get("device"), report.get("images")
    return {
        **({"device": str(device)} if device else {}),
        **({"images": [int(count) for count in images]} if images else {}),
    }
