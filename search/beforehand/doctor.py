"""Whether this machine is fit for a search: each finding with its remedy.

What may crash on import (torch, torchvision) is imported in a process of its own, so that the
doctor survives what it looks for.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from search import store
from search.beforehand import filesystems
from search.redaction import redacted
from spaces import catalogue
from spaces.errors import listed

GIB = 2**30
LIBRARIES = ("torch", "torchvision", "ray", "optuna", "mlflow")
TORCHVISION = 15
"""torchvision 0.(n + 15) is built for torch 2.n."""

ROOTLESS = ("digits", "image_folder")
"""Datasets that are looked for nowhere: it comes with scikit-learn; its root is the space's."""

PROBE = """
import json, torch
devices = []
if torch.cuda.is_available():
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        devices.append([about.name, about.total_memory])
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "devices": devices}))
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `fail` where a search cannot run, `warn` where it may suffer.

    `node` is the cluster's node that it was found on; empty: this machine.
    """

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    remedy: str = ""
    node: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.node, self.name, self.found)))


def findings(out: Path, tracking_uri: str | None = None) -> Iterator[Finding]:
    """Everything that is looked at, one after the other; `out` is the folder of studies."""
    yield _python()
    yield from _versions()
    yield from extras()
    yield from _torch()
    yield _disk(out)
    yield from _file_system(out)
    yield _store(out, tracking_uri)
    yield _data()
    yield _files()
    yield _shared_memory()


def _python() -> Finding:
    """For the record: an older Python than the package allows does not come this far."""
    return Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _versions() -> Iterator[Finding]:
    """Versions of the libraries that shape results, against the ranges of this package."""
    try:
        ranges = requires("eca-search") or []
    except PackageNotFoundError:
        ranges = []
        yield Finding("eca-search", "warn", "not installed", "pip install -e . in its folder")
    for library in LIBRARIES:
        yield version_of(library, ranges)


def extras() -> Iterator[Finding]:
    """Libraries that single tasks need and an extra brings, each with the tasks; none is a must."""
    asked: dict[tuple[str, str], list[str]] = {}
    for task in catalogue.names("task"):
        for needed in catalogue.needs(task).items():
            asked.setdefault(needed, []).append(task)
    for (library, extra), tasks in asked.items():
        try:
            yield Finding(library, "ok", f"{version(library)} (for {listed(tasks)})")
        except PackageNotFoundError:
            said = f"not installed, so no {listed(tasks)}"
            yield Finding(library, "warn", said, f"pip install 'eca-search[{extra}]'")


def version_of(library: str, ranges: list[str]) -> Finding:
    """The installed version of a library against the requirement for it among `ranges`."""
    from packaging.requirements import Requirement

    wanted = next((r for r in map(Requirement, ranges) if r.name == library), None)
    remedy = f'pip install "{library}{wanted.specifier if wanted else ""}"'
    try:
        installed = version(library)
    except PackageNotFoundError:
        return Finding(library, "fail", "not installed", remedy)
    if wanted is not None and not wanted.specifier.contains(installed, prereleases=True):
        found = f"{installed}, not {wanted.specifier}"
        return Finding(library, "fail", found, remedy)
    return Finding(library, "ok", f"{installed}{f' ({wanted.specifier})' if wanted else ''}")


def _torch() -> Iterator[Finding]:
    """Whether torch and torchvision import and fit each other, and which GPUs torch sees."""
    done = _python_says(PROBE)
    if done.returncode:
        yield Finding("torch imports", "fail", _last(done), "pip install --force-reinstall torch")
        return
    about = json.loads(done.stdout.splitlines()[-1])
    yield pair(about["version"], _python_says("import torchvision"))
    yield _gpus(about)
    yield compiling("cuda" if about["devices"] else "cpu")
    if about["devices"]:
        yield sharing(os.environ)


