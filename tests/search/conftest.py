"""A study worth what a test says, without training; an MLflow store of one's own."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import spaces
from search.store import default_uri
from search.study.study import Study
from search.tracking import in_mlflow
from search.trial import Candidate

SPACE = """\
name: synthetic
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]}}
training: {epochs: 3, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
"""


def examine(values: dict[str, Any]) -> Candidate:
    """A network as large as its width says."""
    width = values["backbone.width"]
    key = hashlib.sha256(str(width).encode()).hexdigest()[:16]
    config = {
        "name": "synthetic",
        "dataset": {"name": "digits"},
        "backbone": {"name": "resnet", "depth": 8, "width": width},
        "attention": {"name": "none"},
        "training": {"epochs": 3, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.1}},
    }
    costs = {"params": 1000 * width, "macs": 1000 * width}
    return Candidate(config, key, key, costs, {}, "", f"w{width}")


@pytest.fixture
def synthetic(tmp_path: Path) -> Iterator[Callable[..., Study]]:
    """Start a study in `tmp_path/runs/synthetic`; its search section is what is given."""
    begun: list[Study] = []

    def start(**search: Any) -> Study:
        path = tmp_path / "synthetic.yaml"
        widths = [{"backbone": {"width": width / 4}} for width in range(1, 9)]
        given = {"trials": 8, "sampler": {"name": "RandomSampler"}, "baselines": widths, **search}
        path.write_text(f"{SPACE}search: {json.dumps(given)}\n")
        folder = tmp_path / "runs" / "synthetic"
        reference = {"params": 2000, "macs": 2000}
        space = spaces.load(path)
        study = Study.create(folder, space, examine, reference=reference, chance=0.1)
        study.begin(pid=1, host="here", executor="inprocess")
        begun.append(study)
        return study

    yield start
    for study in begun:
        study.close()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store with its schema: making one takes seconds, copying it nothing."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    in_mlflow._client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(migrated: Path, tmp_path: Path) -> str:
    """The URI of an empty store of the test's own."""
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return default_uri(tmp_path)
