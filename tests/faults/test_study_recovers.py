"""What a study makes of faults, whoever drives it: here nobody trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import search
import spaces
from search.cli import main
from search.study.journal import FILE, read
from search.study.study import Study
from search.trial import Candidate, Ending

SPACE = """\
name: faults
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5, 0.75]}}
attention: {name: none}
training: {epochs: 5, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
"""


def examine(values: dict[str, Any]) -> Candidate:
    """A network as large as it is wide."""
    width = values["backbone.width"]
    config = {"training": {"epochs": 5, "batch_size": 32}, "attention": {"name": "none"}}
    costs = {"params": 1000 * width, "macs": 1e6 * width}
    return Candidate(config, f"w{width}", f"w{width}", costs, {}, "", f"w{width}")


@pytest.fixture
def create(tmp_path: Path) -> Callable[..., Study]:
    """Start a study of three networks with a search section of one's own."""

    def make(**options: Any) -> Study:
        path = tmp_path / "faults.yaml"
        path.write_text(f"{SPACE}search: {json.dumps({'trials': 3, 'seed': 1, **options})}\n")
        reference = {"params": 750, "macs": 750e3}
        folder = tmp_path / "runs" / "faults"
        return Study.create(folder, spaces.load(path), examine, reference=reference, chance=0.1)

    return make


def begin(study: Study) -> int:
    """Hand the next attempt out; its trial."""
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "host:1")
    return assignment.trial


def test_a_stop_that_was_not_written_down_is_said_again(create: Callable[..., Study]) -> None:
    """Killed between the epoch that ended a trial and the record of its end: it trains no more."""
    study = create(pruner={"name": "ThresholdPruner", "lower": 0.5}, trials=1)
    number = begin(study)
    ending = study.report(number, 0, {"epoch": 1, "val_accuracy": 0.2})
    study.close()
    lines = (study.folder / FILE).read_bytes().splitlines(keepends=True)
    kinds = [record["kind"] for record in read(study.folder)]
    (study.folder / FILE).write_bytes(b"".join(lines[: kinds.index("epoch") + 1]))
    study = Study.drive(study.folder, study.space, examine)

    assert ending is not None
    assert study.next() is None
    (trial,) = study.trials
    assert (trial.outcome, trial.reason) == (ending.outcome, ending.reason)
    assert len(trial.replicates[0].attempts) == 1
    assert study.optuna.trials[0].state.name == "PRUNED"
    study.close()


def test_a_network_that_crashed_twice_is_not_proposed_again(create: Callable[..., Study]) -> None:
    """It is taken for broken: the budget goes to the others, and a restart knows that."""
    study = create(trials=6, failures={"crashed": 0, "consecutive": 9})
    broken = study.history.trials[begin(study)].key
    study.close()
    study = Study.drive(study.folder, study.space, examine)  # it was interrupted, not broken
    while (assignment := study.next()) is not None:
        number = assignment.trial
        study.start(assignment, "host:1")
        if study.history.trials[number].key == broken:
            study.end(number, 0, Ending("crashed", "on purpose"))
            study.close()
            study = Study.drive(study.folder, study.space, examine)
        else:
            study.report(number, 0, {"epoch": 1, "val_accuracy": 0.5})
            study.end(number, 0, Ending("finished", ""))

    keys = [trial.key for trial in study.trials]
    assert keys.count(broken) == 2
    assert set(keys) == {"w0.25", "w0.5", "w0.75"}
    assert study.why_done == "3 of 3 networks seen"
    study.close()


def test_sync_leaves_a_driven_study_to_its_driver(
    create: Callable[..., Study], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two writers would double its runs: `sync` says so and writes nothing."""
    study = create()
    number = begin(study)
    study.report(number, 0, {"epoch": 1, "val_accuracy": 0.5})
    study.commit()
    said: list[str] = []
    before = {file.name for file in study.folder.parent.rglob("*")}
    assert not search.sync(study.folder, say=said.append)
    assert main(["sync", str(study.folder)]) == 0
    assert capsys.readouterr().out == ""  # it does not say that MLflow is level

    assert said == ["faults is being driven just now: its driver writes MLflow"]
    assert {file.name for file in study.folder.parent.rglob("*")} == before
    study.close()
