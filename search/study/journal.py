"""The study's truth: an append-only file of JSON lines, owned by one driver.

One record is one line: `{"seq": n, "time": unix seconds, "kind": "...", ..., "sum": "checksum"}`.
A record is *acknowledged* once `commit` has returned: it is then on the disk. What a crash may
leave behind is a torn last line, which was never acknowledged: it is dropped with a warning. Any
other damage (a flipped digit, a missing or repeated line) is refused by name, never repaired.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from search.errors import JournalError
from search.study import lease
from spaces import durable

Record = dict[str, Any]

FILE = "journal.jsonl"
FORMAT = 1
"""Of the records, in the first one's `version`; a later release's is refused, never half read."""
LATER = ("space.yaml", "checkpoints")
"""What a study's folder holds only once its first record is on the disk."""
GROUP = 0.25
"""Seconds within which records that keep coming are all on the disk for a moment."""
_ENDED = re.compile(rb'"sum":"[0-9a-f]{12}"\}.', re.DOTALL)


class Reach(NamedTuple):
    """How far a journal goes: records, and bytes."""

    records: int
    size: int


class Ledger(Protocol):
    """What a study writes its decisions to: a `Journal`, or one that is only simulated."""

    @property
    def fence(self) -> int:
        """The number of the driver that writes."""

    @property
    def heard(self) -> float | None:
        """When the driver before was last heard of, in unix seconds; None where there was none."""

    @property
    def acknowledged(self) -> int:
        """How many bytes of the journal are on the disk for sure."""

    def append(self, kind: str, **fields: Any) -> Record:
        """Write one record and return it."""

    def commit(self, *, now: bool = True) -> bool:
        """Make what was appended last; True when it does."""

    def close(self) -> None:
        """Commit, and let go."""


