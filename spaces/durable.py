"""What must survive a crash is written here, in named steps that a test can make fail.

`ECA_SEARCH_FAILPOINT=point[:n]:action` strikes when this process comes to a point of `POINTS` for
the n-th time (the first where n is left out; `n+` is the n-th time and every later one). `kill`
ends the process by SIGKILL; `enospc`, `edquot`, `eio`, `erofs` and `emfile` raise that OSError.
Nothing else reads the variable; without it a step costs one comparison.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path

VARIABLE = "ECA_SEARCH_FAILPOINT"
STALE = 3600.0
"""Seconds after which a killed writer's temporary file is swept away."""

LINKLESS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
"""What a file system without hard links answers to one."""

WHOLE = ("begun", "torn", "written", "synced", "renamed", "durable")
"""The steps of `write_whole`: `torn` when half of the bytes are in the temporary file."""

POINTS = (
    "folder.made",  # a folder is there, but not yet for sure in the one above it
    "folder.durable",
    "lease.created",
    "lease.written",
    "journal.created",  # the same of the journal's file in its folder
    "journal.durable",
    "append.begun",
    "append.torn",  # half of a record is in the file
    "append.written",
    "commit.begun",
    "commit.synced",  # the records are on the disk, and nobody was told
    *(f"space.{step}" for step in WHOLE),
    "checkpoint.put",
    *(f"checkpoint.{step}" for step in WHOLE),
    "checkpoint.stored",  # the new one is in place, the older ones are not yet gone
    "checkpoint.swept",
)

ERRORS = {
    "enospc": errno.ENOSPC,
    "edquot": errno.EDQUOT,
    "eio": errno.EIO,
    "erofs": errno.EROFS,
    "emfile": errno.EMFILE,
}


class Failpoint:
    """A point that is about to fail, as `VARIABLE` says it. Raises ValueError where it is none."""

    def __init__(self, text: str) -> None:
        said = re.fullmatch(r"(?P<point>[a-z.]+)(:(?P<n>\d+)(?P<on>\+)?)?:(?P<action>\w+)", text)
        if not said or said["point"] not in POINTS or said["action"] not in {"kill", *ERRORS}:
            points, actions = ", ".join(POINTS), ", ".join(["kill", *ERRORS])
            raise ValueError(
                f"{VARIABLE}: got {text!r}; allowed point[:n[+]]:action with a point of {points} "
                f"and an action of {actions}"
            )
        self.point, self.action = said["point"], said["action"]
        self.first = int(said["n"] or 1)
        self.last = None if said["on"] else self.first
        self.counts: Counter[str] = Counter()

    def due(self, point: str) -> bool:
        """Count the point; whether this is the time to fail."""
        self.counts[point] += 1
        times = self.counts[point]
        late = self.last is not None and times > self.last
        return point == self.point and times >= self.first and not late

    def strike(self) -> None:
        """End the process, or raise the OSError."""
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()  # in a thread, the signal may take a moment
        code = ERRORS[self.action]
        raise OSError(code, os.strerror(code))


_armed: Failpoint | None = None


def arm(text: str | None) -> None:
    """Make a point fail, as the variable would; None disarms."""
    global _armed
    _armed = Failpoint(text) if text else None


def step(point: str) -> None:
    """A moment at which the process may die or the disk may fail; `point` is one of `POINTS`."""
    if _armed is not None and _armed.due(point):
        _armed.strike()


def write(descriptor: int, data: bytes, torn: str) -> None:
    """Write all of `data`. Raises OSError where a part of it does not fit; `torn` is the point."""
    if _armed is not None and _armed.due(torn):
        os.write(descriptor, data[: len(data) // 2])
        _armed.strike()
    left = memoryview(data)
    while left:  # a call may take a part: of more than 2 GiB, or of the disk's last bytes
        left = left[os.write(descriptor, left) :]


def write_whole(
    path: Path, data: bytes, *, kind: str = "", mode: int = 0o666, new: bool = False
) -> None:
    """Write `data` to `path`, durably: whole under its name, or the old file left intact.

    Temporary file in the same folder, fsync, rename, fsync of the folder. OSError (disk full, no
    permission) passes through with the temporary file removed. `kind` names the steps; `mode` is
    the file's, less what the umask takes away. `new`: raises FileExistsError where there is a file.
    """
    make_folder(path.parent)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb", buffering=0, opener=partial(os.open, mode=mode)) as file:
            step(f"{kind}.begun")
            write(file.fileno(), data, f"{kind}.torn")
            step(f"{kind}.written")
            os.fsync(file.fileno())
        step(f"{kind}.synced")
        if new:
            _link(beside, path)
        else:
            os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    step(f"{kind}.renamed")
    sync_folder(path.parent)
    step(f"{kind}.durable")


def _link(beside: Path, path: Path) -> None:
    """Rename to a name that is free; raises FileExistsError where it is not."""
    try:
        os.link(beside, path)
    except OSError as error:
        if error.errno not in LINKLESS:
            raise
        path.open("xb").close()  # this file system has no links: take the name first
        os.replace(beside, path)
    else:
        beside.unlink()


def make_folder(folder: Path) -> None:
    """Create a folder and what is missing above it; a power cut leaves them where they are.

    They are for this user alone (0700): what is in them may say more than a person meant to tell.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    if missing:
        for place in reversed(missing):
            place.mkdir(mode=0o700, exist_ok=True)
        step("folder.made")
        for made in reversed(missing):
            sync_folder(made.parent)
        step("folder.durable")


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable, so that the files in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some file systems know no such thing
            raise
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove temporary files that killed writers left in `folder` more than an hour ago."""
    for leftover in folder.glob(".*.tmp"):
        try:
            if time.time() - leftover.stat().st_mtime > STALE:
                leftover.unlink()
        except FileNotFoundError:
            continue


arm(os.environ.get(VARIABLE))
