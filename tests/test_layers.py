"""Imports go one way, within search too; each heavy library has its one place."""

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
ORDER = (
    *("errors", "redaction", "trial", "background", "store"),
    *("front", "sampling", "pruning", "study", "text", "comparison", "beforehand"),
    *("tracking", "report", "execution", "commands", "cli", "__main__"),
)
"""The packages of search and the files beside them: each imports itself and what is before it."""
UPWARDS = {("search/tracking/following.py", "search.report.document")}
"""But for these: the report is written of a study, and goes with its run into MLflow."""
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


def needed(node: ast.AST) -> Iterator[str]:
    """Dotted names of what a tree imports, inside functions too, but not for its types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from needed(child)


def test_every_package_of_search_has_its_place() -> None:
    """What is new in search stands somewhere in the order; its `__init__.py` alone is apart."""
    parts = {file.split("/")[1].removesuffix(".py") for file in FILES if file.startswith("search/")}
    assert parts - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("package", ORDER)
def test_packages_of_search_import_one_way(package: str) -> None:
    """A package of search imports none that stands behind it."""
    later = ORDER[ORDER.index(package) + 1 :]
    found = {
        (file, name)
        for file in FILES
        if file.startswith((f"search/{package}/", f"search/{package}.py"))
        for name in needed(ast.parse((ROOT / file).read_text()))
        if name.startswith(tuple(f"search.{other}." for other in later))
        or name in {f"search.{other}" for other in later}
    }
    assert found == {pair for pair in UPWARDS if pair[0].startswith(f"search/{package}/")}


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
