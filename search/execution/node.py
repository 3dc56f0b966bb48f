"""What one node of a cluster has to say of itself; sent there as source, as it may have nothing.

Its functions travel by value and import at the top what every Python has: a node without this
package, or without torch, answers all the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("spaces", "trainers", "search")
LIBRARIES = ("ray", "torch", "torchvision", "numpy")
FILES = 2_000
"""At most so many files of a dataset's folder are looked at, by name and size."""
TORCH = """
import json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
names = [torch.cuda.get_device_name(index) for index in range(count)]
print(json.dumps({"cuda": torch.version.cuda or "", "devices": names}))
"""


@dataclass(frozen=True)
class Question:
    """What a node is asked for beyond its versions.

    `libraries` are what this search needs besides; `datasets` are name and root (None: where it is
    by itself); `plugins` files; `places` are folders or fsspec URIs that the asking process has put
    a `marker` into.
    """

    libraries: tuple[str, ...] = ()
    datasets: tuple[tuple[str, str | None], ...] = ()
    plugins: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    marker: str = ""


@dataclass(frozen=True)
class Answer:
    """What a node has; where an error is to be told, it stands in the place of the answer.

    `source` is the digest of this package's files; `devices` are the GPUs that torch sees, and
    `torch` why it cannot be imported; `datasets`, `plugins` and `places` are by what was asked for.
    """

    host: str
    python: str
    executable: str
    versions: dict[str, str]
    source: str
    torch: str = ""
    cuda: str = ""
    devices: tuple[str, ...] = ()
    datasets: dict[str, str] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)


def look(asked: dict[str, Any]) -> dict[str, Any]:
    """An `Answer` as a dict, for a `Question` as one: neither class is known everywhere."""
    question = Question(**asked)
    return asdict(
        Answer(
            host=socket.gethostname(),
            python=platform.python_version(),
            executable=sys.executable,
            versions={library: _version(library) for library in (*LIBRARIES, *question.libraries)},
            source=_source(),
            datasets={name: _dataset(name, root) for name, root in question.datasets},
            plugins={file: _digest(Path(file)) for file in question.plugins},
            places={place: _marked(place, question.marker) for place in question.places},
            **_torch(),
        )
    )


def mark(place: str, name: str, text: str) -> str:
    """Write a marker of that name to a folder or an fsspec URI; returns where it is."""
    where = f"{place.rstrip('/')}/{name}"
    if "://" in place:
        import fsspec

        with fsspec.open(where, "w") as file:
            file.write(text)
    else:
        Path(where).write_text(text)
    return where


def read(where: str) -> str:
    """What a marker says."""
    if "://" in where:
        import fsspec

        with fsspec.open(where, "r") as file:
            return str(file.read())
    return Path(where).read_text()


def remove(where: str) -> None:
    """Take a marker away, if it is there."""
    if "://" in where:
        import fsspec

        system, path = fsspec.core.url_to_fs(where)
        if system.exists(path):
            system.rm(path)
    else:
        Path(where).unlink(missing_ok=True)


def _marked(place: str, marker: str) -> str:
    """The marker that a node leaves where it has found the asking process's; else what is wrong."""
    try:
        if read(f"{place.rstrip('/')}/{marker}") != marker:
            return "error: the marker there is another one"
        name = f"{marker}-{os.urandom(4).hex()}"
        mark(place, name, name)
    except FileNotFoundError:
        there = "://" in place or Path(place).is_dir()
        return f"error: {'not the same folder' if there else 'no such folder'}"
    except Exception as error:  # whatever a file system's library raises
        return f"error: {type(error).__name__}: {error}"
    return name


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _source() -> str:
    """The digest of the three packages' files as they would be imported; empty without them."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return ""
        root = Path(spec.submodule_search_locations[0])
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _torch() -> dict[str, Any]:
    """What torch sees, in a process of its own: it may crash, and a task without GPU sees none."""
    hidden = ("CUDA_VISIBLE_DEVICES", "")
    environment = dict(item for item in os.environ.items() if item != hidden)
    done = subprocess.run(
        [sys.executable, "-c", TORCH], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"torch": lines[-1] if lines else f"it ended with {done.returncode}"}
    told = json.loads(done.stdout.splitlines()[-1])
    return {"cuda": told["cuda"], "devices": tuple(told["devices"])}


def _dataset(name: str, root: str | None) -> str:
    """A digest of the names and sizes of a dataset's files; empty where there are none."""
    try:
        from spaces.config import Dataset
        from trainers import variants
        from trainers.datasets import folders
    except ImportError as error:
        return f"error: {error}"
    system = getattr(variants.module("dataset", name), "DEBIAN", ())
    places = folders(
        Dataset(name=name, root=root), *([system] if isinstance(system, str) else system)
    )
    here = next((place for place in places if place.is_dir()), None)
    if here is None:
        return ""
    digest = hashlib.sha256()
    for number, path in enumerate(_files(here)):
        if number == FILES:
            break
        digest.update(f"{path.relative_to(here)}\0{path.stat().st_size}\0".encode())
    return digest.hexdigest()[:12]


def _files(folder: Path) -> Iterator[Path]:
    for path, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(path, name) for name in sorted(names))


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    except OSError as error:
        return f"error: {error.strerror or error}"
