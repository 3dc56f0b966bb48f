"""A Ray cluster, ours or another's: connected to, asked for its places and for its nodes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.errors import Unfit
from search.execution.cluster import (
    LOOPBACK,
    Cluster,
    Node,
    environment,
    knock,
    own,
    places,
    withheld,
)
from search.execution.ray_tune.deaths import sentence, whole

Answer = TypeVar("Answer")


@contextmanager
def connected(address: str | None = None, *, cpus: int | None = None) -> Iterator[Cluster]:
    """A connection to a Ray cluster: `address`, else `$RAY_ADDRESS`, else one started here.

    One started here has `cpus` CPUs, or as many as the machine; it listens on this machine's
    loopback alone and asks for a token. An existing connection of this process is used as it is and
    left open. Raises `Unfit` where nobody listens, or who listens refuses us.
    """
    ours = not ray.is_initialized()
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    with environment(own() if ours and where == "local" else {}):
        if ours:
            _init(where, cpus)
        logging.getLogger("ray").setLevel(logging.ERROR)
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # endings are told by us
        try:
            have = ray.cluster_resources()
            nodes = sum(node["Alive"] for node in ray.nodes())
            where = ray.get_runtime_context().gcs_address
            yield Cluster(where, nodes, have.get("CPU", 0), have.get("GPU", 0))
        finally:
            if ours:
                ray.shutdown()


def everywhere(
    module: ModuleType, look: Callable[[Any], Any], question: Any, *, timeout: float = 120
) -> Iterator[tuple[Node, Any]]:
    """What `look(question)` answers on each node that trials may go to; a str: why it did not.

    The function and its module travel as source, so that a node need not have them. It is given no
    CPU, so that it need not wait for trials to end, and `timeout` seconds.
    """
    cloudpickle.register_pickle_by_value(module)
    try:
        asked = []
        for node in ray.nodes():
            have = node["Resources"]
            if node["Alive"] and (have.get("CPU") or have.get("GPU")):
                name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                there = Node(name, node["NodeID"], have.get("CPU", 0), have.get("GPU", 0))
                only_there = NodeAffinitySchedulingStrategy(there.id, soft=False)
                task = ray.remote(num_cpus=0, max_retries=0)(look)
                asked.append((there, task.options(scheduling_strategy=only_there).remote(question)))
        until = time.monotonic() + timeout
        for there, answer in asked:
            try:
                yield there, ray.get(answer, timeout=max(1.0, until - time.monotonic()))
            except ray.exceptions.GetTimeoutError:
                yield there, f"no answer within {timeout:g} s"
            except ray.exceptions.RayError as error:
                yield there, sentence(whole(error).splitlines(), error)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def slots(cpu: float, gpu: float, *, processes: int = 1) -> Callable[[], int]:
    """How many trials of that size the cluster holds; asked anew as it grows or shrinks."""

    def fit() -> int:
        each, leaving = {"CPU": cpu / processes, "GPU": gpu / processes}, draining()
        there = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
        return sum(places(node["Resources"], each) for node in there) // processes

    return remembered(fit, seconds=5)


def alive() -> set[str]:
    """The nodes that are there, by id."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def draining() -> set[str]:
    """Nodes that are to be taken away: Ray puts nothing new on them."""
    return set(ray._private.state.state.get_draining_nodes())


def remembered(function: Callable[[], Answer], *, seconds: float) -> Callable[[], Answer]:
    """The function's answer, asked again only after some seconds: a cluster may grow or shrink."""
    answer: list[Answer] = []
    until = 0.0

    def answered() -> Answer:
        nonlocal until
        if not answer or time.monotonic() >= until:
            answer[:] = [function()]
            until = time.monotonic() + seconds
        return answer[0]

    return answered


def _init(where: str, cpus: int | None) -> None:
    knock(where, _as_ray_reads(where))
    constants = ray._private.ray_constants
    several = constants.ENABLE_RAY_CLUSTER  # on Linux Ray takes no loopback address unless told
    constants.ENABLE_RAY_CLUSTER = several and where != "local"
    try:
        with withheld():
            ray.init(
                address=where,
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
                **({"_node_ip_address": LOOPBACK} if where == "local" else {}),
            )
    except (ray.exceptions.AuthenticationError, ConnectionError):
        raise Unfit(
            f"the Ray cluster at {where} refuses us: it asks for another token, or is no Ray\n"
            "  set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to what it has"
        ) from None
    finally:
        constants.ENABLE_RAY_CLUSTER = several


def _as_ray_reads(address: str) -> str:
    """An address with this machine's own for `localhost`, as Ray takes it."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit() or not host:
        return address
    return f"{ray._private.services.resolve_ip_for_localhost(host.strip('[]'))}{colon}{port}"
