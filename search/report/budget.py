"""What it took: trials by outcome, epochs trained and spared, hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search import text
from search.report.section import Prose, Section, Table
from search.trial import Trial
from spaces.errors import counted

if TYPE_CHECKING:
    from search.study.study import Study


def section(study: Study) -> Section:
    """What was tried, what it took, and what was spared."""
    trials = [trial for trial in study.trials if trial.replicates]
    trained = sum(trial.epochs for trial in trials)
    repeated = sum(
        max(0, sum(attempt.epochs for attempt in replicate.attempts) - len(replicate.curve))
        for trial in trials
        for replicate in trial.replicates
    )
    again = (
        f" {repeated:,} more were trained to no gain, by attempts that were cut short or found no "
        "checkpoint."
    )
    counts = study.counts()
    said = (
        f"{trained:,} epochs were trained; stopping spared {_spared(study):,}."
        f"{again if repeated else ''} "
        f"{counts['duplicate']} proposals were networks seen before and cost nothing, "
        f"{counts['infeasible']} were over a limit and were never trained."
        f"{_second_chances(study)}{_control(study)}"
    )
    return Section(
        "Budget", (Prose(f"{study.name}: {text.tally(study)}."), table(study), Prose(said))
    )


def _second_chances(study: Study) -> str:
    """What came of trials that had been stopped and went on; empty where none did."""
    again = [trial for trial in study.trials if trial.promoted is not None]
    if not again:
        return ""
    finished = [trial.number for trial in again if trial.outcome == "finished"]
    front = {trial.number for trial in study.pareto()}
    kept = len(front.intersection(finished))
    return (
        f" {counted(len(again), 'trial')} had been stopped and went on (`pruner.promote`): "
        f"{len(finished)} finished, {kept} of them {'is' if kept == 1 else 'are'} on the front."
    )


def _control(study: Study) -> str:
    """What the control arm says of the pruner's mistakes; empty where there is none."""
    pruner = study.space.search.pruner
    if pruner is None or not pruner.params.get("control"):
        return ""
    front = {trial.number for trial in study.pareto()}
    arm = study.spared
    spared = [t for t in study.trials if t.number in arm and t.outcome == "finished"]
    kept = sum(trial.number in front for trial in spared)
    return (
        f" Of the control arm {counted(len(spared), 'trial')} finished that would have been "
        f"stopped; {kept} of them {'is' if kept == 1 else 'are'} on the front."
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
    """Every outcome with its trials, epochs, worker hours and GPU-hours."""
    return Table(
        ["outcome", "trials", "epochs", "worker hours", "GPU-hours"],
        [
            [
                row["outcome"],
                f"{row['trials']:,}",
                f"{row['epochs']:,}",
                f"{row['worker_hours']:.2f}",
                f"{row['gpu_hours']:.2f}",
            ]
            for row in records(study)
        ],
        left=["outcome"],
        caption="Epochs of every seed and every retry; GPU-hours are GPUs times the hours that "
        "attempts held them. What a fork took over costs nothing.",
    )


def records(study: Study) -> list[dict[str, Any]]:
    """The same as data, the most frequent outcome first, all of them last."""
    trials = [trial for trial in study.trials if trial.replicates]
    outcomes = Counter(trial.outcome or "running" for trial in trials)
    rows = [
        _row(study, word, [trial for trial in trials if (trial.outcome or "running") == word])
        for word, _ in outcomes.most_common()
    ]
    return [*rows, _row(study, "in all", trials)]


def _row(study: Study, outcome: str, trials: Sequence[Trial]) -> dict[str, Any]:
    """Trials, and what their attempts took until the last that is known, as a budget counts it."""
    attempts = [
        (attempt, (study.updated if attempt.ended is None else attempt.ended) - attempt.started)
        for trial in trials
        for replicate in trial.replicates
        for attempt in replicate.attempts
    ]
    return {
        "outcome": outcome,
        "trials": len(trials),
        "epochs": sum(attempt.epochs for attempt, _ in attempts),
        "worker_hours": sum(seconds for _, seconds in attempts) / 3600,
        "gpu_hours": sum(seconds * attempt.gpus for attempt, seconds in attempts) / 3600,
    }
