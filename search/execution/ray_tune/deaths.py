"""What a worker's end was, in our words: Ray tells of it by errors, some of which Tune wraps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle

from search.execution.worker import DETAIL
from search.trial import Ending

ANSI = re.compile(r"\x1b\[[0-9;]*m")
GUESSES = " Some common causes include:"
"""What Ray has to say of any death of a worker from here on, 500 characters that tell nothing."""


class AttemptFailed(Exception):
    """Ends the worker's process, which is not used again; its text is the ending."""


class WorkerLost(ray.exceptions.RayActorError):  # type: ignore[misc]
    """A worker is gone in a way Tune has no case for; `memory`: its node had too little of it."""

    def __init__(self, said: str = "", *, memory: bool = False) -> None:
        super().__init__(error_msg=said)
        self.memory = memory


def as_death(error: Exception) -> Exception:
    """An error of Ray's as one that Tune has a case for."""
    known = (ray.exceptions.RayActorError, ray.exceptions.RayTaskError)
    if not isinstance(error, ray.exceptions.RayError) or isinstance(error, known):
        return error
    memory = isinstance(error, ray.exceptions.OutOfMemoryError)
    return WorkerLost(str(error), memory=memory)


def error_of(trial: Any) -> BaseException | str:
    """Why a Ray trial ended in error; Ray leaves it in files of this process, not in the trial."""
    if trial.pickled_error_file:
        error: BaseException = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        return error
    return Path(trial.error_file).read_text() if trial.error_file else ""


def whole(error: BaseException | str) -> str:
    """All that an error says, without colours."""
    return "\n".join(ANSI.sub("", str(error)).strip().splitlines())


def ending_of(error: BaseException | str) -> Ending:
    """What a worker's death was, in our words."""
    said = whole(error)
    lines = said.splitlines()
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, AttemptFailed):
        return Ending(**json.loads(str(error.cause)))
    reason = sentence([line.strip() for line in lines if line.strip()], error)
    if isinstance(error, WorkerLost) and error.memory:
        return Ending("host_oom", reason)
    lost = isinstance(error, ray.exceptions.RayActorError) and (
        error.preempted or "node has died" in said or "node was terminated" in said
    )
    return Ending("preempted", reason) if lost else Ending("crashed", reason, said[-DETAIL:])


def sentence(lines: list[str], error: BaseException | str) -> str:
    """The one line that says most: an exception's own is the last, a death's gives the cause."""
    if not lines:
        return "its worker died"
    if isinstance(error, ray.exceptions.RayTaskError) or "creation task" in lines[0]:
        return lines[-1]
    line = next((line for line in lines if line.startswith("The actor is dead")), lines[0])
    return line.partition(GUESSES)[0]
