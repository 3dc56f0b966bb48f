"""Who drives a study, or did last, as the files in its folder tell anybody who may read them."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import filelock

LOCK = ".driver.lock"
RELEASED = "released\n"
"""The second line of a lease that was let go of in order; the first says whose it is, in JSON."""
TERM = 30.0
"""Seconds without a touch after which a lease has run out."""
GONE = frozenset({errno.ENOENT, errno.ESTALE})
"""What a file system says of a file that another machine has removed."""
_NAME = re.compile(r"\.driver\.(\d{6,})")


@dataclass(frozen=True, slots=True)
class Holder:
    """The newest driver of a study: `boot` names the machine and its start, `since` is unix time.

    `locked` says that it took the kernel's lock besides its lease, `released` that it has let go in
    order. It was heard last at `heard`, `age` seconds ago, by the folder's clock.
    """

    fence: int
    pid: int
    host: str
    boot: str
    since: float
    locked: bool
    released: bool
    heard: float
    age: float

    def __str__(self) -> str:
        here = " (this machine)" if self.boot == boot_id() else ""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"another driver (pid {self.pid} on {self.host}{here}, since {since})"

    @property
    def told_by_lock(self) -> bool:
        """Whether the kernel of this machine knows: it lives as long as its lock is taken."""
        return self.locked and self.boot == boot_id()


def holder(folder: Path) -> Holder | None:
    """The newest driver of the study, dead or alive; None where there has been none."""
    for path in reversed(leases(folder)):
        try:
            with open(path, errors="replace") as file:  # opened, or a network's memory would answer
                first, second = file.readline(), file.readline()
                heard = os.fstat(file.fileno()).st_mtime
        except OSError as error:
            if error.errno not in GONE:
                raise
            continue  # a driver has just taken over
        try:
            said = dict(json.loads(first))
        except (TypeError, ValueError):
            said = {}  # a power cut took half of it
        released = second == RELEASED
        return Holder(
            fence=number(path),
            pid=said.get("pid", 0),
            host=said.get("host", ""),
            boot=said.get("boot", ""),
            since=said.get("since", heard),
            locked=said.get("locked", True),
            released=released,
            heard=heard,
            age=0.0 if released else max(0.0, _now(folder) - heard),
        )
    return None


def driver(folder: Path) -> Holder | None:
    """The driver that is alive, as far as can be told at once; None where there is none.

    One on this machine holds the kernel's lock; another was heard in the last `TERM` seconds.
    """
    last, taken = holder(folder), _taken(folder)
    if last is None:
        unknown = Holder(0, 0, "an unknown host", "", time.time(), True, False, 0.0, 0.0)
        return unknown if taken else None
    if last.told_by_lock and taken is not None:
        return last if taken else None
    return None if last.released or last.age > TERM else last


def boot_id() -> str:
    """This machine since its last start: processes that share it share the kernel's locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def leases(folder: Path) -> list[Path]:
    """All lease files, the newest last."""
    found = [path for path in folder.glob(".driver.*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=number)


def number(lease: Path) -> int:
    """The fencing number in a lease file's name."""
    return int(lease.name.rpartition(".")[2])


def _taken(folder: Path) -> bool | None:
    """Whether a process has the kernel's lock; None in a folder that we may only read."""
    if not (folder / LOCK).exists():
        return False
    try:
        with filelock.FileLock(folder / LOCK, timeout=0, mode=0o600):
            return False
    except filelock.Timeout:
        return True
    except OSError:
        return None


def _now(folder: Path) -> float:
    """Unix time by the folder's own clock: that of the machine which keeps its files."""
    try:
        descriptor, name = tempfile.mkstemp(".tmp", ".driver.probe-", folder)
    except OSError:  # we may only read it, or the disk is full
        return time.time()
    try:
        os.utime(descriptor)  # as a driver touches its lease
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)
