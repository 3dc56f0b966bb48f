"""A study's journal kept a second time, at an fsspec URI: another machine goes on from there.

Below `search.mirror` a study has a folder of its name. What its driver acknowledges is sealed
there, every `BEAT` seconds and at its end, in *segments*: files that are made once, each a piece
of the journal followed by one line that says which piece, of which study, with its sha256 and that
of the piece before. A piece that is torn, damaged, missing or another study's is refused by name.

Who drives is said there too, by a *lease* with a number one above the last, which one of two can
create. Its driver writes it anew every `BEAT` seconds; one that was not for `TERM` seconds is dead.
Nobody's clock is believed: whoever comes watches for so long. A driver that finds a higher number
stops; what it sealed later than the next one began counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from search.errors import Behind, JournalError, LeaseLost
from search.redaction import redacted
from search.study import journal, lease
from search.study.drivers import boot_id
from spaces.durable import write_whole

BEAT = 10.0
"""Seconds between two seals, and between two writings of the lease."""
TERM = 45.0
"""Seconds without one after which another may take over."""
_SEGMENT = re.compile(r"segment-(\d{6,})\.(\d{6,})\.jsonl")
_LEASE = re.compile(r"lease-(\d{6,})\.json")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sealed:
    """What the segments hold together: the journal's bytes, how many pieces, the last one's sha256,
    and the study's uuid (empty: there are none).
    """

    data: bytes = b""
    count: int = 0
    last: str = ""
    uuid: str = ""


class Place:
    """One study's folder in the mirror."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._system, folder = fsspec.core.url_to_fs(self.uri)
        self._folder = folder.rstrip("/")
        self._local = isinstance(self._system, LocalFileSystem)  # fsspec writes it piece by piece

    def create(self, name: str, data: bytes) -> None:
        """A new file, whole; raises FileExistsError where there is one."""
        self._system.makedirs(self._folder, exist_ok=True)
        if self._local:
            write_whole(Path(self._folder, name), data, new=True)
        else:
            self._system.pipe_file(f"{self._folder}/{name}", data, mode="create")

    def put(self, name: str, data: bytes) -> None:
        """A file, whole, whatever was there."""
        if self._local:
            write_whole(Path(self._folder, name), data)
        else:
            self._system.pipe_file(f"{self._folder}/{name}", data)

    def get(self, name: str) -> bytes:
        """A file's bytes."""
        return bytes(self._system.cat_file(f"{self._folder}/{name}"))

    def drop(self, name: str) -> None:
        """Remove a file."""
        self._system.rm_file(f"{self._folder}/{name}")

    def leases(self) -> list[int]:
        """The numbers of all leases, the newest last."""
        return sorted(int(found[1]) for name in self._names() if (found := _LEASE.fullmatch(name)))

    def fences(self) -> list[int]:
        """The numbers of the drivers that have sealed something, whether their leases are there."""
        return [int(found[2]) for name in self._names() if (found := _SEGMENT.fullmatch(name))]

    def sealed(self) -> Sealed:
        """All segments, read and checked; raises JournalError for one that is not whole.

        Of two that claim to be the same piece that of the newer driver counts, and whatever an
        older one sealed from there on does not.
        """
        names = [found for name in self._names() if (found := _SEGMENT.fullmatch(name))]
        told = sorted((int(found[1]), -int(found[2]), found[0]) for found in names)
        newest, last, pieces = 0, Sealed(), list[bytes]()
        for number, minus, name in told:  # of the same piece the newest driver's comes first
            if -minus < newest:
                continue
            newest = -minus
            if number != last.count + 1:
                raise self._damaged(name, f"the segment before it, {last.count + 1}, is missing")
            last = self.opened(name, last)
            pieces.append(last.data)
        return replace(last, data=b"".join(pieces))

    def opened(self, name: str, before: Sealed) -> Sealed:
        """One segment, read and checked: its own bytes, and what is known of all up to it."""
        data = self.get(name)
        body, _, seal = data.removesuffix(b"\n").rpartition(b"\n")
        body += b"\n"
        try:
            said = json.loads(seal)
            digest, uuid = said["sha256"], said["uuid"]
            piece = (said["segment"], said["after"])
        except (ValueError, KeyError, TypeError):
            raise self._damaged(name, "it has no seal: it is torn, or no segment") from None
        if before.uuid and uuid != before.uuid:
            raise self._damaged(name, f"it is of another study ({uuid}, not {before.uuid})")
        if hashlib.sha256(body).hexdigest() != digest:
            raise self._damaged(name, "its sha256 is not the one in its seal")
        if piece != (before.count + 1, before.last):
            raise self._damaged(name, "it does not follow the segment before it")
        return Sealed(body, before.count + 1, digest, uuid)

    def _damaged(self, name: str, why: str) -> JournalError:
        return JournalError(
            f"{redacted(self.uri)}/{name}: {why}\n"
            "  nothing was changed; restore it from a copy, or give `run` another search.mirror"
        )

    def _names(self) -> list[str]:
        self._system.invalidate_cache()
        try:
            found = self._system.ls(self._folder, detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rsplit("/", 1)[-1] for path in found]


