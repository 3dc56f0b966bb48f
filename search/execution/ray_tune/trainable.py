"""What runs in an actor: a `Trainable` that does one attempt after another, and its mates."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from search.execution import notice
from search.execution.cluster import forget, share
from search.execution.meeting import Meeting, called
from search.execution.ray_tune.connection import draining
from search.execution.ray_tune.deaths import AttemptFailed, ending_of
from search.execution.worker import Workplace, attempt, freed, here
from search.trial import Assignment, Ending

SPOILT = ("oom", "host_oom", "crashed", "preempted")
"""Endings after which a process is not used again: its memory may be spoilt, or it is to leave."""
LOOK = 2.0
"""Seconds between two looks of a worker at whether its node is being drained."""


class Attempt(tune.Trainable):  # type: ignore[misc]
    """A reusable actor: one attempt after another, PyTorch imported once.

    `attempt` is what it does with an assignment, `freed` says whether that has left the GPU's
    memory free; a subclass may do something else. Epochs shorter than the workplace's `pace` are
    told together: each message costs the driver more than a millisecond, and the training waits
    meanwhile. A decision to stop comes so much later then.
    """

    attempt = staticmethod(attempt)
    freed = staticmethod(freed)
    _pace = 0.0
    _spoilt = False
    _messages: Iterator[dict[str, Any] | Ending]

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first assignment, without what a job's own environment told of MLflow."""
        _settle_in()
        self._take(config)

    def step(self) -> dict[str, Any]:
        """One epoch, several that are short, or the ending: `done` with an outcome word."""
        begun, told = time.monotonic(), list[dict[str, Any]]()
        while True:
            message = next(self._messages)
            if isinstance(message, Ending):
                if not told:
                    return self._over(self._mates.reason(message))
                # told that it is to stop, the driver never hears of the ending
                self._spoilt = not self._reusable(message)
                self._messages = iter([message])
                return {"metrics": told}
            told.append(message)
            if notice.given():
                return {"metrics": told}
            if message["epoch"] >= self._epochs:
                return self._last(told)
            if time.monotonic() - begun >= self._pace:
                return {"metrics": told}

    def _last(self, told: list[dict[str, Any]]) -> dict[str, Any]:
        """The last epochs, which bring their ending along: one trip less."""
        ending = next(self._messages)
        assert isinstance(ending, Ending)
        if not self._reusable(ending):  # what ends with its process is told after the epoch
            self._spoilt = True
            self._messages = iter([ending])
            return {"metrics": told}
        return {"metrics": told, **self._over(ending)}

    def _over(self, ending: Ending) -> dict[str, Any]:
        """The ending as a result, or as the end of a process that is not used again."""
        if not self._reusable(ending):
            raise AttemptFailed(json.dumps(asdict(ending)))
        return {"done": True, "ending": asdict(ending)}

    def _reusable(self, ending: Ending) -> bool:
        """Whether another attempt may follow here: not in a process that may be spoilt, is to leave
        or holds memory, as the next trial would find its GPU fuller than it was told.
        """
        self._drop()
        spoilt = self._spoilt or ending.outcome in SPOILT
        return not spoilt and not notice.given() and self.freed()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next assignment in the same process."""
        self.cleanup()
        self._take(new_config)
        return True

    def cleanup(self) -> None:
        """Drop what is running."""
        self._mates.leave()  # they may be waiting for us
        self._drop()

    def _drop(self) -> None:
        """A generator that is closed lets go of its network."""
        if isinstance(self._messages, Generator):
            self._messages.close()

    def worker(self) -> tuple[str, str]:
        """`host:pid` of this process, and its node."""
        return here(), ray.get_runtime_context().get_node_id()

    def _take(self, config: dict[str, Any]) -> None:
        assignment = Assignment(**json.loads(config["assignment"]))
        workplace = Workplace(**json.loads(config["workplace"]))
        self._epochs, self._pace = assignment.config["training"]["epochs"], workplace.pace
        why = "its memory may be spoilt" if self._spoilt else notice.given()
        if why:  # nothing is begun here that would be cut off at once
            self._mates = _Mates(assignment, replace(workplace, processes=1))
            self._messages = iter([Ending("interrupted", f"its worker is to leave: {why}")])
            return
        workplace = _settled(workplace)
        self._mates = _Mates(assignment, workplace)
        meeting = self._mates.meeting
        self._messages = self.attempt(assignment, workplace, *([meeting] if meeting else []))


class Mate:
    """A process of a trial that several train together, the first of which is its `Attempt`."""

    def __init__(self) -> None:
        _settle_in()

    def train(self, assignment: Assignment, workplace: Workplace, meeting: Meeting) -> Ending:
        """Do the same as the first process, which alone is listened to."""
        meeting = replace(meeting, here=ray.util.get_node_ip_address())
        for message in attempt(assignment, _settled(replace(workplace, logs="")), meeting):
            if isinstance(message, Ending):
                return message
        return Ending("crashed", "the attempt ended without a word")


class _Mates:
    """The other processes of a trial, each in its bundle of the trial's placement group."""

    def __init__(self, assignment: Assignment, workplace: Workplace) -> None:
        self.meeting: Meeting | None = None
        self._actors: list[Any] = []
        self._endings: list[Any] = []
        if workplace.processes == 1:
            return
        self.meeting = called(ray.util.get_node_ip_address(), workplace.processes)
        group = ray.util.get_current_placement_group()
        theirs = replace(assignment, latencies=None)
        for rank in range(1, workplace.processes):
            bundle = group.bundle_specs[rank]
            actor = ray.remote(Mate).options(
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, rank),
            )
            self._actors.append(actor.remote())
            told = self._actors[-1].train.remote(theirs, workplace, self.meeting.guest(rank))
            self._endings.append(told)

    def reason(self, ending: Ending) -> Ending:
        """What an attempt ended of: where it lost the others, what one of them says."""
        if ending.outcome != "crashed" or not self._endings:
            return ending
        over, _ = ray.wait(self._endings, num_returns=len(self._endings), timeout=5)
        for each in over:
            try:
                theirs = ray.get(each)
            except ray.exceptions.RayError as error:
                return ending_of(error)
            if theirs.outcome not in ("finished", "crashed"):
                return Ending(**asdict(theirs))
        return ending

    def leave(self) -> None:
        """End them."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []


def _settle_in() -> None:
    """Make a process of Ray's a worker of ours."""
    forget()
    notice.listen()
    node = ray.get_runtime_context().get_node_id()
    threading.Thread(target=_until_drained, args=(node,), name="drain", daemon=True).start()


def _settled(workplace: Workplace) -> Workplace:
    """The workplace with the cores of this node that are this process's own."""
    node, group = ray.get_runtime_context().get_node_id(), ray.util.get_current_placement_group()
    have: dict[str, float] = {}
    for each in ray.nodes():
        if each["NodeID"] == node:
            have = each["Resources"]
    at_most = workplace.at_most and workplace.at_most * workplace.processes
    there = len(os.sched_getaffinity(0))
    cores = share(have, group.bundle_specs[0], cores=there, at_most=at_most)
    return replace(workplace, cores=cores)


def _until_drained(node: str) -> None:
    """Wait until the node of this worker is drained, and say so."""
    while True:
        with suppress(ray.exceptions.RpcError):  # the head is busy, or gone: then we go too
            if node in draining():
                break
        time.sleep(LOOK)
    notice.give("its node is drained")
