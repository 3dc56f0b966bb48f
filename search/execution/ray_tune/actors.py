"""Ray's actors: which attempt each carries, and who it is."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.execution import notice

if TYPE_CHECKING:
    from search.execution.desk import Desk


class Actors:
    """Ray's actors: which attempt each carries, who it is. None of them is waited for."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._actors: dict[str, Any] = {}  # by the id of Ray's trial
        self._known: dict[Any, tuple[str, str]] = {}  # by actor: `host:pid`, node
        self._asked: dict[str, Any] = {}  # trials whose actors were asked who they are
        self._waiting: list[Any] = []  # Ray's trials that no actor has taken up
        self._seen = 0
        self._sent_off: float | None = None  # when the driver was to end
        self._telling: list[Any] = []

    def begin(self, trial: Any) -> None:
        """An actor has come up, or was reset, for a trial."""
        actor = self._actors[trial.trial_id] = trial.temporary_state.ray_actor
        if actor._actor_id in self._known:
            self._desk.start(trial.trial_id, *self._known[actor._actor_id])
        else:
            self._desk.ask(trial.trial_id)
            self._asked[trial.trial_id] = actor.worker.remote()

    def greet(self, trial_id: str | None = None) -> None:
        """Begin the attempts whose actors have said who they are; `trial_id`'s has, for sure."""
        for asked in [trial_id] if trial_id else list(self._asked):
            if asked in self._asked and self._answered(asked, sure=bool(trial_id)):
                actor = self._actors[asked]._actor_id
                try:
                    self._known[actor] = ray.get(self._asked.pop(asked))
                except ray.exceptions.RayActorError:
                    continue  # Ray will tell of its end
                self._desk.start(asked, *self._known[actor])

    def _answered(self, trial_id: str, *, sure: bool) -> bool:
        return bool(ray.wait([self._asked[trial_id]], timeout=5 if sure else 0)[0])

    def look_at_resets(self, trials: list[Any]) -> None:
        """Tell the desk which attempts were put to actors that did something else before."""
        self._waiting += trials[self._seen :]
        self._seen = len(trials)
        if self._waiting:
            self._waiting = [trial for trial in self._waiting if trial.status == trial.PENDING]
        for trial in self._waiting:
            if trial.temporary_state.ray_actor is not None:
                self._actors[trial.trial_id] = trial.temporary_state.ray_actor
                self._desk.ask(trial.trial_id)

    def let_go(self, trial_id: str) -> None:
        """The attempt is over; its actor may do something else."""
        self._actors.pop(trial_id, None)
        self._asked.pop(trial_id, None)

    def send_off(self) -> bool:
        """Tell every worker, once, to store its state and leave; whether one is still to do so.

        One that is not known yet has nothing to store.
        """
        if self._sent_off is None:
            self._sent_off = time.monotonic()
            for actor in self._actors.values():
                if actor._actor_id in self._known:
                    worker, node = self._known[actor._actor_id]
                    there = NodeAffinitySchedulingStrategy(node, soft=False)
                    tell = _tell.options(scheduling_strategy=there)
                    self._telling.append(tell.remote(int(worker.rpartition(":")[2])))
        begun = any(attempt.begun for attempt in self._desk.carried.values())
        return begun and time.monotonic() - self._sent_off < notice.GRACE - 5

    def kill(self, trial_id: str) -> None:
        """End the actor of an attempt; Ray tells of its death."""
        if trial_id in self._actors:
            ray.kill(self._actors[trial_id])


@ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]
def _tell(pid: int) -> None:
    """Tell a worker on this node to leave."""
    os.kill(pid, signal.SIGTERM)
