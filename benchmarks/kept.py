"""What every result says of how it came about, and where results are kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import search

RESULTS = Path(__file__).parent / "results"


def circumstances(*libraries: str, device: str = "") -> dict[str, Any]:
    """Date, command, machine, versions and commit; asked for before anything is measured.

    Versions are those that a study keeps (Python, platform, eca-search, torch, ...) and those of
    `libraries`. The commit is of the checkout that `search` was imported from, with `-dirty` where
    its files were changed; without a checkout there is none.
    """
    from search.beforehand import preflight  # here: some processes measure what imports cost

    told = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "machine": ", ".join(_machine() + [device] * bool(device)),
        "versions": preflight.versions() | {name: version(name) for name in libraries},
    }
    commit = _commit(Path(search.__file__).parents[1])
    return {**told, "commit": commit} if commit else told


def keep(name: str, result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write a result as `NAME-DATE.json`, by its own date, and return where."""
    path = folder / f"{name}-{result['date'][:10]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def _machine() -> list[str]:
    """What computes, how many cores it has and how busy they are, over the last minute."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # no Linux
        lines = []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    load = f"load {os.getloadavg()[0]:.1f}"
    return [platform.machine(), *models[:1], f"{os.cpu_count()} cores", load]


def _commit(root: Path) -> str | None:
    if not (root / ".git").exists():  # what an archive was unpacked in may be another's checkout
        return None
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git here, or not our checkout to read
        return None
