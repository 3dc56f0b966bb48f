"""The study's truth: an append-only file of JSON lines, owned by one driver.

One record is one line: `{"seq": n, "time": unix seconds, "kind": "...", ..., "sum": "checksum"}`.
A record is *acknowledged* once `commit` has returned: it is then on the disk. What a crash may
leave behind is a torn last line, which was never acknowledged: it is dropped with a warning. Any
other damage (a flipped digit, a missing or repeated line) is refused by name, never repaired.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock

Record = dict[str, Any]

FILE = "journal.jsonl"
LOCK = ".driver.lock"
GROUP = 0.25
"""Seconds within which records that keep coming are all on the disk for a moment."""
PATIENCE = 0.5
"""Seconds to wait for the lock: `busy` holds it for an instant."""


class JournalError(RuntimeError):
    """A journal is damaged, missing or owned by another driver; the message says which."""


class Journal:
    """The open journal of the one driver that may write it.

    Opening takes the folder's lock (held until `close`), reads every record into `records`, cuts
    off a torn tail. Raises `JournalError` for a damaged record or where another driver holds it.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self._clock = clock
        self._lock = filelock.FileLock(folder / LOCK, timeout=PATIENCE)
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise JournalError(f"{folder}: {_owner(self.path)} is running this study") from None
        try:
            self.records, whole = _load(self.path)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            if os.fstat(self._file).st_size > whole:
                os.ftruncate(self._file, whole)
            _sync_folder(folder)
        except BaseException:
            self._lock.release()
            raise
        self._seq = len(self.records)
        self._size = whole
        self._durable = self._seq
        self._level = time.monotonic()
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._syncing: tuple[Future[None], int] | None = None

    def append(self, kind: str, **fields: Any) -> Record:
        """Write one record and return it; it is acknowledged at the next `commit`.

        Raises `OSError` when it could not be written whole (the file is as before) and `ValueError`
        for a field that JSON has no word for (NaN, infinity).
        """
        record: Record = {"seq": self._seq, "time": round(self._clock(), 3), "kind": kind, **fields}
        line = encode(record)
        try:
            written = os.write(self._file, line)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        if written < len(line):  # a full disk may take a part of a line: take it back
            os.ftruncate(self._file, self._size)
            raise OSError(28, "No space left on device", str(self.path))
        self._size += len(line)
        self._seq += 1
        return record

    def commit(self, *, now: bool = True) -> bool:
        """Put all that was appended on the disk; True when it is there.

        With `now=False` a thread does it meanwhile and the answer tells of what was appended so
        far; asked again and again it is True at least every `GROUP` seconds. Raises OSError.
        """
        if self._syncing is not None and (now or self._syncing[0].done()):
            done, reached = self._syncing
            self._syncing = None
            done.result()
            self._durable = reached
        if self._durable < self._seq and (now or time.monotonic() - self._level > GROUP):
            os.fsync(self._file)
            self._durable = self._seq
        elif self._durable < self._seq and self._syncing is None:
            self._syncing = self._syncer.submit(os.fsync, self._file), self._seq
        if self._durable < self._seq:
            return False
        self._level = time.monotonic()
        return True

    def close(self) -> None:
        """Commit, and let go of the lock."""
        if self._lock.is_locked:
            try:
                self.commit()
            finally:
                self._syncer.shutdown()
                os.close(self._file)
                self._lock.release()


def read(folder: Path) -> list[Record]:
    """All whole records of a study's journal, without taking its lock.

    Raises `JournalError` when there is none or one is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise JournalError(f"{folder}: no study here (it has no {FILE})")
    return _load(path, quiet=True)[0]


def exists(folder: Path) -> bool:
    """Whether a study was started here: whether its journal holds an acknowledged record."""
    path = folder / FILE
    return path.is_file() and bool(_load(path, quiet=True)[0])


def refuse_driven(folder: Path) -> None:
    """Raise `JournalError`, naming the driver, where somebody drives the study just now."""
    if busy(folder):
        raise JournalError(f"{folder}: {_owner(folder / FILE)} is running this study")


def busy(folder: Path) -> bool:
    """Whether a driver holds the study's lock just now."""
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    if not (folder / LOCK).exists():
        return False
    try:
        with lock:
            return False
    except filelock.Timeout:
        return True


def encode(record: Record) -> bytes:
    """One line with its checksum as last field."""
    body = json.dumps(record, separators=(",", ":"), allow_nan=False)
    return f'{body[:-1]},"sum":"{_checksum(body)}"}}\n'.encode()


def decode(line: bytes) -> Record:
    """The record of one line without its newline; raises `ValueError` for a wrong checksum."""
    text = line.decode()
    head, mark, tail = text.rpartition(',"sum":"')
    if not mark or not tail.endswith('"}') or tail[:-2] != _checksum(head + "}"):
        raise ValueError("checksum does not match")
    record: Record = json.loads(head + "}")
    return record


def _checksum(body: str) -> str:
    return hashlib.blake2b(body.encode(), digest_size=6).hexdigest()


def _load(path: Path, *, quiet: bool = False) -> tuple[list[Record], int]:
    """Whole records, and the bytes they fill."""
    if not path.exists():
        return [], 0
    records: list[Record] = []
    whole = 0
    for number, (line, complete) in enumerate(_lines(path.read_bytes()), start=1):
        try:
            if not complete:
                raise ValueError("it has no end")
            record = decode(line)
            if record["seq"] != len(records):
                raise ValueError(f"its number is {record['seq']}, not {len(records)}")
        except (ValueError, KeyError) as error:
            if complete:
                raise JournalError(
                    f"{path}:{number}: this record is damaged: {error}.\n"
                    f"  The {len(records)} records before it are whole; nothing was changed.\n"
                    "  Restore the file from a copy, or cut it before this line and accept that."
                ) from None
            if not quiet:
                warnings.warn(
                    f"{path}:{number}: dropped a torn last record ({error})", stacklevel=3
                )
            break
        records.append(record)
        whole += len(line) + 1
    return records, whole


def _lines(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """Lines and whether each has its newline: only a torn tail has none."""
    *lines, tail = data.split(b"\n")
    for line in lines:
        yield line, True
    if tail:
        yield tail, False


def _owner(path: Path) -> str:
    """Who wrote the newest `driver` record."""
    try:
        drivers = [record for record in _load(path, quiet=True)[0] if record["kind"] == "driver"]
    except JournalError:
        drivers = []
    if not drivers:
        return "another driver"
    newest = drivers[-1]
    here = " (this machine)" if newest["host"] == socket.gethostname() else ""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(newest["time"]))
    return f"another driver (pid {newest['pid']} on {newest['host']}{here}, since {since})"


def _sync_folder(folder: Path) -> None:
    """Make the folder's entries durable, so that the file itself survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
