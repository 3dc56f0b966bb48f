"""The decisions of a search: what to try next, when to stop it, what it was worth.

Each is one record, appended before anybody acts on it, which `search.study.memory` then folds in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search.redaction import redacted
from search.study import further, promotion, verdict
from search.study.facts import Facts
from search.study.history import is_open, planned, replicate_of
from search.study.journal import Ledger
from search.study.memory import Memory
from search.study.waiting import Place, Waiting
from search.trial import Assignment, Ending, Trial, digest_int
from spaces import Space
from spaces.errors import counted
from spaces.latency import Latency

TOLD = ("reason", "detail", "text")
"""Fields of records that hold what a library or a person's own code has said."""
SAID = 10_000
"""At most so many characters of it are kept."""


class Deciding(Facts):
    """A study as executors see it: asked for assignments, told of epochs and endings.

    `at_most` is how many attempts a person allows at a time, since this driver began; None: no
    word. `behind` says how many trials its driver has yet to tell MLflow of. `bare` are run keys of
    which no checkpoint is left: their trainings begin with the first epoch.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        memory: Memory,
        journal: Ledger | None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(folder, space, memory)
        self.at_most: int | None = None
        self.behind: Callable[[], int] = lambda: 0
        self.bare: set[str] = set()
        self._journal = journal
        self._clock = clock
        self._queue = Waiting(space, self.history)
        self._members: tuple[int, dict[int, float] | None] = (-1, None)  # at so many seeds
        # who is due, as long as so many have ended in each way, and none of the same may be
        self._stopped: tuple[object, promotion.Promotion | None] = (None, None)

    def next(self) -> Assignment | None:
        """The next attempt to hand to a worker; None when there is nothing to hand out just now.

        After None, either something is running (ask again when it has ended) or `done` holds.
        What the budget does not pay for, beside what runs, is not handed out.
        """
        if not self._queue and not (self._propose() or self._promote() or self._doubt()):
            return None
        place = self._queue.take(lambda place: not self._unpaid(*place))
        return None if place is None else self._assignment(*place)

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
        self._queue.handed.discard((assignment.trial, assignment.replicate))
        self._record(
            "start",
            trial=assignment.trial,
            replicate=assignment.replicate,
            attempt=assignment.attempt,
            seed=assignment.seed,
            worker=worker,
            **({"anew": True} if assignment.key in self.bare else {}),
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
        self.bare.discard(replicate.key)  # it has stored the epoch
        if isinstance(epoch, (int, float)) and epoch <= len(replicate.curve):
            self._record("again", trial=number, replicate=index, **once(metrics))
            return self._overspent(number, index)
        if metrics.get("latency") and not trial.latencies:
            self._time(trial, [Latency(**latency) for latency in metrics["latency"]])
        expected = len(replicate.curve) + 1
        known = {**metrics, **self.history.trials[number].untrained}
        ending = verdict.complaint(known, objectives=self.objectives, expected=expected)
        if ending is None:
            numbers = verdict.finite(metrics)
            told = once(metrics)
            self._record("epoch", trial=number, replicate=index, metrics=numbers, **told)
            if number in self.stopping:
                ending = Ending("pruned", self.stopping[number])
            elif index == 0 and self._memory.stop:
                ending = Ending("pruned", self._memory.stop)
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

        Of one that has finished it ends the seeds that were asked for since; one that the pruner
        has stopped gets no second chance. One that is over, or was stopped before, is left alone.
        Raises KeyError for no such trial.
        """
        if self.unfinished(number) and number not in self.stopping:
            self._record("stop", trial=number, reason=reason)
            self._end_waiting(number)

    def narrow(self, at_most: int) -> None:
        """From now on at most so many attempts at a time, for a person, until the driver ends."""
        self.at_most = at_most
        self.note(f"at most {at_most} trials at a time, by hand")

    def unfinished(self, number: int) -> bool:
        """Whether anything of a trial runs or waits, such as seeds that it was given since, or may
        yet: a second chance.
        """
        trial = self.history.trials[number]
        if trial.outcome is None or any(known.outcome is None for known in trial.replicates):
            return True
        if trial.outcome == "pruned" and self.space.search.promote is not None:
            return not self.history.ended and number not in self.history.dismissed
        return trial.outcome == "finished" and any(
            (known := replicate_of(trial, index)) is None or known.outcome is None
            for index in self._queue.added(trial)
        )

    @property
    def done(self) -> bool:
        """Whether nothing runs, nothing waits that the budget pays for, and nothing more will be
        proposed.
        """
        if self._running() or self._queue.handed:
            return False
        if self._queue:
            return all(self._unpaid(*place) for place in self._queue)
        for trial in self.history.trials.values():
            if trial.outcome is None or any(known.outcome is None for known in trial.replicates):
                return False
        return bool(self.why_done) and self._promotable is None and self._doubted is None

    @property
    def why_done(self) -> str:
        """The sentence that says why nothing more is trained; empty while something may be."""
        if self._queue:
            return self._unpaid(*self._queue[0])
        if len(self.history.trials) >= self.history.total:
            return f"{len(self.history.trials)} of {counted(self.history.total, 'trial')}"
        return self._memory.exhausted or self._hopeless or self._unpaid_proposal

    def commit(self, *, now: bool = True) -> bool:
        """Put every decision so far on the disk; True when they are there."""
        return self._open.commit(now=now)

    def note(self, text: str) -> None:
        """Keep a sentence for whoever reads the study later."""
        self._record("note", text=text)

    # ---- what follows from a decision -------------------------------------------------------

    def _propose(self) -> bool:
        """Ask until a point comes that is worth training; False when there is none now.

        The arms of a comparison are all proposed at once: they are known, and few.
        """
        if self._hopeless or self._unpaid_proposal:
            return False
        begins = bool(self._queue.handed)
        for proposal in self._memory.sampling.proposals(self.history, begins=begins):
            self._record(proposal.kind, **proposal.fields)
            if proposal.kind == "ask":
                self._queue.append((proposal.fields["trial"], 0))
            elif proposal.kind == "alias":
                self._queue.add_replicates(proposal.fields["of"])
            if self._queue and self.space.arms is None:
                return True
        return bool(self._queue)

    def _promote(self) -> bool:
        """Take up a stopped trial that may reach the front after all; True: there is one."""
        due = self._promotable
        if due is None:
            return False
        self._record("promote", trial=due.trial, chance=round(due.chance, 4))
        self._queue.append((due.trial, 0))
        self._stopped = None, None
        return True

    @property
    def _promotable(self) -> promotion.Promotion | None:
        """The stopped trial that is due once nothing more is proposed; see `promotion`.

        With a budget that is known when all others are over: who stops leaves epochs for another.
        """
        search = self.space.search
        if search.promote is None or self._hopeless or not self.why_done:
            return None
        if search.budget is not None and any(
            trial.outcome is None and trial.promoted is None
            for trial in self.history.trials.values()
        ):
            return None
        dismissed = self.history.dismissed | self._unaffordable
        known = (*self.outcomes().values(), dismissed)
        if self._stopped[0] != known:
            due = promotion.following(
                self.trials,
                self.objectives,
                least=search.promote,
                dismissed=dismissed,
            )
            self._stopped = known, due
        return self._stopped[1]

    def _doubt(self) -> bool:
        """Queue a further seed where the front is least certain; True: there is one."""
        self._queue.extend(place for place in [self._doubted] if place is not None)
        return bool(self._queue)

    @property
    def _doubted(self) -> Place | None:
        """The further seed that is due once all trials are over; see `search.study.further`."""
        trials = self.trials
        if self.space.search.further is None or self._hopeless or not self.why_done:
            return None
        if self._queue.handed or any(trial.outcome is None for trial in trials):
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
        return self._unpaid_epochs(self._left(number, index))

    def _left(self, number: int, index: int) -> int:
        """The epochs that a replicate has still to train."""
        trial = self.history.trials[number]
        epochs: int = trial.config["training"]["epochs"]
        bare = trial.key_of(index) in self.bare
        return epochs - (0 if bare else self.history.reached(trial, index))

    def _unpaid_epochs(self, epochs: int) -> str:
        """Why it does not pay for so many, beside what runs or is about to; empty: it does."""
        spending, budget = self.history.spending, self.space.search.budget
        if budget is None:
            return ""
        begins = sum(self._left(*place) for place in self._queue.handed)
        return spending.unpaid(budget, epochs, self._now, begins=begins)

    @property
    def _unaffordable(self) -> frozenset[int]:
        """Stopped trials whose last epoch, with all their seeds, the budget does not pay for beside
        the seeds of those that have been promoted.
        """
        if self.space.search.budget is None:
            return frozenset()
        trials = self.history.trials.values()
        beside = sum(self._seeds(t) for t in trials if t.promoted is not None and t.outcome is None)
        needs = {
            trial.number: self._left(trial.number, 0) + self._seeds(trial)
            for trial in trials
            if trial.outcome == "pruned" and trial.replicates
        }
        refused = {need for need in set(needs.values()) if self._unpaid_epochs(need + beside)}
        return frozenset(number for number, need in needs.items() if need in refused)

    def _seeds(self, trial: Trial) -> int:
        """The epochs of a trial's seeds beyond the first that nobody has taken up."""
        count = max(self.space.search.replicates, planned(trial))
        missing = [
            index
            for index in range(1, count)
            if replicate_of(trial, index) is None
            and (trial.number, index) not in self._queue.handed
        ]
        epochs: int = trial.config["training"]["epochs"]
        return len(missing) * epochs

    @property
    def _unpaid_proposal(self) -> str:
        """Why it pays for no trial that is still to be proposed; empty: it may pay for one."""
        return self._unpaid_epochs(self.history.spending.shortest or 1)

    @property
    def _hopeless(self) -> str:
        """Why going on makes no sense: what ended since the driver began failed for one reason."""
        few = self.space.search.failures.consecutive
        ended = [self.history.trials[number] for number in self.history.lately[-few:]]
        return verdict.hopeless(ended, few, proven=self.history.proven)

    def _end_waiting(self, number: int) -> None:
        """End what a stopped trial has waiting for a worker."""
        for waiting in self._queue.of(number):
            self._queue.remove(waiting)
            self.start(self._assignment(*waiting), "")
            self.end(*waiting, Ending("pruned", self.stopping[number]))

    def _settle(self, number: int) -> None:
        """Queue the trial's next replicates, or, when all have ended, say what it was worth."""
        trial = self.history.trials[number]
        first = trial.replicates[0]
        self._queue.add_replicates(number)
        handed = any(place[0] == number for place in self._queue.handed)
        waiting = handed or self._queue.of(number)
        if waiting or any(known.outcome is None for known in trial.replicates):
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

    def _running(self) -> list[tuple[int, int]]:
        return [
            (trial.number, replicate.number)
            for trial in self.history.trials.values()
            for replicate in trial.replicates
            if is_open(replicate)
        ]

    # ---- one record at a time --------------------------------------------------------------

    @property
    def _open(self) -> Ledger:
        if self._journal is None:
            raise RuntimeError("this study was only read; `eca-search resume` drives it")
        return self._journal

    def _record(self, kind: str, **fields: Any) -> None:
        """Write a record; what others have said goes in short, and without the secrets in it."""
        said = {key: redacted(fields[key])[:SAID] for key in TOLD if fields.get(key)}
        self._memory.fold(self._open.append(kind, **{**fields, **said}))


def seed_of(study_seed: int, replicate: int) -> int:
    """A replicate's seed: never the trial's number, the worker's or the attempt's."""
    return digest_int(study_seed, "replicate", replicate)


def once(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a report tells of its attempt, once: its device, and how many images train and judge."""
    device, images = report.get("device"), report.get("images")
    return {
        **({"device": str(device)} if device else {}),
        **({"images": [int(count) for count in images]} if images else {}),
    }
