"""A disk that is full under a driver whose hooks Ray calls."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import search

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]


def test_a_full_disk_pauses_a_search_on_ray(
    write_space: Callable[..., Path], tmp_path: Path
) -> None:
    """The error comes out of Ray's hooks as it was: exit code 75, and what is acknowledged stays.

    The driver has started a cluster of its own, whose token is in nobody's home afterwards.
    """
    space = write_space(trials=3, width="{choice: [0.25, 0.5, 0.75]}")
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-m", "search", "run", str(space), "--out", str(tmp_path / "runs")]
    paused = subprocess.run(
        [*command, "--executor", "ray"],
        env={
            **{name: text for name, text in os.environ.items() if not name.startswith("RAY_")},
            "HOME": str(home),
            "ECA_SEARCH_FAILPOINT": "append.torn:9+:enospc",
        },
        capture_output=True,
        text=True,
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
