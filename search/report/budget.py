"""What it took: trials by outcome, epochs trained and spared, hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search import text
from search.report.section import Prose, Section, Table
from search.trial import Trial

if TYPE_CHECKING:
    from search.study import Study


def section(study: Study) -> Section:
    """What was tried, what it took, and what was spared."""
    trained = sum(trial.epochs for trial in study.trials)
    counts = study.counts()
    said = (
        f"{trained:,} epochs were trained; stopping spared {_spared(study):,} more. "
        f"{counts['duplicate']} proposals were networks seen before and cost nothing, "
        f"{counts['infeasible']} were over a limit and were never trained."
    )
    return Section(
        "Budget", (Prose(f"{study.name}: {text.tally(study)}."), table(study), Prose(said))
    )


def _spared(study: Study) -> int:
    """The epochs that trials stopped by pruner or person would have gone on for, all seeds."""
    seeds = study.space.search.replicates
    return sum(
        trial.config["training"]["epochs"] * max(seeds, len(trial.replicates)) - trial.epochs
        for trial in study.trials
        if trial.outcome == "pruned"
    )


def table(study: Study) -> Table:
    """Every outcome with its trials, epochs and worker hours."""
    return Table(
        ["outcome", "trials", "epochs", "worker hours"],
        [
            [
                row["outcome"],
                f"{row['trials']:,}",
                f"{row['epochs']:,}",
                f"{row['worker_hours']:.2f}",
            ]
            for row in records(study)
        ],
        left=["outcome"],
        caption="Worker hours are GPU-hours where a worker has a GPU.",
    )


def records(study: Study) -> list[dict[str, Any]]:
    """The same as data, the most frequent outcome first, all of them last."""
    trials = [trial for trial in study.trials if trial.replicates]
    outcomes = Counter(trial.outcome or "running" for trial in trials)
    rows = [
        _row(word, [trial for trial in trials if (trial.outcome or "running") == word])
        for word, _ in outcomes.most_common()
    ]
    return [*rows, _row("in all", trials)]


def _row(outcome: str, trials: Sequence[Trial]) -> dict[str, Any]:
    """Trials, epochs, and the hours that attempts took on workers."""
    replicates = [replicate for trial in trials for replicate in trial.replicates]
    seconds = sum(
        attempt.ended - attempt.started
        for replicate in replicates
        for attempt in replicate.attempts
        if attempt.ended is not None
    )
    return {
        "outcome": outcome,
        "trials": len(trials),
        "epochs": sum(len(replicate.curve) for replicate in replicates),
        "worker_hours": seconds / 3600,
    }
