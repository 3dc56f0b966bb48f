"""What Ray Tune calls in its loop, and what each call means to the desk.

The searcher hands out, the scheduler takes epochs, the callback sees beginnings, deaths and every
turn of the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray
from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.execution import notice
from search.execution.cluster import Pulse
from search.execution.ray_tune.actors import Actors
from search.execution.ray_tune.deaths import ending_of, error_of, whole
from search.trial import Ending

if TYPE_CHECKING:
    from search.execution.desk import Desk


class StudySearcher(Searcher):  # type: ignore[misc]
    """Hands out what the desk has, and tells it of attempts that have ended by their own word."""

    def __init__(self, desk: Desk, actors: Actors) -> None:
        super().__init__()
        self._desk = desk
        self._actors = actors

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles what it is given, for a `Tuner.restore` that is never called."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        """The next attempt as a Ray config; None: not now; `FINISHED`: there is no more."""
        with self._desk.kept():
            return self._desk.take(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """An attempt is over; its last epoch may come along."""
        if not error:  # an error is told by the callback, which knows what it was
            ending = _nested(result or {}, "ending")
            metrics = (result or {}).get("metrics", [])
            with self._desk.kept():
                self._actors.greet(trial_id)
                self._desk.complete(trial_id, metrics, Ending(**ending) if ending else None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing of Ray's is restored."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing of Ray's is restored."""


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]
    """Takes every epoch to the desk, which says whether to go on."""

    def __init__(self, desk: Desk, actors: Actors) -> None:
        super().__init__()
        self._desk = desk
        self._actors = actors

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """One epoch or more; STOP where the desk says so, and what came after it is forgotten."""
        with self._desk.kept():
            self._actors.greet(trial.trial_id)
            stop = any(self._desk.report(trial.trial_id, epoch) for epoch in result["metrics"])
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)


class StudyCallback(Callback):  # type: ignore[misc]
    """Sees attempts begin, end and die, and in every turn of the loop does what is due."""

    def __init__(self, desk: Desk, actors: Actors, pulse: Pulse) -> None:
        self._desk = desk
        self._actors = actors
        self._pulse = pulse

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """An actor is there for an attempt."""
        with self._desk.kept():
            self._actors.begin(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """An attempt is over and its actor free."""
        self._actors.let_go(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """An actor has died, or has ended itself."""
        error = error_of(trial)
        died = isinstance(error, ray.exceptions.RayActorError)
        with self._desk.kept():
            self._actors.kill(trial.trial_id)  # out of reach, it may yet write where the next will
            self._actors.let_go(trial.trial_id)
            self._desk.died(
                trial.trial_id,
                ending_of(error),
                lost=isinstance(error, ray.exceptions.ActorUnavailableError),
                said=whole(error) if died else "",
            )

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """A turn of the loop: is the head there, who is to be killed, are we to leave?"""
        if self._desk.error is not None:
            raise self._desk.error
        with self._desk.kept():
            self._pulse.check()
            self._actors.greet()
            self._actors.look_at_resets(trials)
            self._desk.decide()
            if notice.given() and not self._actors.send_off():
                raise KeyboardInterrupt
            for trial_id in self._desk.condemned():
                self._actors.kill(trial_id)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """The end of a turn: what was decided goes to the disk."""
        with self._desk.kept():
            self._pulse.check()
            if self._desk.study.commit(now=False):
                self._desk.watch(self._desk.study)
                self._desk.refuse_to_wait()


def _nested(result: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The entries Ray has flattened to `prefix/name`."""
    head = f"{prefix}/"
    return {name[len(head) :]: value for name, value in result.items() if name.startswith(head)}
