"""Checkpoints: put, get and list by key, each whole or absent.

A location is a folder or any fsspec URI (`s3://`, `memory://`, `file://`); in it a checkpoint is
one file `<key>.<sha256 of the file>.pt` in torch's zip format. Because the name carries the
digest, the file stays readable by `torch.load`, and a truncated, overwritten or bit-flipped one
is noticed: torch itself loads a flipped weight without a word.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import fsspec
import torch
from fsspec.implementations.local import LocalFileSystem

from spaces import durable
from spaces.durable import sweep, write_whole

State = dict[str, Any]
_NAME = re.compile(r"(?P<key>[a-z0-9-]+)\.(?P<digest>[0-9a-f]{64})\.pt")


class CheckpointError(ValueError):
    """A checkpoint is damaged or absent, or was written by another run than the one resumed."""


def put(location: str | Path, key: str, state: State) -> None:
    """Store `state` (tensors, numbers, strings, lists and dicts of them) under `key`.

    What was under the key before goes when the new file is in place. OSError passes through, and
    then everything stored before is intact.
    """
    if not re.fullmatch(r"[a-z0-9-]+", key):
        raise ValueError(f"a checkpoint's key is made of a-z, 0-9 and - (got {key!r})")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    name = f"{key}.{hashlib.sha256(data).hexdigest()}.pt"
    system, folder = _place(location)
    durable.step("checkpoint.put")
    if isinstance(system, LocalFileSystem):
        write_whole(Path(folder) / name, data, kind="checkpoint", mode=0o600)
    else:
        system.makedirs(folder, exist_ok=True)
        with system.transaction, system.open(f"{folder}/{name}", "wb") as file:
            file.write(data)
    durable.step("checkpoint.stored")
    for older in _stored(location).get(key, []):
        if not older.endswith(name):
            system.rm(older)
    durable.step("checkpoint.swept")


def get(location: str | Path, key: str) -> State:
    """The state under `key`, its tensors on the CPU.

    Raises CheckpointError when no file of that key is whole, or it holds more than data.
    """
    system, _ = _place(location)
    for path in _stored(location).get(key, []):
        data = system.cat_file(path)
        named = _NAME.fullmatch(path.rsplit("/", 1)[-1])
        if named and hashlib.sha256(data).hexdigest() == named["digest"]:
            return _load(data, path)
    raise CheckpointError(f"{location}: checkpoint {key} is damaged or absent")


def keys(location: str | Path) -> list[str]:
    """All keys, in order; a location that does not exist has none."""
    return sorted(_stored(location))


def remove(location: str | Path, key: str) -> None:
    """Delete what is stored under `key`."""
    system, _ = _place(location)
    for path in _stored(location).get(key, []):
        system.rm(path)


def keep(location: str | Path, count: int) -> None:
    """Delete all but the `count` checkpoints whose keys come last."""
    for key in keys(location)[:-count]:
        remove(location, key)
    system, folder = _place(location)
    if isinstance(system, LocalFileSystem):
        sweep(Path(folder))


def newest(location: str | Path) -> State | None:
    """The state whose key comes last among the whole ones; warns of each damaged one on the way."""
    for key in reversed(keys(location)):
        try:
            return get(location, key)
        except CheckpointError as error:
            said = str(error)
        except OSError as error:
            if error.errno != errno.EIO:  # a place that is away may come back: no training is lost
                raise
            said = f"{location}: checkpoint {key} cannot be read ({error.strerror})"
        warnings.warn(f"{said}; falling back to the one before", RuntimeWarning, stacklevel=2)
    return None


def _load(data: bytes, path: str) -> State:
    """The state in a file's bytes; nothing but data is ever unpickled."""
    try:
        state: State = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than tensors, numbers and texts") from error
    return state


def _place(location: str | Path) -> tuple[Any, str]:
    """The file system of a location and the path of its folder there."""
    if "://" in str(location):
        system, folder = fsspec.core.url_to_fs(str(location))
        return system, folder.rstrip("/")
    return LocalFileSystem(), os.path.abspath(location)


def _stored(location: str | Path) -> dict[str, list[str]]:
    """Key -> paths of its files."""
    system, folder = _place(location)
    system.invalidate_cache()
    try:
        paths = system.ls(folder, detail=False)
    except FileNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        if named := _NAME.fullmatch(path.rsplit("/", 1)[-1]):
            found.setdefault(named["key"], []).append(path)
    return found
