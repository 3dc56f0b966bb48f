"""Pure judgements on reports and endings; `search.study.study` acts on them."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search.trial import RETRIED, Attempt, Ending, Trial
from spaces.errors import counted
from spaces.latency import Latency
from spaces.settings import Failures, Timing

ABOUT_THE_CONFIG = frozenset({"diverged", "oom", "timeout"})
"""Failures that one config may well have and the next not."""


def complaint(
    metrics: Mapping[str, Any], *, objectives: Iterable[str], expected: int
) -> Ending | None:
    """What is wrong with an epoch's report, if anything is; `metrics` has costs and latencies too.

    `bad_report` for an epoch out of turn and for an objective's metric that is missing or no
    number, `diverged` for one that is not finite.
    """
    if metrics.get("epoch") != expected:
        return Ending("bad_report", f"expected epoch {expected}, got {metrics.get('epoch')!r}")
    for name in objectives:
        value = metrics.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return Ending("bad_report", f"epoch {expected} reports {name} as {value!r}")
        if not math.isfinite(value):
            return Ending("diverged", f"{name} is {value} at epoch {expected}")
    return None


def finite(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a report that JSON and MLflow can hold."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def timed(trial: Trial, timing: Timing | None) -> bool:
    """Whether a trial has the latencies that are asked for, no more and no fewer."""
    sizes = {latency.batch_size for latency in trial.latencies}
    return timing is not None and sizes == set(timing.batch_sizes)


def first(found: Iterable[Latency], known: Iterable[Latency]) -> list[Latency]:
    """Latencies as they are kept: of one network at one place the first measurement counts.

    Two trials of a network may measure it at the same time, and it has but one cost.
    """
    places = {latency.place: latency for latency in known}
    return [places.get(latency.place, latency) for latency in found]


def retried(attempts: Sequence[Attempt], ending: Ending, failures: Failures) -> bool:
    """Whether the same replicate gets another attempt: `failures` says how often (None: always).

    An interrupted one always does: that was not the config's doing, nor the cluster's.
    """
    if ending.outcome not in RETRIED:
        return False
    allowed = {"crashed": failures.crashed, "preempted": failures.preempted}.get(ending.outcome)
    before = sum(attempt.outcome == ending.outcome for attempt in attempts)
    return allowed is None or before < allowed


def halved(trial: Trial, index: int, ending: Ending, processes: int = 1) -> int | None:
    """The parts a batch is to be cut into after `oom`, twice those before; None: that is no help.

    Only while no replicate has finished: the seeds of one trial share their recipe. A part has at
    least two samples, since batch norm needs them, and one for each of the trial's processes.
    """
    finished = any(replicate.outcome == "finished" for replicate in trial.replicates)
    parts = 2 * trial.config["training"].get("accumulate", 1)
    if ending.outcome != "oom" or finished or index > 0:
        return None
    return parts if trial.config["training"]["batch_size"] >= max(2, processes) * parts else None


def hopeless(ended: Sequence[Trial], consecutive: int, *, proven: bool) -> str:
    """Why a search is given up: its newest so many trials all failed, for one reason; else empty.

    A training that diverges, is too large or too slow says something about its config: where the
    search is `proven`, since a trial of it has come through, such failures are answers and end
    nothing.
    """
    newest = ended[-consecutive:]
    if len(newest) < consecutive or not all(trial.failed for trial in newest):
        return ""
    outcome = newest[0].outcome or ""
    if len({_reason(trial) for trial in newest}) > 1:
        return ""
    if outcome in ABOUT_THE_CONFIG and proven:
        return ""
    many = counted(consecutive, "trial")
    return f"{many} in a row failed for one reason: {outcome}: {newest[-1].reason}"


def _reason(trial: Trial) -> tuple[str, str]:
    """The outcome, and the words of what went wrong without its numbers."""
    outcome = trial.outcome or ""
    return outcome, "" if outcome in ABOUT_THE_CONFIG else re.sub(r"[0-9.]+", "0", trial.reason)


def worth(
    trial: Trial, objectives: Sequence[str]
) -> tuple[dict[str, float] | None, dict[str, float]]:
    """Mean and sample standard deviation of each objective over the finished replicates.

    The last epoch counts, never the best. No mean unless the first replicate finished; no
    deviation below two, nor of a cost or a latency, which all replicates share.
    """
    finished = [r.curve[-1] for r in trial.replicates if r.outcome == "finished"]
    if not finished or trial.replicates[0].outcome != "finished":
        return None, {}
    columns = {
        name: [{**last, **trial.untrained}[name] for last in finished] for name in objectives
    }
    means = {name: statistics.fmean(column) for name, column in columns.items()}
    if len(finished) < 2:
        return means, {}
    return means, {
        name: statistics.stdev(column)
        for name, column in columns.items()
        if name not in trial.untrained
    }


def why(trial: Trial) -> str:
    """Why it ended as it did: its first replicate's reason, and those of later ones that failed."""
    first, *others = trial.replicates
    lost = [
        f"replicate {other.number}: {other.outcome}: {other.reason}"
        for other in others
        if other.outcome != "finished"
    ]
    return "; ".join(filter(None, [first.reason, *lost]))
