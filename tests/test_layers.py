"""Imports go one way: spaces <- trainers <- search, and each heavy library has its one place."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "spaces": {"torch", "torchvision", "numpy", "ray", "optuna", "mlflow", "trainers", "search"},
    "trainers": {"ray", "optuna", "mlflow", "search"},
    "search": set[str](),
}
ONLY_IN = {"ray": "search/execution/ray_tune/", "mlflow": "search/tracking/in_mlflow.py"}
"""The one file of a library, or its one folder; whoever else wants it asks there."""
WITHOUT_TORCH = (
    "search/study/",
    "search/sampling/",
    "search/pruning/",
    "search/trial.py",
    "search/front/pareto.py",
    "search/comparison/paired.py",
    "search/comparison/statistics.py",
    "search/comparison/power.py",
    "search/comparison/shrinkage.py",
    "search/execution/desk.py",
    "search/execution/cluster.py",
    "search/execution/recorded.py",
    "search/execution/replay.py",
)
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in FORBIDDEN
    for path in (ROOT / package).rglob("*.py")
)


def imported(file: str) -> Iterator[str]:
    """Top-level names of everything a file imports, inside functions too."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("file", FILES)
def test_imports_point_downwards(file: str) -> None:
    """A file imports nothing from the rooms above it, and no library its room is kept free of."""
    assert not set(imported(file)) & FORBIDDEN[file.partition("/")[0]]


@pytest.mark.parametrize("file", FILES)
def test_ray_and_mlflow_are_imported_in_one_place_each(file: str) -> None:
    """Only the folder ray_tune imports ray, only in_mlflow.py imports mlflow."""
    for library, home in ONLY_IN.items():
        assert library not in imported(file) or file.startswith(home)


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("trainers/")])
def test_torchvision_stays_in_datasets_detectors_and_tasks(file: str) -> None:
    """The networks and the training loop work with torch alone."""
    allowed = file.startswith(("trainers/datasets/", "trainers/detectors/", "trainers/tasks/"))
    assert allowed or "torchvision" not in imported(file)


@pytest.mark.parametrize("place", WITHOUT_TORCH)
def test_decisions_do_not_know_torch(place: str) -> None:
    """The study, its journal, pruning and fronts import neither torch nor trainers."""
    files = [file for file in FILES if file.startswith(place)]
    assert files
    assert not {"torch", "trainers"} & {name for file in files for name in imported(file)}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import spaces", {"torch", "numpy", "optuna", "ray", "mlflow"}),
        ("import trainers", {"torch", "numpy"}),
        ("import trainers.variants", {"torch"}),
        ("import trainers.build, trainers.complexity, trainers.pretrained", {"torchvision"}),
        ("import trainers.latency, trainers.portable, trainers.train", {"torchvision"}),
        ("import search", {"torch", "optuna", "ray", "mlflow", "pydantic"}),
        ("import search.study.study", {"torch", "optuna", "ray", "mlflow"}),
    ],
)
def test_importing_a_package_is_cheap(statement: str, absent: set[str]) -> None:
    """What a package does not need at once, it does not import at once."""
    check = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not absent & set(done.stdout.split())


def test_exactly_three_packages_are_shipped() -> None:
    """The folders at the top that hold Python for users are the three rooms."""
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert rooms == set(FORBIDDEN)
