"""A dataset's zip, unpacked once into the cache folder."""

from __future__ import annotations

import hashlib
import lzma
import os
import secrets
import shutil
import zipfile
import zlib
from pathlib import Path

from filelock import FileLock

from trainers.datasets import DatasetError, cache

DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
"""What reading a damaged zip raises."""


def unpacked(place: Path, wanted: str) -> Path | None:
    """The folder that the zip at `place`, or the only one in it, was unpacked to.

    None where there is no such zip, or none that holds `wanted`. It is unpacked once for its name,
    size and time, by one process, and there whole or not at all. Raises DatasetError.
    """
    found = [place] if place.suffix == ".zip" else sorted(place.glob("*.zip"))
    if len(found) != 1 or not found[0].is_file():
        return None
    archive = found[0]
    try:
        with zipfile.ZipFile(archive) as opened:
            if wanted not in opened.namelist():
                return None
            facts = archive.stat()
            known = repr((str(archive.absolute()), facts.st_size, facts.st_mtime_ns))
            folder = cache() / "unpacked" / hashlib.sha256(known.encode()).hexdigest()[:16]
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not folder.is_dir():
                    _unpack(opened, folder)
            return folder
    except (*DAMAGED, OSError, NotImplementedError, RuntimeError) as error:
        raise DatasetError(f"dataset.root: {archive} cannot be unpacked ({error})") from error


def plain(name: str) -> bool:
    """Is it a relative name without a hidden part, or one that points upwards?"""
    return "\\" not in name and all(part and part[0] != "." for part in name.split("/"))


def _unpack(opened: zipfile.ZipFile, folder: Path) -> None:
    """All plain members; raises OSError where they do not fit on the disk."""
    for left in folder.parent.glob(f".{folder.name}.*"):  # by one that was killed: we have the lock
        shutil.rmtree(left, ignore_errors=True)
    members = [m for m in opened.infolist() if plain(m.filename) and not m.is_dir()]
    needed, free = sum(m.file_size for m in members), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise OSError(f"{needed:,} bytes unpacked, {free:,} are free in {folder.parent}")
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        for member in members:
            opened.extract(member, beside)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
