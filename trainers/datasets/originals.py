"""Datasets as their authors publish them, fetched and read by torchvision."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from trainers.datasets import Images, Part

CONNECT_SECONDS = 20.0


def fetch(folder: Path, kind: str) -> str:
    """Download torchvision's dataset `kind` (a class name) into `folder`; "" or what failed.

    Under a lock: of several workers that need the data one downloads. Torchvision checks the md5
    of what it fetched.
    """
    from filelock import FileLock

    before = socket.getdefaulttimeout()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            # torchvision opens its URLs without a time limit of its own
            socket.setdefaulttimeout(CONNECT_SECONDS)
            _reader(kind)(folder, download=True)
    except (OSError, RuntimeError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    finally:
        socket.setdefaulttimeout(before)
    return ""


def read(files: list[Path], kind: str, part: Part) -> Images:
    """The images of those batches, after torchvision has compared their md5 with the authors'.

    The other part's files need not exist and are not opened.
    """
    import numpy as np

    from trainers.datasets import DatasetError

    whole = _reader(kind)
    other = "test_list" if part == "train" else "train_list"
    reader = type(whole.__name__, (whole,), {other: []})
    try:
        found = reader(files[0].parent.parent, train=part == "train")
    except RuntimeError as error:
        raise DatasetError(f"dataset.root: {files[0].parent} is damaged ({error})") from error
    return Images(np.ascontiguousarray(found.data), np.array(found.targets, dtype=np.int64))


def _reader(kind: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, kind)
