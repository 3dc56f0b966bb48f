"""Who drives a study: one driver at a time, also where machines share its folder.

Two things keep a second driver out. The kernel's lock holds against every process of this machine
and goes with the process that had it. The *lease* holds against other machines, where such a lock
may mean nothing: a file that its driver touches every `BEAT` seconds, which has run out when nobody
touched it for `TERM` seconds. Ages are told by the folder's own clock, never by two machines'.

Each driver has a *fencing number*, one more than the one before it: its lease file is created under
that number, which one of two can do, and removes the older ones. A driver that was asleep while
another took over finds its file gone, and what it still wrote is known by its number.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import filelock

from search.errors import JournalError
from spaces import durable

LOCK = ".driver.lock"
BEAT = 5.0
"""Seconds between two touches of the lease."""
TERM = 30.0
"""Seconds without a touch after which a lease has run out."""
PATIENCE = 0.5
"""Seconds to wait for the kernel's lock: a reader holds it for an instant."""
ORPHANS = 15.0
"""The same when its driver is dead: processes it has forked hold the lock until they notice."""
_NAME = re.compile(r"\.driver\.(\d{6,})")


@dataclass(frozen=True, slots=True)
class Holder:
    """The newest driver of a study: `boot` names the machine and its start, `since` is unix time.

    `released` says that it has let go in order, `age` how many seconds ago it was last heard.
    """

    fence: int
    pid: int
    host: str
    boot: str
    since: float
    released: bool
    age: float

    def __str__(self) -> str:
        here = " (this machine)" if self.boot == boot_id() else ""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"another driver (pid {self.pid} on {self.host}{here}, since {since})"


class Lease:
    """A held lease; `fence` is its number. Made by `acquire`, ended by `release`."""

    def __init__(self, path: Path, lock: filelock.BaseFileLock, fence: int) -> None:
        self.fence = fence
        """One more than that of the driver before."""
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
            old, self.fence = self._path, fence + 1
            self._path = _claim(old.parent, self.fence)
            old.unlink()

    def check(self) -> None:
        """Raise JournalError where another driver has taken over."""
        if not self._path.exists():
            new = holder(self._path.parent)
            raise JournalError(f"{self._path.parent}: {new or 'another driver'} has taken over")

    def release(self) -> None:
        """Let go; the next driver need not wait for the lease to run out."""
        if self._released.is_set():
            return
        self._released.set()
        self._beating.join()
        try:
            os.truncate(self._path, 0)  # the number stays: the next one is higher
        except FileNotFoundError:
            pass  # another driver has taken over
        finally:
            self._lock.release()

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            try:
                os.utime(self._path)
            except OSError:
                continue  # gone or away: `check`, or the journal's own writing, will say so


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
    before = holder(folder)
    lock = _locked(folder, before)
    try:
        if before is not None and not force:
            _outwait(folder, before, say)
        fence = (before.fence if before else 0) + 1
        path = _claim(folder, fence)
    except BaseException:
        lock.release()
        raise
    for old in _leases(folder):
        if old != path:
            old.unlink(missing_ok=True)
    return Lease(path, lock, fence)


def refuse_driven(folder: Path, *, force: bool, say: Callable[[str], None]) -> None:
    """Raise JournalError, or wait, as `acquire` would; nothing is taken and nothing written."""
    before = holder(folder)
    if (folder / LOCK).exists():
        _locked(folder, before).release()
    if before is not None and not force:
        _outwait(folder, before, say)


def holder(folder: Path) -> Holder | None:
    """The newest driver of the study, dead or alive; None where there has been none."""
    for path in reversed(_leases(folder)):
        try:
            text, touched = path.read_text(), path.stat().st_mtime
        except FileNotFoundError:
            continue  # a driver has just taken over
        found = _NAME.fullmatch(path.name)
        assert found is not None
        try:
            said = json.loads(text or "{}")
        except ValueError:
            said = {}  # a power cut took half of it
        return Holder(
            fence=int(found[1]),
            pid=said.get("pid", 0),
            host=said.get("host", ""),
            boot=said.get("boot", ""),
            since=said.get("since", touched),
            released=not text,
            age=max(0.0, time.time() - touched),
        )
    return None


def driver(folder: Path) -> Holder | None:
    """The driver that is alive, as far as can be told at once; None where there is none.

    One on this machine holds the kernel's lock; another was heard in the last `TERM` seconds.
    """
    last = holder(folder)
    here = last is not None and last.boot == boot_id()
    if (folder / LOCK).exists():
        try:
            with filelock.FileLock(folder / LOCK, timeout=0, mode=0o600):
                pass
        except filelock.Timeout:
            return last or Holder(0, 0, "an unknown host", "", time.time(), False, 0.0)
        except OSError:
            here = False  # a colleague's folder, that we may only read: the lease tells
    return None if last is None or last.released or here or last.age > TERM else last


def boot_id() -> str:
    """This machine since its last start: processes that share it share the kernel's locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def _locked(folder: Path, before: Holder | None) -> filelock.BaseFileLock:
    """The kernel's lock, held; raises JournalError where another process has it."""
    dead = before is not None and before.boot == boot_id() and not _lives(before.pid)
    lock = filelock.FileLock(folder / LOCK, timeout=ORPHANS if dead else PATIENCE, mode=0o600)
    try:
        lock.acquire()
    except filelock.Timeout:
        who = before or "another driver"
        raise JournalError(f"{folder}: {who} is running this study") from None
    return lock


def _outwait(folder: Path, before: Holder, say: Callable[[str], None]) -> None:
    """Return when the last driver cannot be alive; raises JournalError where it shows a sign."""
    if before.released or before.boot == boot_id():  # we have the lock: on this machine it is dead
        return
    path = folder / _name(before.fence)
    left = TERM - _age(folder, path)
    if left <= 0:
        return
    say(
        f"{before} was heard {TERM - left:.0f} s ago; waiting {left:.0f} s for its lease to run out"
    )
    heard = path.stat().st_mtime
    until = time.monotonic() + left
    while time.monotonic() < until:
        time.sleep(min(BEAT / 5, max(0.0, until - time.monotonic())))
        if not path.exists() or path.stat().st_mtime != heard:
            raise JournalError(
                f"{folder}: {holder(folder) or before} is running this study\n"
                "  stop it first, or take over with --force if you know that it is dead"
            )


def _age(folder: Path, path: Path) -> float:
    """Seconds since the file was touched, both ends told by the clock of the folder's server."""
    probe = folder / f".driver.probe-{os.getpid()}"
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink()


def _claim(folder: Path, fence: int) -> Path:
    """Create the lease file of that number; raises JournalError where another was first."""
    path = folder / _name(fence)
    text = json.dumps(
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "boot": boot_id(),
            "since": round(time.time(), 3),
        }
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise JournalError(f"{folder}: {holder(folder)} is running this study") from None
    with os.fdopen(descriptor, "w") as file:
        durable.step("lease.created")
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    durable.step("lease.written")
    return path


def _leases(folder: Path) -> list[Path]:
    """All lease files, the newest last."""
    found = [path for path in folder.glob(".driver.*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.rpartition(".")[2]))


def _name(fence: int) -> str:
    return f".driver.{fence:06d}"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
