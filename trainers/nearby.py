"""A node's own copy of image files that lie far away: fetched once, then read from there.

A copy is a folder named by what its files are called and how large they are: the content digest,
which takes no byte of an image to know. It counts once its manifest is written, which comes last,
and is not looked through again.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from spaces.durable import sweep, write_whole
from trainers.data import Source

MANIFEST = "manifest.json"
READERS = 16
"""Files that are fetched at a time: far away it is the waiting that takes long."""


def brought(source: Source, cache: Path) -> tuple[Path, ...]:
    """The files of a part as they lie in `cache`, in the same order; fetched where they are not.

    One process of a node fetches, the others wait for it; what a fetch that was cut short has
    brought stays and is gone on from. Where the copy cannot be made (no room, no permission) the
    answer is the files where they are, with a warning.
    """
    digest = source.digest()
    folder = cache / f"{source.dataset.name}-{source.part}-{digest[:16]}"
    near = tuple(folder / file.parent.name / file.name for file in source.files)
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(cache / f"{folder.name}.lock"):
            if not (folder / MANIFEST).is_file():
                _fetch(source, near, folder, digest)
    except OSError as error:
        said = f"dataset.cache: {cache}: no copy of the images there ({error})"
        warnings.warn(f"{said}; they are read from where they are", stacklevel=2)
        return source.files
    return near


def _fetch(source: Source, near: tuple[Path, ...], folder: Path, digest: str) -> None:
    """Copy what is not there yet, then say that all of it is."""
    for parent in {path.parent for path in near}:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(parent)
    lacking = list(_lacking(source, near))
    _refuse_without_room(folder, sum(size for _, _, size in lacking))
    with ThreadPoolExecutor(READERS) as pool:
        for _ in pool.map(_copy, *zip(*lacking, strict=True)) if lacking else ():
            pass
    os.sync()  # the manifest is not to outlive a power cut that its images do not
    facts = {"digest": digest, "files": len(near), "bytes": sum(source.sizes)}
    write_whole(folder / MANIFEST, json.dumps(facts).encode(), mode=0o600)


def _lacking(source: Source, near: tuple[Path, ...]) -> Iterator[tuple[Path, Path, int]]:
    """(from, to, bytes) of each file that is not there in its size."""
    for far, close, size in zip(source.files, near, source.sizes, strict=True):
        try:
            there = close.stat().st_size == size
        except FileNotFoundError:
            there = False
        if not there:
            yield far, close, size


def _copy(far: Path, close: Path, size: int) -> None:
    """One file, whole under its name. Raises OSError where it is not what was listed."""
    beside = close.with_name(f".{close.name}.{secrets.token_hex(8)}.tmp")
    try:
        shutil.copyfile(far, beside)
        if (got := beside.stat().st_size) != size:
            raise OSError(f"{far} has changed: {got:,} bytes of {size:,}")
        os.replace(beside, close)
    finally:
        beside.unlink(missing_ok=True)


def _refuse_without_room(folder: Path, wanted: int) -> None:
    """Raise OSError where so many bytes do not fit: better at once than when the disk is full."""
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise OSError(f"{wanted:,} bytes are wanted, {free:,} are free")
