"""What a study can count on where its folder lies: local disks, NFS, Lustre and others.

Linux alone tells (`/proc/self/mounts`); elsewhere nothing is known and nothing is said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MOUNTS = Path("/proc/self/mounts")
NETWORK = frozenset(
    {"nfs", "nfs4", "lustre", "cifs", "smb3", "beegfs", "gpfs", "ceph", "glusterfs", "9p", "afs"}
)
HOLDS = (
    "the journal, its lease and checkpoints hold; who drives is told by the lease; "
    "SQLite does not hold"
)
"""Of a file system that several machines share: what is promised there, and what is not."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a folder lies: the kind of file system, what is mounted there, and how."""

    kind: str
    source: str
    options: frozenset[str]

    @property
    def network(self) -> bool:
        """Whether other machines may have it mounted too."""
        return self.kind in NETWORK or self.kind.startswith("fuse.sshfs")

    @property
    def bucket(self) -> bool:
        """Whether it is an object store made to look like folders."""
        return bool(re.search(r"s3|gcs|goofys|rclone|blob", self.kind))

    def __str__(self) -> str:
        return f"{self.kind} ({self.source})"


def mount(place: Path) -> Mount | None:
    """The mount that an existing folder lies on; None where that is not told."""
    try:
        lines = MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return None
    real = place.resolve()
    found: tuple[int, Mount] | None = None
    for line in lines:
        source, at, kind, options, *_ = map(_plain, line.split(" "))
        depth = len(Path(at).parts)
        if real.is_relative_to(at) and (found is None or depth >= found[0]):  # the last one covers
            found = depth, Mount(kind, source, frozenset(options.split(",")))
    return None if found is None else found[1]


def judged(there: Mount) -> tuple[Literal["ok", "warn", "fail"], str, str]:
    """Whether a study can live there: what is so, and the remedy where something is wrong."""
    if there.bucket:
        said = f"{there}: an object store takes no appends, so that no journal can be there"
        return "fail", said, "a local or shared disk for --out; search.mirror may be in the bucket"
    if there.kind == "lustre" and not there.options & {"flock", "localflock"}:
        said = f"{there}, mounted without flock: drivers and MLflow's store lock files"
        return "fail", said, "mount it with -o flock (or localflock), or give another --out"
    if there.kind.startswith("nfs") and "soft" in there.options:
        said = f"{there}, mounted soft: a write may be lost when its server is slow"
        return "warn", said, "mount it hard"
    if there.network:
        return "ok", f"{there}: {HOLDS}", ""
    if there.kind in {"tmpfs", "ramfs"}:
        return "warn", f"{there}: gone when this machine is", "give --out on a disk"
    return "ok", f"{there}: all of it holds", ""


def _plain(field: str) -> str:
    """A field of a mount's line as it is meant: a space, say, is spelt in octal there."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