def pair(torch: str, imported: subprocess.CompletedProcess[str]) -> Finding:
    """Whether torchvision fits a torch of that version; `imported` is how its import went.

    A torchvision built against CUDA does not import beside a torch built without, and pip installs
    that pair: `operator torchvision::nms does not exist`.
    """
    public, _, build = torch.partition("+")
    major, minor = public.split(".")[:2]
    fitting = f"torchvision==0.{int(minor) + TORCHVISION}.*" if major == "2" else "torchvision"
    index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
    remedy = f'pip install --force-reinstall "torch=={public}" "{fitting}"{index}'
    if imported.returncode:
        return Finding("torch and torchvision", "fail", _last(imported), remedy)
    try:
        installed = version("torchvision")
    except PackageNotFoundError:
        return Finding("torch and torchvision", "fail", "no torchvision", remedy)
    found = f"{torch} and {installed}"
    if major == "2" and installed.split(".")[:2] != ["0", str(int(minor) + TORCHVISION)]:
        return Finding("torch and torchvision", "warn", f"{found} were not built together", remedy)
    return Finding("torch and torchvision", "ok", f"{found} import together")


def _gpus(about: dict[str, Any]) -> Finding:
    if about["devices"]:
        seen = ", ".join(f"{name} ({memory / GIB:.0f} GiB)" for name, memory in about["devices"])
        return Finding("GPUs", "ok", f"{seen}; CUDA {about['cuda']}")
    if shutil.which("nvidia-smi") is None:
        return Finding("GPUs", "ok", "none here; training runs on the CPU")
    remedy = "check CUDA_VISIBLE_DEVICES and the driver (nvidia-smi); install a torch with CUDA"
    return Finding("GPUs", "warn", "there is nvidia-smi, but torch sees no GPU", remedy)


def compiling(device: str) -> Finding:
    """Whether `training.compile` has what it takes on a "cpu" or with "cuda"; few need it."""
    from trainers import toolchain

    if said := toolchain.lacking(device):
        found, _, remedy = said.partition(": ")
        return Finding("compiler", "warn", f"{found}, so no training.compile", remedy)
    return Finding("compiler", "ok", f"{toolchain.compiler(device)} (for training.compile)")


def sharing(environ: Mapping[str, str]) -> Finding:
    """Whether processes on one GPU compute at the same time (NVIDIA's MPS) or take turns.

    A process is MPS's client where the daemon's pipe is: in `$CUDA_MPS_PIPE_DIRECTORY`, else in
    /tmp/nvidia-mps. `$CUDA_MPS_ACTIVE_THREAD_PERCENTAGE` is each client's share of the GPU.
    """
    told = environ.get("CUDA_MPS_PIPE_DIRECTORY")
    pipe = Path(told or "/tmp/nvidia-mps")
    if (pipe / "control").exists():
        share = environ.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")
        at_most = f", each at most {share} % of it" if share else ""
        return Finding("MPS", "ok", f"on at {pipe}: trials of one GPU compute together{at_most}")
    remedy = "nvidia-cuda-mps-control -d, in the same environment as `ray start`"
    if told:
        found = f"CUDA_MPS_PIPE_DIRECTORY is {pipe}, where no daemon listens"
        return Finding("MPS", "warn", found, remedy)
    return Finding("MPS", "ok", "off: several trials on one GPU take turns")


def _disk(out: Path) -> Finding:
    place = existing(out.absolute())
    free = shutil.disk_usage(place).free / GIB
    found = f"{free:.1f} GiB free at {place}"
    remedy = "make room, or give `run` another --out"
    if not os.access(place, os.W_OK):
        return Finding("disk", "fail", f"{place} is not writable", remedy)
    if free < 0.5:
        return Finding("disk", "fail", found, remedy)
    return Finding("disk", "warn" if free < 5 else "ok", found, remedy if free < 5 else "")


def _file_system(out: Path) -> Iterator[Finding]:
    """What kind of file system the studies lie on, and what holds there."""
    there = filesystems.mount(existing(out.absolute()))
    if there is not None:
        state, found, remedy = filesystems.judged(there)
        yield Finding("file system", state, found, remedy)


