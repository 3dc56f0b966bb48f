"""What is known of a trial that failed, as a text for whoever looks for the cause."""

from __future__ import annotations

from pathlib import Path

from search.redaction import redacted
from search.study import logs
from search.trial import FAILED, Attempt, Replicate, Trial


def told(study: Path, trial: Trial) -> str:
    """How each attempt ended, the last failure's traceback, and the end of its log; no secrets."""
    every = [(replicate, a) for replicate in trial.replicates for a in replicate.attempts]
    parts = [
        f"{trial.name}: {trial.outcome}: {trial.reason}",
        "\n".join(_ending(replicate, attempt) for replicate, attempt in every),
    ]
    failed = [(replicate, attempt) for replicate, attempt in every if attempt.outcome in FAILED]
    for replicate, attempt in failed[-1:]:
        log = logs.tail(study, trial.number, replicate.number, attempt.number)
        if attempt.detail and attempt.detail.strip() not in log:
            parts.append(attempt.detail)
        if log:
            name = logs.path(study, trial.number, replicate.number, attempt.number)
            parts.append(f"The end of {name}:\n\n{log}")
    return redacted("\n\n".join(part.strip() for part in parts if part.strip())) + "\n"


def _ending(replicate: Replicate, attempt: Attempt) -> str:
    went = f"replicate {replicate.number + 1}, attempt {attempt.number}, on {attempt.worker}"
    return f"{went}: {attempt.outcome}: {attempt.reason}"
