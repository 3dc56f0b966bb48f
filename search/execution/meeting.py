"""Where the processes that train one trial meet, and how they come to speak to one another.

The first opens a socket on its node's own address, the others are told of it. What goes through is
gradients: it is neither encrypted nor does it ask who calls, as with PyTorch everywhere, so it
belongs on a network of one's own.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import (  # type: ignore[attr-defined]
        ProcessGroup,
        TCPStore,
    )

PATIENCE = timedelta(minutes=10)
"""How long one process waits for a sign of another, in coming and in every exchange."""
BEAT = 5.0
"""Seconds between two signs of one that prepares."""
LOOK = 0.2
"""Seconds between two looks at whether all are there."""
_SIOCGIFADDR = 0x8915


@dataclass(frozen=True, slots=True)
class Meeting:
    """One of `size` processes, by its `rank`, and the address at which they meet.

    `here` is this process's own address; `listening` the first one's open socket, by its file
    descriptor.
    """

    host: str
    port: int
    rank: int
    size: int
    here: str
    listening: int | None = None

    def guest(self, rank: int) -> Meeting:
        """The same meeting for another process, which fills in where it is."""
        return replace(self, rank=rank, here="", listening=None)


def called(host: str, size: int) -> Meeting:
    """A meeting at this process's address, which is the first of so many."""
    listening = socket.create_server((host, 0))
    port = listening.getsockname()[1]
    return Meeting(host, port, 0, size, host, listening.detach())


@contextmanager
def joined(
    meeting: Meeting | None, *, gpu: bool, prepare: Callable[[], None] = lambda: None
) -> Iterator[ProcessGroup | None]:
    """A block in which the processes are a group; None without a meeting.

    Each does first what it is to `prepare`, for which the others wait as long as it lives. Raises
    TimeoutError where there is no sign of one for `PATIENCE`.
    """
    if meeting is None:
        yield None
        return
    import torch.distributed as dist

    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if name := _interface(meeting.here):  # left to itself gloo takes what the host name says
            os.environ.setdefault(variable, name)
    store = dist.TCPStore(  # type: ignore[attr-defined]
        meeting.host,
        meeting.port,
        meeting.size,
        is_master=meeting.rank == 0,
        timeout=PATIENCE,
        wait_for_workers=False,
        master_listen_fd=meeting.listening,
    )
    with _beating(store, meeting.rank):
        prepare()
        _wait(store, meeting)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpu else "gloo",
        store=store,
        rank=meeting.rank,
        world_size=meeting.size,
        timeout=PATIENCE,
    )
    try:
        yield dist.group.WORLD
    finally:
        dist.destroy_process_group()


@contextmanager
def _beating(store: TCPStore, rank: int) -> Iterator[None]:
    """A block in which the others see that this process lives."""
    own, over = store.clone(), threading.Event()  # a store's waits are one at a time

    def beat() -> None:
        while not over.wait(BEAT):
            own.add(f"alive/{rank}", 1)

    beating = threading.Thread(target=beat, name="meeting", daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join()


def _wait(store: TCPStore, meeting: Meeting) -> None:
    """Say that this process is prepared, and wait until all are."""
    store.add(f"here/{meeting.rank}", 1)
    signs: dict[int, tuple[int, float]] = {}
    missing = set(range(meeting.size))
    while missing := {rank for rank in missing if not store.add(f"here/{rank}", 0)}:
        for rank in missing:
            sign = store.add(f"alive/{rank}", 0)
            before, since = signs.setdefault(rank, (sign, time.monotonic()))
            if sign != before:
                signs[rank] = sign, time.monotonic()
            elif time.monotonic() - since > PATIENCE.total_seconds():
                raise TimeoutError(f"process {rank} of {meeting.size} has not come")
        time.sleep(LOOK)


def _interface(address: str) -> str | None:
    """The network interface that has an IPv4 address; None where none is known to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue  # it has no such address
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
