"""The decisions of a search: what to try next, when to stop it, what it was worth.

A `Study` folds the journal into facts (`search.history`) and into what Optuna knows: the *main
study*, which holds one Optuna trial for every proposal, told COMPLETE, PRUNED or FAIL, and the
*curve study* of `search.pruning`, which sees the reports. Both are rebuilt from the journal, so a
resumed search goes on as if it had never stopped. Executors (`search.ray_tune`,
`search.inprocess`) only carry assignments to workers and reports back.

Every decision is one record, appended before anybody acts on it.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import pareto, verdict
from search.history import History, is_open, planned, replicate_of
from search.journal import Journal, JournalError, Record, read
from search.trial import COSTS, RETRIED, Assignment, Candidate, Ending, Trial, digest_int
from spaces import Space

if TYPE_CHECKING:
    import optuna

    from search.pruning import Pruning
    from search.sampling import MainStudy

Values = dict[str, Any]
Examine = Callable[[Values], Candidate]
USELESS = 100
"""Proposals in a row that train nothing before an unseen point is taken instead of asking on."""
LISTED = 20_000
"""A space with at most so many settings is listed when an unseen point is wanted."""
DRAWS = 500
"""In a larger space, so many random points are looked at."""
CRASHED = 2
"""Trials of one network that may crash before it is taken for broken and not proposed again."""


class Study:
    """A study read from its folder, or driven (between `create` or `drive` and `close`)."""

    def __init__(
        self,
        folder: Path,
        space: Space,
        records: Iterable[Record],
        *,
        journal: Journal | None = None,
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
        self._main: MainStudy | None = None
        self._pruning: Pruning | None = None
        self._queue: deque[tuple[int, int]] = deque()  # (trial, replicate) to be handed out
        self._seen: dict[str, int] = {}  # run key -> the trial that has answered, or will
        self._known: dict[str, Candidate | None] = {}  # values -> what they are; None: no network
        self._exhausted = ""
        self._stop: str | None = None
        if journal is None:
            for record in self._records:
                self.history.apply(record)
        else:
            self._rebuild()

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
        clock: Callable[[], float] = time.time,
    ) -> Study:
        """Start a study in a folder whose journal holds nothing yet; raises `JournalError` else."""
        journal = Journal(folder, clock=clock)
        if journal.records:
            journal.close()
            raise JournalError(f"{folder}: a study was already started here")
        record = journal.append(
            "study",
            version=1,
            uuid=uuid.uuid4().hex,
            name=space.name,
            space=space.to_yaml(),
            trials=space.search.trials,
            reference=dict(reference),
            chance=chance,
            versions=dict(versions or {}),
            plugins=list(plugins),
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
        clock: Callable[[], float] = time.time,
    ) -> Study:
        """Take up an existing study: what was running when its driver ended will go on.

        Raises `JournalError` when another driver owns it or the journal is damaged.
        """
        read(folder)  # no study here: say so before a lock is made
        journal = Journal(folder, clock=clock)
        try:
            study = cls(
                folder, space, journal.records, journal=journal, examine=examine, clock=clock
            )
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
        """Say who drives: pid, host, executor."""
        self._record("driver", **driver)
        self.commit()

    def close(self, reason: str = "") -> None:
        """Commit and let go; attempts that still run are ended as interrupted."""
        if self._journal is None:
            return
        try:
            for trial, replicate in self._running():
                self.end(trial, replicate, Ending("interrupted", reason or "the driver ended"))
            if self.done and not self.history.ended:
                self._record("done", reason=self.why_done)
        finally:
            self._journal.close()
            self._journal = None

    def commit(self, *, now: bool = True) -> bool:
        """Put every decision so far on the disk; True when they are there."""
        return self._open.commit(now=now)

    def extend(self, trials: int) -> None:
        """Set the new total number of trials."""
        if trials != self.history.total:
            self._record("extend", trials=trials)

    def note(self, text: str) -> None:
        """Keep a sentence for whoever reads the study later."""
        self._record("note", text=text)

    # ---- what executors call ---------------------------------------------------------------

    def next(self) -> Assignment | None:
        """The next attempt to hand to a worker; None when there is nothing to hand out just now.

        After None, either something is running (ask again when it has ended) or `done` holds.
        """
        if not self._queue and not self._propose():
            return None
        number, index = self._queue.popleft()
        trial = self.history.trials[number]
        known = replicate_of(trial, index)
        return Assignment(
            trial=number,
            replicate=index,
            attempt=len(known.attempts) + 1 if known else 1,
            seed=seed_of(self.space.search.seed, index),
            key=f"{trial.key}-r{index}",
            config=trial.config,
            known=len(known.curve) if known else 0,
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

        Epochs already known are ignored (a resumed attempt may repeat one). An objective's metric
        that is missing or no number ends the attempt as `bad_report`, one that is not finite as
        `diverged`; the pruner judges the first replicate, never at its last epoch.
        """
        trial = self.history.trials[number]
        replicate = replicate_of(trial, index)
        if replicate is None or not is_open(replicate):
            return Ending("interrupted", "this attempt was ended already")
        epoch = metrics.get("epoch")
        if isinstance(epoch, (int, float)) and epoch <= len(replicate.curve):
            return None
        expected = len(replicate.curve) + 1
        ending = verdict.complaint(metrics, objectives=self.objectives, expected=expected)
        if ending is None:
            numbers = verdict.finite(metrics)
            self._record("epoch", trial=number, replicate=index, metrics=numbers)
            if index == 0 and self._stop:
                ending = Ending("pruned", self._stop)
        if ending is not None:
            self.end(number, index, ending)
        return ending

    def end(self, number: int, index: int, ending: Ending) -> None:
        """A running attempt is over; a second ending of the same attempt is ignored."""
        replicate = replicate_of(self.history.trials[number], index)
        if replicate is None or not is_open(replicate):
            return
        if ending.outcome == "finished" and not replicate.curve:
            ending = Ending("bad_report", "it finished without reporting an epoch")
        crashes = self.space.search.failures.crashed
        again = verdict.retried(replicate.attempts, ending, crashes=crashes)
        self._record(
            "end",
            trial=number,
            replicate=index,
            attempt=replicate.attempts[-1].number,
            outcome=ending.outcome,
            reason=ending.reason,
            **({"detail": ending.detail} if ending.detail else {}),
            final=not again,
        )
        if again:
            self._queue.appendleft((number, index))
        else:
            self._settle(number)

    @property
    def done(self) -> bool:
        """Whether nothing runs, nothing waits and nothing more will be proposed."""
        if self._queue or self._running():
            return False
        if any(trial.outcome is None for trial in self.history.trials.values()):
            return False
        return bool(self._exhausted) or len(self.history.trials) >= self.history.total

    @property
    def why_done(self) -> str:
        """The sentence that says why the study is over."""
        return self._exhausted or f"{len(self.history.trials)} of {self.history.total} trials"

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

    def counts(self) -> dict[str, int]:
        """Trials running and waiting; proposals refused (infeasible) and answered (duplicate)."""
        return self.history.counts()

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

    @property
    def optuna(self) -> optuna.Study:
        """The main Optuna study, as the sampler knows it."""
        return self._sampling.optuna

    # ---- proposing -------------------------------------------------------------------------

    def _propose(self) -> bool:
        """Ask until a point comes that is worth training; False when there is none now."""
        useless = 0
        baselines = self.space.baselines()
        while len(self.history.trials) < self.history.total and not self._exhausted:
            wanted = None
            if self.history.asks < len(baselines):
                wanted = baselines[self.history.asks]
            elif useless and useless % USELESS == 0:
                wanted = self._unseen()
                if wanted is None:
                    return False
            if self._ask(wanted):
                return True
            useless += 1
        return False

    def _ask(self, wanted: Values | None) -> bool:
        """One proposal, answered: True when it trains, False when it costs nothing."""
        values = self._sampling.ask(self.history.asks, wanted=wanted)
        try:
            candidate = self._examine_now(values)
        except ValueError as error:
            self._proposal("refuse", values, outcome="invalid", reason=str(error))
            return False
        limits = self.space.search.limits
        self._sampling.constrain(
            {cost: candidate.costs[cost] / limit - 1 for cost, limit in limits.items()}
        )
        over = self._over(candidate)
        if over:
            self._proposal("refuse", values, outcome="infeasible", reason=over)
            return False
        known = self._seen.get(candidate.key)
        if known is not None:
            return self._answer_duplicate(self.history.trials[known], values)
        number = len(self.history.trials)
        self._proposal("ask", values, trial=number, **asdict(candidate))
        self._queue.append((number, 0))
        return True

    def _proposal(self, kind: str, values: Values, **fields: Any) -> None:
        self._record(kind, values=values, **fields, **self._sampling.asked())

    def _over(self, candidate: Candidate) -> str:
        """Which limits the candidate breaks, in words; empty when it breaks none."""
        return "; ".join(
            f"{cost} {candidate.costs[cost]:,.0f} over {limit:,.0f}"
            for cost, limit in self.space.search.limits.items()
            if candidate.costs[cost] > limit
        )

    def _answer_duplicate(self, trial: Trial, values: Values) -> bool:
        """A network seen before: its outcome is the answer, or it gains a replicate.

        With `duplicates: replicate` one that finished, or may yet, gains one at a time, as long as
        there were fewer duplicates than trials, so that a small space is not replicated for ever.
        """
        gains = (
            self.space.search.duplicates == "replicate"
            and trial.outcome in (None, "finished")
            and planned(trial) <= max(1, len(trial.replicates))
            and self.history.duplicates < self.history.total
        )
        index = max(self.space.search.replicates, planned(trial)) if gains else None
        self._proposal("alias", values, of=trial.number, replicate=index)
        return index is not None and self._queue_replicates(trial.number)

    def _queue_replicates(self, number: int) -> bool:
        """Queue what a trial whose first replicate has finished still lacks; True: something."""
        trial = self.history.trials[number]
        if not trial.replicates or trial.replicates[0].outcome != "finished":
            return False
        missing = [
            (number, index)
            for index in range(1, max(self.space.search.replicates, planned(trial)))
            if replicate_of(trial, index) is None and (number, index) not in self._queue
        ]
        self._queue.extend(missing)
        return bool(missing)

    def _unseen(self) -> Values | None:
        """A feasible point nobody has trained, or None, which ends the proposing."""
        size = self.space.size()
        asks = self.history.asks
        order = random.Random(digest_int(self.space.search.seed, "unseen", asks))
        if size is not None and size <= LISTED:
            listed = list(self.space.settings())
            order.shuffle(listed)
            points: Iterable[Values] = listed
        else:
            points = (self.space.sample(seed=order.getrandbits(63)) for _ in range(DRAWS))
        tried = {trial.key for trial in self.history.trials.values()}
        for values in points:
            name = json.dumps(values)
            if name not in self._known:
                self._known[name] = self._or_none(values)
            candidate = self._known[name]
            if candidate is not None and candidate.key not in tried and not self._over(candidate):
                return values
        seen = len({trial.identity for trial in self.history.trials.values()})
        self._exhausted = (
            f"{seen} of {seen} networks seen"
            if size is not None and size <= LISTED
            else f"no unseen network within limits among {DRAWS:,} random points; {seen} seen"
        )
        return None

    def _or_none(self, values: Values) -> Candidate | None:
        try:
            return self._examine_now(values)
        except ValueError:
            return None

    def _examine_now(self, values: Values) -> Candidate:
        assert self._examine is not None, "a study that is only read proposes nothing"
        return self._examine(values)

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
    def _open(self) -> Journal:
        if self._journal is None:
            raise RuntimeError("this study was only read; `eca-search resume` drives it")
        return self._journal

    def _record(self, kind: str, **fields: Any) -> None:
        self._fold(self._open.append(kind, **fields))

    @property
    def _sampling(self) -> MainStudy:
        if self._main is None:
            self._rebuild()
        assert self._main is not None
        return self._main

    def _rebuild(self) -> None:
        """Fold every record again: into facts, into the main study and into the curve study."""
        from search.pruning import (
            Pruning,
        )  # Optuna takes 0.4 s to import: readers of facts never do
        from search.sampling import MainStudy

        self._main = MainStudy(self.space)
        self._pruning = Pruning(
            pruner_spec(self.space) if self.judged else None,
            name=self.space.name,
            goal=self.objectives[self.judged].goal if self.judged else "max",
            costs={name: o.tolerance for name, o in self.objectives.items() if name in COSTS},
        )
        self._seen = {}
        self.history = History()
        for record in self._records:
            self._fold(record)
        self.history.touched.clear()

    def _fold(self, record: Record) -> None:
        """Let one record have its effect, the same in a live study and in a rebuilt one."""
        kind = record["kind"]
        self.history.apply(record)
        if kind in {"ask", "refuse", "alias"}:
            self._fold_proposal(record)
        elif kind in {"epoch", "end"} and record["replicate"] == 0:
            self._fold_first_replicate(record)
        elif kind == "trial":
            trial = self.history.trials[record["trial"]]
            self._sampling.tell(trial)
            crashed = [t for t in self.history.trials.values() if t.key == trial.key]
            if trial.outcome in RETRIED and len(crashed) < CRASHED:  # it may have been chance
                self._seen.pop(trial.key, None)

    def _fold_proposal(self, record: Record) -> None:
        assert self._pruning is not None
        self._sampling.propose(record)
        if record["kind"] == "ask":
            self._seen[record["key"]] = record["trial"]
            epochs = record["config"]["training"]["epochs"]
            self._pruning.begin(record["trial"], record["costs"], epochs=epochs)
        elif record["kind"] == "alias":
            trial = self.history.trials[record["of"]]
            if record["replicate"] is None and trial.outcome is not None:
                self._sampling.tell(trial)

    def _fold_first_replicate(self, record: Record) -> None:
        """The pruner sees the first replicate alone."""
        assert self._pruning is not None
        if record["kind"] == "end":
            if record["final"]:
                self._pruning.end(record["trial"], record["outcome"])
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

    def _verdict_left(self, number: int, index: int) -> Ending:
        """How an attempt ended whose driver died: as the pruner had said, if it had."""
        assert self._pruning is not None
        reason = self._pruning.stop(number) if index == 0 else None
        return Ending("pruned", reason) if reason else Ending("interrupted", "its driver died")

    def _recover(self) -> None:
        """Attempts nobody runs any more are interrupted; what has not ended is queued."""
        for number, index in self._running():
            self.end(number, index, self._verdict_left(number, index))
        queued = set(self._queue)
        for trial in self.trials:
            if trial.outcome is None and not trial.replicates:
                self._queue.append((trial.number, 0))
            for replicate in trial.replicates:
                again = (trial.number, replicate.number)
                if replicate.outcome is None and again not in queued:
                    self._queue.append(again)
            ended = bool(trial.replicates) and trial.replicates[0].outcome is not None
            if ended and (trial.outcome is None or self._sampling.waits(trial.number)):
                self._settle(trial.number)
        self.commit()


def pruner_spec(space: Space) -> dict[str, Any] | None:
    """The pruner as the space names it, without what it leaves open."""
    pruner = space.search.pruner
    return None if pruner is None else pruner.model_dump(exclude_defaults=True)


def seed_of(study_seed: int, replicate: int) -> int:
    """A replicate's seed: never the trial's number, the worker's or the attempt's."""
    return digest_int(study_seed, "replicate", replicate)
