"""A disk, or a node's memory, that is full under a driver whose hooks Ray calls."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import search

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]


def run(space: Path, out: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Search on a cluster that the driver starts, with more in its environment."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-m", "search", "run", space, "--out", out, "--executor", "ray"],
        env={**environment, **more},
        capture_output=True,
        text=True,
    )


def test_a_full_disk_pauses_a_search_on_ray(
    write_space: Callable[..., Path], tmp_path: Path
) -> None:
    """The error comes out of Ray's hooks as it was: exit code 75, and what is acknowledged stays.

    The driver has started a cluster of its own, whose token is in nobody's home afterwards.
    """
    space = write_space(trials=3, width="{choice: [0.25, 0.5, 0.75]}")
    home = tmp_path / "home"
    home.mkdir()
    paused = run(
        space, tmp_path / "runs", HOME=str(home), ECA_SEARCH_FAILPOINT="append.torn:9+:enospc"
    )
    before = search.load(tmp_path / "runs" / "small")
    study = search.resume(tmp_path / "runs" / "small", executor="inprocess")

    said = paused.stderr.splitlines()
    assert paused.returncode == 75, paused.stderr
    assert said[-2].endswith("No space left on device")
    assert said[-1].startswith("paused; go on with: eca-search resume")
    assert not (home / ".ray").exists()
    assert before.trials
    assert study.outcomes() == {"finished": 3, "pruned": 0, "failed": 0}
    for trial in study.trials:
        assert [epoch["epoch"] for epoch in trial.replicates[0].curve] == [1, 2, 3]


def test_a_node_without_memory_ends_its_trials_alone(
    write_space: Callable[..., Path], tmp_path: Path
) -> None:
    """Ray kills workers when their node's memory runs out: host_oom, not tried again as it was.

    Here it takes every memory for full. The search comes to its end, which is no result: exit 1.
    """
    space = write_space(trials=1, width="0.25", attention="{name: none}", epochs=2000)
    over = run(
        space,
        tmp_path / "runs",
        RAY_memory_usage_threshold="0.01",
        RAY_memory_monitor_refresh_ms="250",
    )
    (trial,) = search.load(tmp_path / "runs" / "small").trials

    assert over.returncode == 1, over.stderr
    assert "internal error" not in over.stderr
    assert trial.outcome == "host_oom"
    assert "low on memory" in trial.reason
    assert [attempt.outcome for attempt in trial.replicates[0].attempts] == ["host_oom"]
