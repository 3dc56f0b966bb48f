"""Two parts of Tune (ray 2.60) that are used otherwise than they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.tune.execution import tune_controller
from ray.tune.utils.object_cache import _ObjectCache

from search.execution.ray_tune.deaths import as_death

IDLE = 30.0
"""Seconds after which a worker that has nothing to do is ended."""


class Manager(RayActorManager):  # type: ignore[misc]
    """Tune's, with every death told: in ray 2.60 one for want of memory would end the search."""

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, as_death(exception))

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        super()._actor_task_failed(tracked_actor_task, as_death(exception))


class Idle(_ObjectCache):  # type: ignore[misc]
    """Tune's actors without a trial: it would keep one of them, and its GPU, until the search ends.

    One that has had nothing to do for `IDLE` seconds is ended, so that others, or an autoscaler,
    have its place.
    """

    def __init__(self, may_keep_one: bool = True) -> None:
        super().__init__(may_keep_one)
        self._since: dict[Any, float] = {}

    def cache_object(self, key: Any, obj: Any) -> bool:
        """Keep an actor that has nothing to do, and since when."""
        self._since[obj] = time.monotonic()
        return bool(super().cache_object(key, obj))

    def flush_cached_objects(self, force_all: bool = False) -> Iterator[Any]:
        """The actors that are to be ended, in every turn of Tune's loop."""
        yield from super().flush_cached_objects(force_all)
        now = time.monotonic()
        for objects in self._cached_objects.values():
            for idle in [one for one in objects if now - self._since[one] > IDLE]:
                objects.remove(idle)
                self._num_cached_objects -= 1
                yield idle


@contextmanager
def tune_as_wanted() -> Iterator[None]:
    """Tune with every death told, and no actor kept for nothing."""
    tune_controller.RayActorManager, tune_controller._ObjectCache = Manager, Idle
    try:
        yield
    finally:
        tune_controller.RayActorManager, tune_controller._ObjectCache = (
            RayActorManager,
            _ObjectCache,
        )
