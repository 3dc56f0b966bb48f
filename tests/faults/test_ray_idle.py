"""What a search has nothing to do with any more, the cluster has back while the search goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import spaces
from search.execution import ray_tune
from search.execution.ray_tune import mended
from search.execution.worker import Workplace
from search.study.study import Study
from search.trial import Assignment, Candidate, Ending

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
SPACE = """\
name: tail
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5]}}
training: {epochs: 1, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
"""


def examine(values: dict[str, float]) -> Candidate:
    width = values["backbone.width"]
    config = {"training": {"epochs": 1, "batch_size": 32}, "attention": {"name": "none"}}
    return Candidate(config, f"{width}", f"{width}", {"params": 1.0, "macs": 1.0}, {}, "", "")


def test_an_idle_worker_is_given_back_within_a_minute() -> None:
    """What is shipped, and not patched as below: queues and autoscalers wait no longer."""
    assert 0 < mended.IDLE <= 60


def test_an_idle_worker_is_given_back(
    tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last trial of a search goes on for long: the other worker's CPU is free meanwhile."""
    import ray

    monkeypatch.setattr(mended, "IDLE", 1.0)
    path, free = tmp_path / "tail.yaml", tmp_path / "free"
    widths = [{"backbone": {"width": width}} for width in (0.25, 0.5)]
    path.write_text(f"{SPACE}search: {json.dumps({'trials': 2, 'baselines': widths})}\n")
    reference = {"params": 2.0, "macs": 2.0}
    study = Study.create(
        tmp_path / "tail", spaces.load(path), examine, reference=reference, chance=0.1
    )

    def told(assignment: Assignment, workplace: Workplace) -> Iterator[dict[str, float] | Ending]:
        (tmp_path / f"begun-{assignment.trial}").touch()
        wanted = free if assignment.trial else tmp_path / "begun-1"  # on another worker
        for _ in range(1200):
            if wanted.exists():
                break
            time.sleep(0.05)
        yield {"epoch": 1, "val_accuracy": 0.5}
        yield Ending("finished", "" if free.exists() else "nothing was given back")

    class Slow(ray_tune.Attempt):
        """Waits, in the second trial, until a CPU is free."""

        attempt = staticmethod(told)

    def watch(study: Study) -> None:
        if study.outcomes()["finished"] == 1 and ray.available_resources().get("CPU", 0) >= 1:
            free.touch()

    ray_tune.drive(
        study, Workplace("none"), cpu=1, gpu=0, slots=lambda: 2, watch=watch, trainable=Slow
    )
    study.close()

    assert [trial.outcome for trial in study.trials] == ["finished", "finished"]
    assert study.trials[1].reason == ""
    assert len({trial.replicates[0].attempts[0].worker for trial in study.trials}) == 2
