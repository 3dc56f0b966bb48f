"""A search as `ray job submit` starts it, and what its workers are told of MLflow."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import search
from search.execution.cluster import refusal

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugins" / "nosy.py"
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
LOGIN = {"MLFLOW_TRACKING_USERNAME": "canary", "MLFLOW_TRACKING_PASSWORD": "canary-job-7"}
WriteSpace = Callable[..., Path]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(280)]


@dataclass(frozen=True)
class Head:
    """A head whose dashboard takes jobs, and the environment of who may ask it."""

    dashboard: str
    environment: dict[str, str]


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    """A Ray of two CPUs behind a token, started as a person starts one."""
    if importlib.util.find_spec("aiohttp_cors") is None:
        pytest.skip("Ray has no dashboard here (pip install 'ray[default]')")
    environment = {
        name: text for name, text in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))
    }
    environment |= {
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "5ec7e7" * 10,
    }
    scratch = tempfile.mkdtemp(prefix="eca-job-")  # short: Ray's sockets allow 107 characters
    dashboard, port = free(), free()
    start = ["start", "--head", "--block", "--num-cpus=2", f"--port={port}"]
    asked = ["--include-dashboard=true", f"--dashboard-port={dashboard}"]
    more = [f"--ray-client-server-port={free()}", f"--dashboard-agent-listen-port={free()}"]
    with subprocess.Popen(
        [*RAY, *start, *asked, *more, f"--temp-dir={scratch}"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        for _ in range(600):
            if not refusal(f"127.0.0.1:{dashboard}", timeout=1):
                break
            time.sleep(0.1)
        yield Head(f"http://127.0.0.1:{dashboard}", environment)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    shutil.rmtree(scratch, ignore_errors=True)


def submitted(head: Head, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Hand a command to the cluster and wait for it."""
    job = ["job", "submit", "--address", head.dashboard]
    runtime = json.dumps({"env_vars": LOGIN})
    return subprocess.run(
        [*RAY, *job, "--runtime-env-json", runtime, "--", *command],
        env={**head.environment, **more},
        capture_output=True,
        text=True,
    )


def test_a_submitted_search_runs_where_it_was_submitted(
    head: Head, write_space: WriteSpace, tmp_path: Path
) -> None:
    """It uses the job's cluster; its workers know no password of MLflow's.

    Without the token the cluster takes no job.
    """
    seen = tmp_path / "seen"
    attention = f"{{choice: [{{name: nosy, to: {seen}}}, {{name: none}}]}}"
    space = write_space(trials=2, width="0.25", attention=attention)
    run = [sys.executable, "-m", "search", "run", str(space), "--plugin", str(PLUGIN)]
    done = submitted(head, *run, "--executor", "ray", "--out", str(tmp_path / "runs"))
    stranger = submitted(head, "true", RAY_AUTH_TOKEN="wrong")

    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "1 node, 2 CPUs" in said
    assert "starting Ray" not in said
    study = search.load(tmp_path / "runs" / "small")
    assert study.outcomes() == {"finished": 2, "pruned": 0, "failed": 0}
    names = seen.read_text().split()
    assert "RAY_AUTH_TOKEN" in names  # it is the whole environment
    assert not [name for name in names if name.startswith("MLFLOW_")]
    assert stranger.returncode != 0
    assert "token" in (stranger.stdout + stranger.stderr).lower()


def test_workers_of_a_local_ray_start_without_mlflows_login(
    write_space: WriteSpace, tmp_path: Path
) -> None:
    """Not even what /proc tells of Ray's processes has it: they were started without."""
    seen = tmp_path / "seen"
    space = write_space(trials=1, width="0.25", attention=f"{{name: nosy, to: {seen}}}", epochs=60)
    run = [sys.executable, "-m", "search", "run", str(space), "--plugin", str(PLUGIN)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with subprocess.Popen(
        [*run, "--executor", "ray", "--out", str(tmp_path / "runs")],
        env={**environment, **LOGIN, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as driver:
        started: set[Path] = set()
        while driver.poll() is None and not seen.exists():
            started |= {path for path in Path("/proc").glob("[0-9]*") if of(path, driver.pid)}
            time.sleep(0.2)
        kept = [path.name for path in started if b"canary-job-7" in environ(path)]
        _, said = driver.communicate()

    assert driver.returncode == 0, said
    assert not [name for name in seen.read_text().split() if name.startswith("MLFLOW_")]
    assert len(started) > 3
    assert kept == [str(driver.pid)]


def of(process: Path, session: int) -> bool:
    """Whether a process descends from the one that began a session."""
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3]) == session
    except OSError:
        return False


def environ(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""