class Mirror:
    """The driver's side, between `claimed` and the end of its `with`."""

    def __init__(self, place: Place, fence: int, file: Path, say: Say) -> None:
        self._place = place
        self._fence = fence
        self._file = file
        self._say = say
        self._beat = 0
        self._count, self._last, self._size, self._uuid = 0, "", 0, ""
        self._acknowledged = 0
        self._lost: LeaseLost | None = None
        self._away = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go, name="mirror", daemon=True)

    def follow(self, sealed: Sealed) -> None:
        """What is sealed already, by the drivers before."""
        self._count, self._last, self._uuid = sealed.count, sealed.last, sealed.uuid
        self._size = self._acknowledged = len(sealed.data)

    def begin(self, uuid: str) -> None:
        """The study that is mirrored; from now on it is."""
        self._uuid = uuid
        self._thread.start()

    def look(self, acknowledged: int) -> None:
        """So many bytes of the journal are acknowledged. Raises LeaseLost where another has it."""
        if self._lost is not None:
            raise self._lost
        self._acknowledged = acknowledged

    def close(self) -> None:
        """Seal the rest, and let go; the study is closed, so all of its journal counts."""
        if self._thread.ident is None:  # it never began
            self._tried(lambda: self._wrote(released=True))
            return
        self._over.set()
        self._thread.join()
        if self._lost is None and self._file.is_file():
            self._acknowledged = self._file.stat().st_size
            self._tried(self._seal, lambda: self._wrote(released=True))
        if self._away:
            self._say(f"{redacted(self._place.uri)} lacks the end of the journal: resume here")

    def _go(self) -> None:
        while not self._over.wait(BEAT) and self._lost is None:
            self._tried(self._wrote, self._seal)

    def _tried(self, *steps: Callable[[], None]) -> None:
        """Do them; a place that is away is said once, and tried again at the next beat."""
        try:
            for step in steps:
                step()
            self._away = False
        except LeaseLost as lost:
            self._lost = lost
        except Exception as error:  # every kind of store has its own
            if not self._away:
                said = redacted(str(error)).splitlines()[:1]
                self._say(f"{redacted(self._place.uri)} is away ({' '.join(said)}); tried again")
            self._away = True

    def _check(self) -> None:
        if any(fence > self._fence for fence in self._place.leases()):
            raise LeaseLost(f"{redacted(self._place.uri)}: another driver has taken over")

    def _wrote(self, *, released: bool = False) -> None:
        self._check()
        self._beat += 1
        self._place.put(f"lease-{self._fence:06d}.json", _word(self._beat, released=released))

    def _seal(self) -> None:
        while body := self._unsealed():
            self._check()
            sealed = self._put(body)
            self._count, self._last = sealed.count, sealed.last
            self._size += len(sealed.data)

    def _unsealed(self) -> bytes:
        """The acknowledged records that are in no segment."""
        with open(self._file, "rb") as file:
            file.seek(self._size)
            body = file.read(max(0, self._acknowledged - self._size))
        return body[: body.rfind(b"\n") + 1]

    def _put(self, body: bytes) -> Sealed:
        """Make the next segment of these records, or of the first of them where it is there."""
        before = Sealed(count=self._count, last=self._last, uuid=self._uuid)
        digest = hashlib.sha256(body).hexdigest()
        made = Sealed(body, before.count + 1, digest, before.uuid)
        seal = {"segment": made.count, "uuid": made.uuid, "sha256": digest, "after": before.last}
        data = body + json.dumps(seal).encode() + b"\n"
        name = f"segment-{made.count:06d}.{self._fence:06d}.jsonl"
        try:
            self._place.create(name, data)
            return made
        except FileExistsError:  # our number: we made it, and its answer was lost, or half of it
            try:
                found = self._place.opened(name, before)
            except JournalError:
                self._place.put(name, data)
                return made
        if not body.startswith(found.data):
            raise LeaseLost(f"{redacted(self._place.uri)}/{name}: another driver has this number")
        return found


