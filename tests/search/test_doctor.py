"""The doctor: what is wrong with a machine is found and comes with its remedy."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from search.beforehand import doctor
from search.beforehand.doctor import Finding, sharing
from search.cli import main


def imported(code: int, stderr: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(["python"], code, "", stderr)


def test_this_machine_is_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`doctor --json` where the tests run: exit 0, every check with name, state and finding."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = main(["doctor", "--json", "--out", str(tmp_path / "runs")])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["version"], told["fit"]) == (0, 1, True)
    states = {check["name"]: check["state"] for check in told["checks"]}
    assert "fail" not in states.values()
    assert set(states) >= {
        "python",
        "torch",
        "ray",
        "optuna",
        "mlflow",
        "torch and torchvision",
        "GPUs",
        "compiler",
        "disk",
        "MLflow store",
        "data",
        "open files",
        "/dev/shm",
    }
    assert all(check["remedy"] for check in told["checks"] if check["state"] != "ok")
    assert not (tmp_path / "runs").exists()


def test_what_fails_is_exit_3_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store of another program makes the machine unfit; the remedy stands below the line."""
    monkeypatch.setattr(doctor, "_torch", lambda: iter(()))  # twenty seconds, tested above
    (tmp_path / "mlflow.db").write_bytes(b"not a database, and long enough to be read as one")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = main(["doctor", "--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert code == 3
    assert "fail  MLflow store: " in out
    assert "\n      give --tracking-uri of another store" in out


def test_a_torchvision_built_for_another_torch() -> None:
    """The classic: PyPI's torchvision beside a CPU build of torch does not import."""
    trace = "Traceback ...\nRuntimeError: operator torchvision::nms does not exist\n"
    found = doctor.pair("2.14.1+cpu", imported(1, trace))
    assert found == Finding(
        "torch and torchvision",
        "fail",
        "RuntimeError: operator torchvision::nms does not exist",
        'pip install --force-reinstall "torch==2.14.1" "torchvision==0.29.*"'
        " --index-url https://download.pytorch.org/whl/cpu",
    )


def test_a_pair_that_imports_but_was_not_built_together() -> None:
    """Torchvision 0.(n + 15) belongs to torch 2.n: another pair is worth a warning."""
    installed = version("torchvision")
    minor = int(installed.split(".")[1]) - doctor.TORCHVISION
    assert doctor.pair(f"2.{minor}.0", imported(0)).state == "ok"
    assert doctor.pair(f"2.{minor - 1}.0", imported(0)).state == "warn"


@pytest.mark.parametrize(
    ("ranges", "library", "state", "found"),
    [
        (["optuna>=5.0"], "optuna", "ok", "(>=5.0)"),
        (["optuna>=99"], "optuna", "fail", "not >=99"),
        (["ray[tune]>=2.59"], "ray", "ok", "(>=2.59)"),
        (["nowhere>=1"], "nowhere", "fail", "not installed"),
    ],
)
def test_versions_against_ranges(ranges: list[str], library: str, state: str, found: str) -> None:
    """A version out of range, or none, fails, with the command that mends it."""
    finding = doctor.version_of(library, ranges)
    assert finding.state == state
    assert found in finding.found
    assert (finding.remedy == "") == (state == "ok") or "pip install" in finding.remedy


def test_sqlite_stores(tmp_path: Path) -> None:
    """A fresh path, MLflow's own file, another program's, a damaged one."""
    assert doctor.sqlite_store(tmp_path / "mlflow.db", "").state == "ok"
    for table, state in (("alembic_version", "ok"), ("customers", "fail")):
        file = tmp_path / f"{table}.db"
        connection = sqlite3.connect(file)
        connection.execute(f"CREATE TABLE {table} (x)")
        connection.close()
        assert doctor.sqlite_store(file, "elsewhere").state == state
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(file.read_bytes()[:100] + b"\xff" * 4000)
    assert doctor.sqlite_store(damaged, "elsewhere").state == "fail"


@pytest.mark.parametrize(
    ("uri", "state"),
    [("http://127.0.0.1:9", "fail"), ("file:///tmp/mlruns", "fail"), ("postgresql://h/db", "ok")],
)
def test_other_stores(tmp_path: Path, uri: str, state: str) -> None:
    """A server that does not answer and a file store fail at once; others are not looked at."""
    assert doctor._store(tmp_path, uri).state == state


def test_what_compiling_takes_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler there is no `training.compile`: a warning, as nothing else needs it."""
    monkeypatch.setenv("CXX", "/nowhere/g++")
    lacking = doctor.compiling("cpu")
    monkeypatch.setenv("CXX", f"{sys.executable} -O2")
    there = doctor.compiling("cpu")

    assert (lacking.state, there.state) == ("warn", "ok")
    assert lacking.found == ("no C++ compiler here ($CXX is /nowhere/g++), so no training.compile")
    assert lacking.remedy == "apt-get install g++ python3-dev, or name a compiler in CXX"
    assert there.found.startswith(sys.executable)


def test_whether_trials_share_a_gpu_at_the_same_time(tmp_path: Path) -> None:
    """MPS is on where its daemon's pipe is; a variable that points elsewhere is a warning."""
    environ = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
    wrong = sharing(environ)
    (tmp_path / "control").touch()
    right = sharing({**environ, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25"})

    assert (wrong.state, right.state) == ("warn", "ok")
    assert "nvidia-cuda-mps-control -d" in wrong.remedy
    assert right.found.endswith("compute together, each at most 25 % of it")
