"""Files that are whole or absent: after a crash or a full disk, never half of one."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

STALE = 3600.0  # seconds after which a crashed writer's temporary file is swept away


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path`, durably: whole under its name, or the old file left intact.

    Temporary file in the same folder, flush, fsync, rename, fsync of the folder. OSError (disk
    full, no permission) passes through with the temporary file removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sweep(folder: Path) -> None:
    """Remove temporary files that killed writers left in `folder` more than an hour ago."""
    for leftover in folder.glob(".*.tmp"):
        try:
            if time.time() - leftover.stat().st_mtime > STALE:
                leftover.unlink()
        except FileNotFoundError:
            continue
