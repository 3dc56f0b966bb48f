"""Pure judgements on reports and endings; `search.study` acts on them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search.trial import COSTS, RETRIED, Attempt, Ending, Trial


def complaint(
    metrics: Mapping[str, Any], *, objectives: Iterable[str], expected: int
) -> Ending | None:
    """What is wrong with an epoch's report, if anything is.

    `bad_report` for an epoch out of turn and for an objective's metric that is missing or no
    number, `diverged` for one that is not finite.
    """
    if metrics.get("epoch") != expected:
        return Ending("bad_report", f"expected epoch {expected}, got {metrics.get('epoch')!r}")
    for name in objectives:
        if name in COSTS:
            continue
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


def retried(attempts: Sequence[Attempt], ending: Ending, *, crashes: int | None) -> bool:
    """Whether the same replicate gets another attempt; after `crashes` crashes it does not.

    A preempted or interrupted one always does: that was not the config's doing. None: no limit.
    """
    if ending.outcome not in RETRIED:
        return False
    if ending.outcome != "crashed" or crashes is None:
        return True
    return sum(attempt.outcome == "crashed" for attempt in attempts) < crashes


def worth(
    trial: Trial, objectives: Sequence[str]
) -> tuple[dict[str, float] | None, dict[str, float]]:
    """Mean and sample standard deviation of each objective over the finished replicates.

    The last epoch counts, never the best. No mean unless the first replicate finished; no
    deviation below two, nor of a cost, which is exact.
    """
    finished = [r.curve[-1] for r in trial.replicates if r.outcome == "finished"]
    if not finished or trial.replicates[0].outcome != "finished":
        return None, {}
    columns = {
        name: [trial.costs[name] if name in COSTS else last[name] for last in finished]
        for name in objectives
    }
    means = {name: statistics.fmean(column) for name, column in columns.items()}
    if len(finished) < 2:
        return means, {}
    return means, {
        name: statistics.stdev(column) for name, column in columns.items() if name not in COSTS
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