class Journal:
    """The open journal of the one driver that may write it.

    Opening takes the study's lease (held until `close`), reads every record into `records`, cuts
    off a torn tail. `force` takes the lease from a driver on another machine at once. Raises
    `JournalError` for a damaged record or where another driver holds it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
        force: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        durable.make_folder(folder)
        self.path = folder / FILE
        self._clock = clock
        self._lease = lease.acquire(folder, force=force, say=say)
        try:
            self.records, whole = _load(self.path)
            self._lease.outrank(self.records[-1].get("fence", 0) if self.records else 0)
            self._lease.check()  # what it cuts off may be another driver's by now
            self._file = _open(self.path, whole)
        except BaseException:
            self._lease.release()
            raise
        self._seq = len(self.records)
        self._size = whole
        self._durable = Reach(self._seq, self._size)
        self._failed: OSError | None = None
        self._level = time.monotonic()
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._syncing: tuple[Future[None], Reach] | None = None

    @property
    def fence(self) -> int:
        """The number of this driver, which stands in all that it writes."""
        return self._lease.fence

    @property
    def acknowledged(self) -> int:
        """How many bytes of the file are acknowledged."""
        return self._durable.size

    @property
    def heard(self) -> float | None:
        """When the driver before was last heard of, in unix seconds; None where there was none."""
        return None if self._lease.before is None else self._lease.before.heard

    def append(self, kind: str, **fields: Any) -> Record:
        """Write one record and return it; it is acknowledged at the next `commit`.

        Raises `OSError` when it could not be written whole (the file is as before), `ValueError`
        for a field that JSON has no word for (NaN, infinity), and `LeaseLost` where another driver
        has taken over: the file is that one's now.
        """
        if self._failed is not None:
            raise self._failed
        self._lease.check()
        record: Record = {
            "seq": self._seq,
            "time": round(self._clock(), 3),
            "fence": self.fence,
            "kind": kind,
            **fields,
        }
        line = encode(record)
        try:
            durable.step("append.begun")
            durable.write(self._file, line, "append.torn")
            durable.step("append.written")
        except OSError as error:
            self._cut(self._size, error)
            raise
        self._size += len(line)
        self._seq += 1
        return record

    def commit(self, *, now: bool = True) -> bool:
        """Put all that was appended on the disk; True when it is there.

        With `now=False` a thread does it meanwhile and the answer tells of what was appended so
        far; asked again and again it is True at least every `GROUP` seconds.

        Raises `OSError` when the disk did not take it. Then all that was not acknowledged is taken
        back and the journal takes nothing more: after a failed fsync the next one may well succeed
        without having written anything. Raises `LeaseLost` where another driver has taken over; it
        may have read the journal before all of this was in it.
        """
        if self._failed is not None:
            raise self._failed
        try:
            level = self._level_with(Reach(self._seq, self._size), now)
            if level:
                self._lease.check()  # after the fsync: whoever takes over from here on reads it all
            return level
        except OSError as error:
            self._failed = error
            self._cut(self._durable.size, error)
            raise

    def _level_with(self, written: Reach, now: bool) -> bool:
        if self._syncing is not None and (now or self._syncing[0].done()):
            done, reached = self._syncing
            self._syncing = None
            done.result()
            self._durable = reached
        if self._durable < written and (now or time.monotonic() - self._level > GROUP):
            self._sync()
            self._durable = written
        elif self._durable < written and self._syncing is None:
            self._syncing = self._syncer.submit(self._sync), written
        if self._durable < written:
            return False
        self._level = time.monotonic()
        return True

    def _sync(self) -> None:
        durable.step("commit.begun")
        os.fsync(self._file)
        durable.step("commit.synced")

    def _cut(self, size: int, error: OSError) -> None:
        """Take back what lies past `size`; where that fails too, nothing may follow it."""
        try:
            self._lease.check()  # it may be another driver's by now
            os.ftruncate(self._file, size)
        except OSError:
            self._failed = error

    def close(self) -> None:
        """Commit, and let go of the lease. Raises LeaseLost where another driver has taken over."""
        if not self._lease.released:
            try:
                if self._lease.lost:
                    self._lease.check()
                self.commit()
            finally:
                self._syncer.shutdown()
                os.close(self._file)
                self._failed = OSError(errno.EBADF, "this journal is closed", str(self.path))
                self._lease.release()


def read(folder: Path) -> list[Record]:
    """All whole records of a study's journal, without taking its lease.

    Raises `JournalError` when there is none, one is damaged, or all of them were lost.
    """
    path = folder / FILE
    left = _left(folder)
    if not (path.is_file() or path.is_symlink() or left):
        raise JournalError(f"{folder}: no study here (it has no {FILE})")
    records, _ = _load(path, quiet=True)
    if left and not records:
        said = "it holds no record" if path.is_file() else "it is gone"
        raise JournalError(
            f"{path}: {said}, but a study was here ({', '.join(left)}).\n"
            "  Nothing was changed. Restore it from a copy, or remove the folder to start anew."
        )
    return records


def exists(folder: Path) -> bool:
    """Whether a study was started here: whether its journal holds an acknowledged record.

    Raises `JournalError` for a journal that is damaged or was lost, as `read` does.
    """
    path = folder / FILE
    return bool(path.is_file() or path.is_symlink() or _left(folder)) and bool(read(folder))


def _left(folder: Path) -> list[str]:
    """What is there of a study besides its journal."""
    return [name for name in LATER if (folder / name).exists()]


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


def _open(path: Path, whole: int) -> int:
    """The file for appending, cut to its whole records; all of it is on the disk."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        durable.step("journal.created")
        if os.fstat(file).st_size > whole:
            os.ftruncate(file, whole)
        os.fsync(file)  # what a killed driver left unsynced counts from now on
        durable.sync_folder(path.parent)
        durable.step("journal.durable")
    except BaseException:
        os.close(file)
        raise
    return file


def _load(path: Path, *, quiet: bool = False) -> tuple[list[Record], int]:
    """Whole records, and the bytes they fill.

    What a driver wrote after another had taken over counts for nothing: the number of its lease,
    `fence`, is lower, or the next driver has counted on without it.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise JournalError(
            f"{path}: this is no plain file, and a journal is never a link or anything else\n"
            "  two studies with one journal would have two drivers; nothing was changed"
        )
    if not path.exists():
        return [], 0
    records: list[Record] = []
    whole = fence = 0
    for number, (line, complete) in enumerate(_lines(path.read_bytes()), start=1):
        try:
            if not complete:
                complete = _ENDED.search(line) is not None  # more than a part of a record
                raise ValueError("it has no end")
            record = decode(line)
            previous, fence = fence, max(fence, record.get("fence", 0))
            if record.get("fence", 0) < fence:
                whole += len(line) + 1
                continue
            if previous < fence:
                del records[record["seq"] :]
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
    if records and records[0].get("version", FORMAT) > FORMAT:
        raise JournalError(
            f"{path}: a later release of eca-search began this study\n"
            f"  (journal of version {records[0]['version']}; allowed: up to {FORMAT}); "
            "nothing was changed: use that release"
        )
    return records, whole


def _lines(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """Lines and whether each has its newline: only a torn tail has none."""
    *lines, tail = data.split(b"\n")
    for line in lines:
        yield line, True
    if tail:
        yield tail, False
