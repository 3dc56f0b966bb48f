"""A Ray cluster as seen from outside: the switches it is used with, and whether its head answers.

Nothing here imports ray: what is asked here must be answered when Ray's own calls would hang.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from search.errors import Unfit

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the old reporter keeps silent at verbose=0
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # Ray's CSV, JSON and TBX cost 2 ms a report
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: Ray's own handler would exit 0
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",  # a worker that hangs while it stops frees its place
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # no snapshots: resume reads the journal
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_STATE_REFRESH_PERIOD": "1000000000",  # a question to the head that may hang
    "TUNE_WARN_THRESHOLD_S": "10",
}

DRIVERS = ("MLFLOW_", "DATABRICKS_")
"""Beginnings of variables by which the driver speaks to MLflow: no worker, which runs people's own
variants, is told its password."""

LOOPBACK = "127.0.0.1"
PATIENCE = 10.0
"""Seconds a head may be silent before the search is paused."""
LAST = 40.0
"""Seconds after which the process is ended where the search cannot be; Ray would do it at 60."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What Ray offers: where it is, how many nodes, and what they hold together."""

    address: str
    nodes: int
    cpus: float
    gpus: float


def places(have: Mapping[str, float], each: Mapping[str, float]) -> int:
    """How many that want `each` (by resource) a node holds that has so much."""
    return min(int(have.get(name, 0) / much + 1e-9) for name, much in each.items() if much)


def share(
    have: Mapping[str, float], each: Mapping[str, float], *, cores: int, at_most: int | None = None
) -> int:
    """How many cores of a node are each process's that it may hold, 1 or more.

    The node has `cores`, or as many as Ray counts (`have`) where these are fewer, and as many
    processes as want `each` of that, or `at_most`.
    """
    there = min(places(have, each), at_most or sys.maxsize)
    return max(1, int(min(cores, have.get("CPU", cores)) / max(1, there)))


@dataclass(frozen=True, slots=True)
class Node:
    """One node that trials may go to: its host name and address, and what Ray counts there."""

    name: str
    id: str
    cpus: float
    gpus: float


class HeadGone(BaseException):
    """The cluster's head answers no more.

    No `Exception`: Tune would then ask that same head to clean up, and hang.
    """


class Pulse:
    """Knocks at a cluster's head once a second, in a thread of its own, between `with` and its end.

    `check`, called from the loop before it asks anything of Ray, returns at once while the head
    answers, waits while it is silent and raises `HeadGone` when it stays so. Where the loop hangs
    in a call of Ray's that began before, the process is ended with exit code 75 and `farewell`: Ray
    would end it as well, without a word of what is to be done.
    """

    def __init__(self, address: str, farewell: str = "") -> None:
        self._address = address
        self._farewell = farewell
        self._answers = threading.Event()
        self._answers.set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        if not refusal(self._address, timeout=2):  # else it is out of our reach, as a proxy's is
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def check(self) -> None:
        """Return while the head answers; raise `HeadGone` when it has not for `PATIENCE` s."""
        if not self._answers.wait(PATIENCE):
            raise HeadGone(f"Ray's head at {self._address} answers no more")

    def _run(self) -> None:
        answered = time.monotonic()
        while not self._over.wait(1):
            if not refusal(self._address, timeout=2):
                answered = time.monotonic()
                self._answers.set()
            else:
                self._answers.clear()
            if time.monotonic() - answered > LAST and not self._over.is_set():
                said = f"Ray's head at {self._address} answers no more\n{self._farewell}\n"
                os.write(2, said.encode())
                os._exit(75)


def refusal(address: str, *, timeout: float) -> str:
    """Why nobody can be reached at `host:port`; empty where somebody listens."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def knock(address: str, reads: str) -> None:
    """Raise `Unfit` where nobody listens, Ray reading the address so: it would try for minutes."""
    if not reads.rpartition(":")[2].isdigit():
        return  # "local", "auto": nothing to knock at
    if said := refusal(reads, timeout=5):
        there = "" if reads == address else f", which Ray reads as {reads}"
        raise Unfit(
            f"no Ray cluster at {address}{there} ({said})\n"
            "  start one with `ray start --head`, or leave --address out"
        )


@contextmanager
def environment(more: Mapping[str, str]) -> Iterator[None]:
    """Ray's switches, and `more`, for as long as they are wanted."""
    wanted = {**ENVIRONMENT, **more}
    before = {name: os.environ.get(name) for name in [*wanted, "RAY_AUTH_MODE"]}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)  # RAY_AUTH_MODE is set by Ray as well
            else:
                os.environ[name] = value


def forget() -> dict[str, str]:
    """Take what is the driver's alone out of this process's environment; returns what it was."""
    names = [name for name in os.environ if name.startswith(DRIVERS)]
    return {name: os.environ.pop(name) for name in names}


@contextmanager
def withheld() -> Iterator[None]:
    """Processes that are started meanwhile do not inherit what is the driver's alone."""
    taken = forget()
    try:
        yield
    finally:
        os.environ.update(taken)


def own(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Switches for a cluster that is started here: for this machine alone, behind a token.

    A person's own token is used where there is one. Else it is one of this process, in its memory
    only: Ray would write one to the person's home, readable by all.
    """
    kept = Path(environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    theirs = "RAY_AUTH_TOKEN" in environ or kept.is_file()
    loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # else Ray listens on every interface
    return loopback if theirs else {**loopback, "RAY_AUTH_TOKEN": _token()}


@cache
def _token() -> str:
    return secrets.token_hex(32)