@contextmanager
def claimed(uri: str | None, folder: Path, *, force: bool, say: Say) -> Iterator[Mirror | None]:
    """The mirror of the study in a folder below a URI, ours as long as we are inside; None: none.

    Raises JournalError where another driver has it, or where it holds another study than the
    folder does, and Behind where it holds more of it; it is let go of then.
    """
    if uri is None:
        yield None
        return
    place = Place(f"{uri.rstrip('/')}/{folder.name}")
    file = folder / journal.FILE
    mirror = Mirror(place, _claim(place, force=force, say=say), file, say)
    try:
        # only now: whoever had it may have sealed more until the moment it let go
        mirror.follow(_agreed(place, file))
        yield mirror
    finally:
        mirror.close()


def _agreed(place: Place, file: Path) -> Sealed:
    """What is sealed, all of which the journal in `file` has; raises JournalError otherwise."""
    sealed = place.sealed()
    local = file.read_bytes() if file.is_file() else b""
    if not local.startswith(sealed.data):
        where = redacted(place.uri)
        said = (
            f"{where}: it holds {'another study' if not local else 'what this folder does not'}\n"
            f"  go on from there: eca-search resume {where}\n"
            "  or give this study another search.mirror"
        )
        if local and sealed.data.startswith(local):
            raise Behind(said, place.uri)
        raise JournalError(said)
    return sealed


def fetched(uri: str, out: Path, say: Say) -> Path:
    """The folder of the study that a URI mirrors, in `out`, with all that was sealed.

    What is there of it already is kept where it goes further. Raises JournalError for a mirror that
    is not whole or holds no study, and where the folder's journal is another one.
    """
    place = Place(uri)
    sealed = place.sealed()
    if not sealed.count:
        raise JournalError(f"{redacted(uri)}: no study is mirrored here (it has no segment)")
    first = journal.decode(sealed.data.partition(b"\n")[0])
    folder = out.absolute() / place.uri.rsplit("/", 1)[-1]
    if first.get("uuid") != sealed.uuid or first.get("name") != folder.name:
        raise JournalError(f"{redacted(uri)}: what is mirrored here is study {first.get('name')!r}")
    lease.refuse_driven(folder, force=False, say=say)
    file = folder / journal.FILE
    local = file.read_bytes() if file.is_file() else b""
    if local.startswith(sealed.data):
        return folder
    if not sealed.data.startswith(local):
        raise JournalError(
            f"{folder}: its journal is not what {redacted(uri)} holds; nothing was changed\n"
            "  give --out another folder, or move this one away"
        )
    write_whole(file, sealed.data, mode=0o600)
    say(f"{folder}: {sealed.data.count(bytes([10])):,} records from {redacted(uri)}")
    return folder


def _claim(place: Place, *, force: bool, say: Say) -> int:
    """The number of a new lease; waits until the driver before is known to be dead."""
    numbers = place.leases()
    if numbers and not force:
        _outwait(place, f"lease-{numbers[-1]:06d}.json", say)
    fence = max([*numbers, *place.fences()], default=0) + 1  # its segments count above all others
    try:
        place.create(f"lease-{fence:06d}.json", _word(0))
    except FileExistsError:
        raise JournalError(f"{redacted(place.uri)}: another driver has just taken it") from None
    for old in numbers:
        place.drop(f"lease-{old:06d}.json")
    return fence


def _outwait(place: Place, name: str, say: Say) -> None:
    """Return when the driver of that lease cannot be alive; raises JournalError where it is."""
    before = place.get(name)
    who = _said(before)
    here = (who.get("host"), who.get("boot")) == (socket.gethostname(), boot_id())
    if who.get("released") or (here and not lease.lives(int(who.get("pid", 0)))):
        return
    told = f"another driver (pid {who.get('pid')} on {who.get('host')})"
    say(f"{redacted(place.uri)}: {told} had it; waiting {TERM:.0f} s for a sign of it")
    until = time.monotonic() + TERM
    while (rest := until - time.monotonic()) > 0:
        time.sleep(min(BEAT / 5, rest))
        now = place.get(name)
        if now != before:
            if _said(now).get("released"):
                return
            raise JournalError(
                f"{redacted(place.uri)}: {told} is running this study\n"
                "  stop it first, or take over with --force if you know that it is dead"
            )


def _word(beat: int, *, released: bool = False) -> bytes:
    who: dict[str, Any] = {"pid": os.getpid(), "host": socket.gethostname(), "boot": boot_id()}
    return json.dumps({**who, "beat": beat, "released": released}).encode()


def _said(data: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(data))
    except (TypeError, ValueError):
        return {}
