"""The oldest Ray and MLflow that are allowed search and record, as the newest tested do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OLDEST = ROOT / "constraints-oldest.txt"


def test_what_is_tested_as_oldest_is_what_is_allowed() -> None:
    """The pins are pyproject.toml's lower bounds, at least one minor below those of
    constraints.txt.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = dict(re.split(r"\[.*?\]>=|>=", line, maxsplit=1) for line in project["dependencies"])
    oldest, newest = _pins(OLDEST), _pins(ROOT / "constraints.txt")
    for name in ("ray", "mlflow"):
        assert oldest[name].startswith(f"{allowed[name]}.")
        assert _minor(oldest[name]) < _minor(newest[name])


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_oldest_ray_and_mlflow_search(tmp_path: Path) -> None:
    """Laid over the environment, they run real searches, recorded in MLflow, on both executors: one
    whose driver is killed and resumed among them, and a trial of two processes.
    """
    packages = tmp_path / "oldest"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(packages), "-r", str(OLDEST)], check=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(ROOT)])}
    told = subprocess.run(
        [sys.executable, "-c", "import mlflow, ray; print(ray.__version__, mlflow.__version__)"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    pins = _pins(OLDEST)
    assert told.stdout.split() == [pins["ray"], pins["mlflow"]]
    chosen = "ends_with_a_front or first_report or killed_midway or two_processes_make"
    tests = ["tests/contracts/test_study.py", "tests/faults/test_ray_team.py", "-k", chosen]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]


def _pins(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def _minor(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))