def _store(out: Path, tracking_uri: str | None) -> Finding:
    """Whether the MLflow store can be reached and written, without MLflow's own long tries."""
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
    remedy = "give --tracking-uri of another store, or unset MLFLOW_TRACKING_URI"
    if uri.startswith(("http://", "https://")):
        shown = redacted(uri)
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5):
                return Finding("MLflow store", "ok", f"{shown} answers")
        except (OSError, ValueError) as error:
            return Finding("MLflow store", "fail", f"{shown} does not answer ({error})", remedy)
    file = store.file(uri or store.default_uri(out))
    if file is None and "://" in uri:
        scheme = uri.partition("://")[0]
        if scheme == "file":
            found = "a folder (file://) is not taken by this MLflow any more"
            return Finding("MLflow store", "fail", found, remedy)
        return Finding("MLflow store", "ok", f"a {scheme} store; not looked at")
    return sqlite_store(file or Path(uri), remedy)


def sqlite_store(file: Path, remedy: str) -> Finding:
    """Whether a SQLite file is there, whole and MLflow's, or can be made."""
    if not file.exists():
        place = existing(file.parent)
        state: Literal["ok", "fail"] = "ok" if os.access(place, os.W_OK) else "fail"
        found = f"{file} is made at the first run" if state == "ok" else f"{place} is not writable"
        return Finding("MLflow store", state, found, remedy if state == "fail" else "")
    try:
        connection = sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=2)
        try:
            whole = connection.execute("PRAGMA quick_check").fetchone()[0]
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Finding("MLflow store", "fail", f"{file}: {error}", remedy)
    if whole != "ok":
        return Finding("MLflow store", "fail", f"{file} is damaged: {whole}", remedy)
    if tables and "alembic_version" not in tables:
        return Finding("MLflow store", "fail", f"{file} is another program's", remedy)
    there = filesystems.mount(existing(file.absolute().parent))
    if there is not None and there.network:
        found = f"{file} is SQLite on {there}, where its locks may not hold"
        return Finding("MLflow store", "warn", found, remedy)
    return Finding("MLflow store", "ok", f"{file} is writable")


def _data() -> Finding:
    """Which datasets lie where they are looked for; nothing is downloaded."""
    from spaces import catalogue
    from spaces.config import Dataset
    from trainers import variants
    from trainers.datasets import folders

    found, absent = [], []
    for name in catalogue.names("dataset"):
        if name in ROOTLESS:
            continue
        system = getattr(variants.module("dataset", name), "DEBIAN", ())
        places = folders(Dataset(name=name), *([system] if isinstance(system, str) else system))
        here = next((place for place in places if place.is_dir()), None)
        found += [f"{name} in {here}"] if here else []
        absent += [] if here else [name]
    words = ["digits", *found]
    if not absent:
        return Finding("data", "ok", ", ".join(words))
    remedy = "set ECA_SEARCH_DATA to the folder of <dataset>/, or let the first run fetch it"
    return Finding("data", "warn", f"{', '.join(words)}; not here: {', '.join(absent)}", remedy)


def _files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= 4096:
        return Finding("open files", "ok", "unlimited" if soft < 0 else f"{soft:,} allowed")
    return Finding("open files", "warn", f"{soft:,} allowed; Ray wants more", "ulimit -n 65536")


def _shared_memory() -> Finding:
    place = Path("/dev/shm")
    if not place.is_dir():
        return Finding("/dev/shm", "ok", "not on this system")
    size = shutil.disk_usage(place).free / GIB
    if size >= 1:
        return Finding("/dev/shm", "ok", f"{size:.1f} GiB free")
    remedy = "in a container: docker run --shm-size=4g; Ray and data loaders share memory there"
    return Finding("/dev/shm", "warn", f"{size:.2f} GiB free", remedy)


def existing(path: Path) -> Path:
    """The nearest folder above that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def _python_says(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of what a process complained of."""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"it ended with {done.returncode}"
