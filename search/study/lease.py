"""What a driver holds while it drives: one driver at a time, also where machines share a folder.

Two things keep a second driver out. The kernel's lock holds against every process of this machine
and goes with the process that had it. The *lease* holds against other machines, where such a lock
may mean nothing, or stay when its machine has died: a file that its driver touches every `BEAT`
seconds, which has run out when nobody touched it for `TERM` seconds. Ages are told by the folder's
own clock, never by two machines'.

Each driver has a *fencing number*, one more than the one before it. Its lease file appears whole
under that number, which one of two can bring about, and the older ones are gone before it reads the
journal. So a driver that was asleep while another took over finds its file gone before it
acknowledges anything, and what it still wrote is known by its number.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from search.errors import JournalError, LeaseLost
from search.study import drivers
from search.study.drivers import (
    GONE,
    LOCK,
    RELEASED,
    Holder,
    boot_id,
    driver,
    holder,
    leases,
    number,
)
from spaces import durable

BEAT = 5.0
"""Seconds between two touches of the lease."""
PATIENCE = 0.5
"""Seconds to wait for the kernel's lock: a reader holds it for an instant."""
ORPHANS = 15.0
"""The same when its driver is dead: processes it has forked hold the lock until they notice."""
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


class Lease:
    """A held lease; `fence` is its number. Made by `acquire`, ended by `release`."""

    def __init__(
        self, path: Path, lock: filelock.BaseFileLock | None, fence: int, before: Holder | None
    ) -> None:
        self.fence = fence
        """One more than that of the driver before."""
        self.before = before
        """The driver before, as it was when this one took over."""
        self.lost = False
        """Whether another driver is known to have taken over."""
        self._path = path
        self._lock = lock
        self._released = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._beating.start()

    @property
    def released(self) -> bool:
        """Whether it was let go of."""
        return self._released.is_set()

    def outrank(self, fence: int) -> None:
        """Take a number above `fence`, the journal's: the lease files may have been lost."""
        if self.fence <= fence:
            old = self._path
            self._path = _claim(old.parent, fence + 1, locked=self._lock is not None)
            self.fence = fence + 1
            old.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise LeaseLost where another driver has taken over, OSError where that cannot be told.

        What was on the disk before this returns, a driver that takes over later has read.
        """
        if not self.lost:
            self._touch()
        if self.lost:
            folder, new = self._path.parent, holder(self._path.parent)
            if new is None or new.fence <= self.fence:
                raise LeaseLost(f"{folder}: the lease {self._path.name} was removed")
            raise LeaseLost(f"{folder}: pid {new.pid} on {new.host} has taken over")

    def release(self) -> None:
        """Let go; the next driver need not wait for the lease to run out."""
        if self._released.is_set():
            return
        self._released.set()
        self._beating.join()
        try:
            with suppress(OSError), open(self._path, "r+") as file:  # taken over, or it runs out
                file.seek(0, os.SEEK_END)
                file.write(RELEASED)
        finally:
            if self._lock is not None:
                self._lock.release()

    def _beat(self) -> None:
        while not self.lost and not self._released.wait(BEAT):
            with suppress(OSError):  # away: `check`, or the journal's own writing, will say so
                self._touch()

    def _touch(self) -> None:
        """Touch the file; merely asked for it, a network's file system answers from memory."""
        path = self._path
        try:
            os.utime(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
            if path == self._path:  # `outrank` has not just put another in its place
                self.lost = True


def acquire(
    folder: Path,
    *,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Lease:
    """Become the driver of the study in a folder.

    Waits for the lease of a driver on another machine to run out, and says so; `force` takes over
    at once. Raises JournalError, naming the driver, where one is alive.
    """
    _refuse_foreign(folder)
    lock = _locked(folder)
    locked = lock is not None
    try:
        before = holder(folder)
        if before is not None and not force:
            _outwait(folder, before, locked, say)
        fence = (before.fence if before else 0) + 1
        path = _claim(folder, fence, locked=locked)
        for old in leases(folder):
            if number(old) < fence:
                old.unlink(missing_ok=True)
    except BaseException:
        if lock is not None:
            lock.release()
        raise
    return Lease(path, lock, fence, before)


def refuse_driven(folder: Path, *, force: bool, say: Callable[[str], None]) -> None:
    """Raise JournalError, or wait, as `acquire` would; nothing is taken and nothing left behind."""
    _refuse_foreign(folder)
    locked = True
    if (folder / LOCK).exists():
        lock = _locked(folder)
        locked = lock is not None
        if lock is not None:
            lock.release()
    before = holder(folder)
    if before is not None and not force:
        _outwait(folder, before, locked, say)


@contextmanager
def apart(folder: Path) -> Iterator[Holder | None]:
    """Hold drivers off meanwhile; one that is alive goes on, and this yields who it is.

    In a folder that may only be read nobody is held off. Raises JournalError where a driver begins
    at this very moment.
    """
    now, held = driver(folder), None
    if now is None:
        try:
            held = acquire(folder)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
    try:
        yield now
    finally:
        if held is not None:
            held.release()


def _refuse_foreign(folder: Path) -> None:
    """Raise JournalError for a link of somebody else's: it may lead to any folder of ours."""
    if folder.is_symlink() and (owner := folder.lstat().st_uid) not in {0, os.getuid()}:
        raise JournalError(
            f"{folder}: another user (uid {owner}) made this link\n"
            f"  if that is the folder you mean, name it: {folder.resolve()}"
        )


def _locked(folder: Path) -> filelock.BaseFileLock | None:
    """The kernel's lock, held; raises JournalError where another process of this machine has it.

    None where the lease decides alone: if locks hold across machines, one that is dead or asleep
    may keep its own for as long as it likes.
    """
    before = holder(folder)
    dead = before is not None and before.told_by_lock and not lives(before.pid)
    lock = filelock.FileLock(folder / LOCK, timeout=ORPHANS if dead else PATIENCE, mode=0o600)
    try:
        lock.acquire()
    except filelock.Timeout:
        before = holder(folder)
        if before is None or before.told_by_lock:
            who = before or "another driver"
            raise JournalError(f"{folder}: {who} is running this study") from None
        return None
    return lock


def _outwait(folder: Path, before: Holder, locked: bool, say: Callable[[str], None]) -> None:
    """Return when the last driver cannot be alive; raises JournalError where it shows a sign.

    `locked` says that the kernel's lock is ours: then whoever had it is dead.
    """
    left = drivers.TERM - before.age
    if before.released or left <= 0 or (locked and before.told_by_lock):
        return
    say(f"{before} was heard {before.age:.0f} s ago; waiting {left:.0f} s for its lease to run out")
    until = time.monotonic() + left
    while (rest := until - time.monotonic()) > 0:
        time.sleep(min(BEAT / 5, rest))
        now = holder(folder) or before
        if now.fence == before.fence and now.released:
            return
        if (now.fence, now.heard) != (before.fence, before.heard):
            raise JournalError(
                f"{folder}: {now} is running this study\n"
                "  stop it first, or take over with --force if you know that it is dead"
            )


def _claim(folder: Path, fence: int, *, locked: bool) -> Path:
    """Put the lease file of that number in place, whole; raises JournalError if another is there.

    Also where there is a higher one: then what this machine knew of the folder was out of date.
    """
    path = folder / f".driver.{fence:06d}"
    who = {"pid": os.getpid(), "host": socket.gethostname(), "boot": boot_id()}
    text = json.dumps({**who, "since": round(time.time(), 3), "locked": locked}) + "\n"
    beside = folder / f"{path.name}.{secrets.token_hex(8)}.tmp"
    try:
        _put(beside, text)
        try:
            os.link(beside, path)
        except OSError as error:
            if error.errno in durable.LINKLESS:
                _put(path, text)
            elif beside.stat().st_nlink < 2:  # or it was done, and the server's answer got lost
                raise
        durable.step("lease.written")
        if any(number(other) > fence for other in leases(folder)):
            path.unlink(missing_ok=True)
            raise FileExistsError
    except FileExistsError:
        raise JournalError(f"{folder}: {holder(folder)} is running this study") from None
    finally:
        beside.unlink(missing_ok=True)
    return path


def _put(path: Path, text: str) -> None:
    """A new file, on the disk; raises FileExistsError where there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        durable.step("lease.created")
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def lives(pid: int) -> bool:
    """Whether there is a process of that number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
