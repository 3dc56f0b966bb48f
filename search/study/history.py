"""The journal, folded into facts. No Optuna, no clock, no decisions: `Study` makes those."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from search.errors import JournalError
from search.study.journal import Record
from search.study.spending import Spending
from search.trial import Attempt, Replicate, Trial
from spaces.latency import Latency


class History:
    """What the records so far say.

    `asks` counts the proposals of every kind, `carried` those taken over from another study;
    `refused` those over a limit, `invalid` those that cannot be built, `duplicates` those answered
    from a known trial, `useless` those since the last that trained. `ended` says why the study is
    over, `halted` why its driver gave up; `tracking_uri`, `executor`, `gpu` (GPUs of a trial) and
    `versions` are the last driver's.
    `spelled` is the space as the last of them writes it, `edits` are the changes of the space since
    it began, key -> (old, new), one for each driver. `stopping` holds the trials that a person has
    stopped and that are not over yet, `dismissed` all that one ever has, `lately` those that ended
    since the last driver began, in that order; with `proven` one has come through, ever.
    `latencies` are all that were measured of a network, by identity.
    `touched` gathers the numbers of trials that have changed; whoever looks clears it. `spending`
    is what it has cost.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.study: Record = {}
        self.trials: dict[int, Trial] = {}
        self.asks = 0
        self.carried = 0
        self.useless = 0
        self.refused = 0
        self.invalid = 0
        self.tracking_uri: str | None = None
        self.executor: str | None = None
        self.gpu = 0.0
        self.versions: dict[str, str] = {}
        self.duplicates = 0
        self.total = 0
        self.ended: str | None = None
        self.halted: str | None = None
        self.stopping: dict[int, str] = {}
        self.dismissed: set[int] = set()
        self.lately: list[int] = []
        self.proven = False
        self.latencies: dict[str, tuple[Latency, ...]] = {}
        self.notes: list[str] = []
        self.edits: list[dict[str, Any]] = []
        self.spelled = ""
        self.updated = 0.0
        self.touched: set[int] = set()
        self.spending = Spending()
        self._anew: dict[tuple[int, int], int] = {}  # who began again -> the epochs since
        for record in records:
            self.apply(record)

    def apply(self, record: Record) -> None:
        """Fold one record in; raises JournalError for one of a kind that is not known."""
        self.carried += "carried" in record
        self.updated = record["time"]
        self.spelled = record.get("space", self.spelled)
        self.spending.heard(record.get("fence", 0), record["time"])
        changed = record.get("trial", record.get("of"))
        if changed is not None:
            self.touched.add(changed)
        match record["kind"]:
            case "study":
                self.study = record
                self.total = record["trials"]
            case "driver":
                self.ended = self.halted = None
                self.lately.clear()
                self.tracking_uri = record.get("tracking_uri")
                self.executor = record.get("executor")
                self.gpu = record.get("gpu", 0.0)
                self.versions = record.get("versions", {})
                self.spending.outlived(record.get("outlived", 0.0))
            case "extend":
                self.total = record["trials"]
                self.ended = None
            case "ask":
                self.asks += 1
                self.useless = 0
                self._ask(record)
            case "refuse":
                self.asks += 1
                self.useless += 1
                self.invalid += record["outcome"] == "invalid"
                self.refused += record["outcome"] != "invalid"
            case "alias":
                self.asks += 1
                self.duplicates += 1
                self.useless = 0 if record["replicate"] is not None else self.useless + 1
                self._alias(record)
            case "start":
                self._start(record)
            case "latency":
                self._latency(record)
            case "epoch":
                self._epoch(record)
            case "again":
                self._again(record)
            case "end":
                self._end(record)
            case "trial":
                self._trial(record)
            case "stop":
                self._stop(record)
            case "promote":
                self._promote(record)
            case "edit":
                self.edits.append(record["changes"])
            case "note":
                self.notes.append(record["text"])
            case "done":
                self.ended = record["reason"]
            case "halt":
                self.halted = record["reason"]
            case "carried":
                self._forgive()
            case unknown:
                raise JournalError(
                    f"record {record['seq']} of the journal is {unknown!r}, which this release of "
                    "eca-search does not know: use the one that wrote it"
                )

    def _ask(self, record: Record) -> None:
        facts = ("values", "config", "label", "identity", "key", "costs", "kernels", "placement")
        number = record["trial"]
        self.trials[number] = Trial(number=number, **{fact: record[fact] for fact in facts})
        self.spending.proposed(record["config"]["training"]["epochs"])

    def _alias(self, record: Record) -> None:
        trial = self.trials[record["of"]]
        alias = {name: record[name] for name in ("values", "time", "replicate")}
        self.trials[trial.number] = replace(trial, aliases=(*trial.aliases, alias))

    def _start(self, record: Record) -> None:
        trial, number = self.trials[record["trial"]], record["replicate"]
        attempt = Attempt(
            record["attempt"], started=record["time"], worker=record["worker"], gpus=self.gpu
        )
        known = replicate_of(trial, number)
        if known is None:
            known = Replicate(number, seed=record["seed"], key=trial.key_of(number))
        self._put(trial, replace(known, attempts=(*known.attempts, attempt)))
        if trial.started is None:
            self.trials[trial.number] = replace(self.trials[trial.number], started=record["time"])
        place = (trial.number, number)
        if "anew" in record:
            self._anew[place] = 0
        owed = trial.config["training"]["epochs"] - self.reached(trial, number)
        self.spending.started(place, record["time"], self.gpu, owed)

    def _latency(self, record: Record) -> None:
        trial = self.trials[record["trial"]]
        found = tuple(Latency(**latency) for latency in record["latencies"])
        self.trials[trial.number] = replace(trial, latencies=found)
        known = self.latencies.get(trial.identity, ())
        self.latencies[trial.identity] = tuple(dict.fromkeys((*known, *found)))

    def _epoch(self, record: Record) -> None:
        trial = self._counted(record)
        replicate = _trained(self._replicate(trial, record), record)
        metrics = {sys.intern(name): value for name, value in record["metrics"].items()}
        curve = (*replicate.curve, metrics)
        self._put(trial, replace(replicate, curve=curve))
        self._anew.pop((trial.number, replicate.number), None)
        self.spending.trained((trial.number, replicate.number))

    def _again(self, record: Record) -> None:
        """An epoch that the curve has was trained once more."""
        trial = self._counted(record)
        self._put(trial, _trained(self._replicate(trial, record), record))
        place = (trial.number, record["replicate"])
        if place in self._anew:
            self._anew[place] += 1
            self.spending.trained(place)  # which was owed
        else:
            self.spending.repeated(1)

    def _end(self, record: Record) -> None:
        trial = self.trials[record["trial"]]
        replicate = self._replicate(trial, record)
        outcome, reason = record["outcome"], record["reason"]
        late = "ended" in record  # its driver had died some time before
        ended: float = record["ended"] if late else record["time"]
        repeated: int = record.get("repeated", 0)  # of earlier releases, which wrote no "again"
        *before, attempt = replicate.attempts
        attempt = replace(
            attempt,
            ended=ended,
            outcome=outcome,
            reason=reason,
            detail=record.get("detail", ""),
            epochs=attempt.epochs + repeated,
        )
        replicate = replace(replicate, attempts=(*before, attempt))
        if record["final"]:
            replicate = replace(replicate, outcome=outcome, reason=reason)
        self._put(trial, replicate)
        place = (trial.number, replicate.number)
        self.spending.ended(place, ended)
        self.spending.repeated(repeated)
        if "accumulate" in record:
            self._halve(record)

    def _halve(self, record: Record) -> None:
        """Smaller parts of a batch are another recipe: what was trained before does not count."""
        trial = self.trials[record["trial"]]
        training = {**trial.config["training"], "accumulate": record["accumulate"]}
        trial = replace(trial, config={**trial.config, "training": training})
        trial = replace(trial, accumulate=record["accumulate"])
        replicates = tuple(
            replace(known, curve=(), key=trial.key_of(known.number)) for known in trial.replicates
        )
        self.trials[trial.number] = replace(trial, replicates=replicates)

    def _forgive(self) -> None:
        """All so far was taken over from another study: its attempts have cost nothing here."""
        self.spending.forgiven()
        for trial in list(self.trials.values()):
            for known in trial.replicates:
                attempts = tuple(replace(each, epochs=0, gpus=0.0) for each in known.attempts)
                self._put(self.trials[trial.number], replace(known, attempts=attempts))

    def _trial(self, record: Record) -> None:
        self.stopping.pop(record["trial"], None)
        self.lately.append(record["trial"])
        self.proven = self.proven or record["outcome"] in {"finished", "pruned"}
        self.trials[record["trial"]] = replace(
            self.trials[record["trial"]],
            outcome=record["outcome"],
            reason=record["reason"],
            objectives=record["objectives"],
            spread=record["spread"],
            ended=record["time"],
        )

    def _stop(self, record: Record) -> None:
        """By a person; one that the pruner has stopped is over, and is to stay so."""
        number = record["trial"]
        self.dismissed.add(number)
        if self.trials[number].outcome != "pruned":
            self.stopping[number] = record["reason"]

    def _promote(self, record: Record) -> None:
        """A trial that was stopped is open again, and so is its first replicate."""
        trial = replace(
            self.trials[record["trial"]],
            promoted=record["chance"],
            outcome=None,
            reason="",
            ended=None,
        )
        first = replace(trial.replicates[0], outcome=None, reason="")
        self._put(trial, first)

    def _counted(self, record: Record) -> Trial:
        """The trial of a record, with the images that train and judge it where that says so."""
        trial = self.trials[record["trial"]]
        if "images" in record:
            training, judging = record["images"]
            trial = self.trials[trial.number] = replace(trial, images=(training, judging))
        return trial

    def _replicate(self, trial: Trial, record: Record) -> Replicate:
        replicate = replicate_of(trial, record["replicate"])
        assert replicate is not None, "the journal never ends what it did not start"
        return replicate

    def _put(self, trial: Trial, replicate: Replicate) -> None:
        others = [known for known in trial.replicates if known.number != replicate.number]
        replicates = tuple(sorted((*others, replicate), key=lambda known: known.number))
        self.trials[trial.number] = replace(trial, replicates=replicates)

    def reached(self, trial: Trial, number: int) -> int:
        """The epochs that a replicate need not train again, as far as the journal knows."""
        known = replicate_of(trial, number)
        curve = len(known.curve) if known is not None else 0
        return self._anew.get((trial.number, number), curve)

    def counts(self, *, driven: bool = True) -> dict[str, int]:
        """How many trials run or wait, how many proposals cost nothing, and how many trials were
        lost with their nodes once too often: no failures, but no results either. Where nobody
        drives the study what has not ended waits.
        """
        going = {t.number for t in self.trials.values() if any(map(is_open, t.replicates))}
        running = going if driven else set()
        unended = {trial.number for trial in self.trials.values() if trial.outcome is None}
        return {
            "running": len(running),
            "waiting": len(unended - running),
            "infeasible": self.refused,
            "duplicate": self.duplicates,
            "invalid": self.invalid,
            "preempted": sum(t.outcome == "preempted" for t in self.trials.values()),
        }

    def outcomes(self) -> dict[str, int]:
        """How many trials have finished, were pruned, have failed."""
        trials = self.trials.values()
        return {
            "finished": sum(trial.outcome == "finished" for trial in trials),
            "pruned": sum(trial.outcome == "pruned" for trial in trials),
            "failed": sum(trial.failed for trial in trials),
        }


def replicate_of(trial: Trial, number: int) -> Replicate | None:
    """The trial's replicate of that number, if it was ever started."""
    return next((known for known in trial.replicates if known.number == number), None)


def planned(trial: Trial) -> int:
    """How many replicates duplicates have asked for, the first included."""
    asked = [alias["replicate"] for alias in trial.aliases if alias["replicate"] is not None]
    return max(asked, default=0) + 1


def _trained(replicate: Replicate, record: Record) -> Replicate:
    """Its last attempt an epoch further, on the device that a record names, if it does."""
    *before, last = replicate.attempts
    device = record.get("device", last.device)
    last = replace(last, epochs=last.epochs + 1, device=device)
    return replace(replicate, attempts=(*before, last))


def is_open(replicate: Replicate) -> bool:
    """Whether an attempt of it is running, as far as the journal knows."""
    return bool(replicate.attempts) and replicate.attempts[-1].outcome is None
