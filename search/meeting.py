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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

PATIENCE = timedelta(minutes=10)
"""How long one process waits for another, in coming and in every exchange."""
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
def joined(meeting: Meeting | None, *, gpu: bool) -> Iterator[ProcessGroup | None]:
    """A block in which the processes are a group; None without a meeting."""
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
