"""What it took: trials by outcome, epochs trained and spared, hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from search import text
from search.report.section import Prose, Section, Table
from search.trial import Trial

if TYPE_CHECKING:
    from search.study import Study


def section(study: Study) -> Section:
    """What was tried, what it took, and what was spared."""
    trials = [trial for trial in study.trials if trial.replicates]
    whole = sum(trial.config["training"]["epochs"] * len(trial.replicates) for trial in trials)
    trained = sum(trial.epochs for trial in trials)
    counts = study.counts()
    said = (
        f"{trained:,} of {whole:,} epochs were trained; stopping spared {whole - trained:,}. "
        f"{counts['duplicate']} proposals were networks seen before and cost nothing, "
        f"{counts['infeasible']} were over a limit and were never trained."
    )
    return Section(
        "Budget", (Prose(f"{study.name}: {text.tally(study)}."), table(study), Prose(said))
    )


def table(study: Study) -> Table:
    """Every outcome with its trials, epochs and worker hours."""
    trials = [trial for trial in study.trials if trial.replicates]
    rows = [
        [outcome, str(count), *_work(t for t in trials if (t.outcome or "running") == outcome)]
        for outcome, count in Counter(t.outcome or "running" for t in trials).most_common()
    ]
    rows.append(["in all", str(len(trials)), *_work(trials)])
    return Table(
        ["outcome", "trials", "epochs", "worker hours"],
        rows,
        left=["outcome"],
        caption="Worker hours are GPU-hours where a worker has a GPU.",
    )


def _work(trials: Iterable[Trial]) -> list[str]:
    """Epochs, and hours that attempts took on workers."""
    replicates = [replicate for trial in trials for replicate in trial.replicates]
    seconds = sum(
        attempt.ended - attempt.started
        for replicate in replicates
        for attempt in replicate.attempts
        if attempt.ended is not None
    )
    return [f"{sum(len(r.curve) for r in replicates):,}", f"{seconds / 3600:.2f}"]
