"""What a study is judged by, where costs come first or are all there is; and where it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import spaces
from search import text
from search.cli import main
from search.commands import progress, ui
from search.front import pareto, picture, plots
from search.study.study import Study
from search.tracking import projection, view
from search.tracking.projection import Snapshot
from search.trial import Candidate, Ending

SPACE = """\
name: seen
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5, 0.75]}}
training: {epochs: 2, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
search:
  trials: 3
  replicates: 2
  sampler: {name: BruteForceSampler}
  objectives: OBJECTIVES
"""
COST_FIRST = "{params: min, val_accuracy: max}"
ALL_COSTS = "{params: min, macs: min}"


def examine(values: dict[str, Any]) -> Candidate:
    """A network whose cost is its width; the largest is not to be built."""
    width = values["backbone.width"]
    if width == 0.75:
        raise ValueError("too wide")
    key = f"width{width}"
    config = {
        "name": "seen",
        "dataset": {"name": "digits"},
        "backbone": {"name": "resnet", "depth": 8, "width": width},
        "attention": {"name": "none"},
        "training": {"epochs": 2, "optimizer": {"name": "sgd", "lr": 0.1}},
    }
    costs = {"params": 1000 * width, "macs": 9000 * width}
    return Candidate(config, key, key, costs, {}, "none", f"w{width:g} none")


def driven(folder: Path, objectives: str, **driver: Any) -> Study:
    """A study of two networks, of which the larger is the more accurate; it lies in `folder`."""
    (folder / "seen").mkdir()
    file = folder / "seen" / "space.yaml"
    file.write_text(SPACE.replace("OBJECTIVES", objectives))
    reference = {"params": 2000.0, "macs": 18000.0}
    study = Study.create(
        folder / "seen", spaces.load(file), examine, reference=reference, chance=0.1
    )
    study.begin(**driver)
    while (assignment := study.next()) is not None:
        study.start(assignment, "here:1")
        width = assignment.config["backbone"]["width"]
        for epoch in (1, 2):
            accuracy = width + epoch / 10 + assignment.replicate / 100
            metrics = {"epoch": epoch, "val_accuracy": accuracy}
            study.report(assignment.trial, assignment.replicate, metrics)
        study.end(assignment.trial, assignment.replicate, Ending("finished", ""))
    study.commit()
    return study


@pytest.fixture(params=[COST_FIRST, ALL_COSTS], ids=["cost first", "all costs"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Study]:
    """A study whose first objective is a cost."""
    study = driven(tmp_path, request.param)
    yield study
    study.close()


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("objectives", "name"),
    [
        (["val_accuracy", "params"], "val_accuracy"),
        (["params", "macs", "val_loss"], "val_loss"),
        (["params", "macs"], None),
    ],
)
def test_judged_is_the_first_that_is_trained_for(objectives: list[str], name: str | None) -> None:
    """Costs are known before; None where there is nothing else."""
    assert pareto.judged(objectives) == name


def test_commands_tell_of_the_result(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    """`best` is the most accurate and `sd` its accuracy's; the cheapest where all are costs."""
    best = max(study.trials, key=lambda t: t.costs["params"])
    if study.judged is None:
        best = min(study.trials, key=lambda t: t.costs["params"])
    study.close()
    assert told(capsys, "status", study.folder)["best"]["trial"] == best.number
    spreads = [member["sd"] for member in told(capsys, "pareto", study.folder)["front"]]
    expected = None if study.judged is None else pytest.approx(0.01 / 2**0.5)
    assert spreads == [expected] * len(spreads)
    assert len(spreads) == (1 if study.judged is None else 2)


def test_mlflow_shows_the_result(study: Study) -> None:
    """What each replicate came to, and the view's order, are those of the result."""
    run = projection.trial_run(study.trials[0], Snapshot.of(study, live=False), "parent")
    keys = {point.key for point in run.points}
    shown = json.loads(view.Layout.of(study).state("trials"))
    if study.judged is None:
        assert not any(key.startswith("replicate_") for key in keys)
        assert (shown["orderByKey"], shown["orderByAsc"]) == ("metrics.`n_params`", True)
    else:
        assert {"replicate_val_accuracy", "final_val_accuracy"} <= keys
        order = (shown["orderByKey"], shown["orderByAsc"])
        assert order == ("metrics.`final_val_accuracy`", False)


def test_pictures_show_the_result(study: Study) -> None:
    """Accuracy over MACs; where all objectives are costs, one cost over the other."""
    drawn = picture.Picture.of(study)
    assert (drawn.cost, drawn.metric) == ("macs", study.judged or "params")
    assert plots.png(study).startswith(b"\x89PNG")
    assert "Plotly.newPlot" in plots.html(study)


def test_a_pruned_trial_is_drawn_by_its_last_value(tmp_path: Path) -> None:
    """Also where a cost is the first objective."""
    study = driven(tmp_path, COST_FIRST)
    study.extend(4)
    study.close()
    trial = study.trials[0]
    from dataclasses import replace

    study.history.trials[0] = replace(trial, outcome="pruned", objectives=None, spread={})
    assert [dot.y for dot in picture.Picture.of(study).pruned] == [
        trial.replicates[0].curve[-1]["val_accuracy"]
    ]


def test_a_running_trial_shows_its_newest_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the block of a terminal, and in `status`."""
    (tmp_path / "seen").mkdir()
    file = tmp_path / "seen" / "space.yaml"
    file.write_text(SPACE.replace("OBJECTIVES", COST_FIRST))
    study = Study.create(tmp_path / "seen", spaces.load(file), examine, reference={}, chance=0.1)
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "here:1")
    study.report(assignment.trial, 0, {"epoch": 1, "val_accuracy": 0.375})
    study.commit()
    assert "val_accuracy 0.3750" in next(progress._running(study, 8))
    assert main(["status", str(study.folder)]) == 0
    assert "epoch 1/2  val_accuracy 0.3750" in capsys.readouterr().out
    study.close()


def test_proposals_that_cannot_be_built_are_counted(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    """Apart from those over a limit: in one line, and in JSON."""
    counts = study.counts()
    assert counts["invalid"] >= 1
    assert counts["infeasible"] == 0
    assert f"{counts['invalid']} invalid" in text.tally(study)
    assert f"{counts['invalid']} invalid" in projection.description(
        Snapshot.of(study, live=False), {}, view.pages("1")
    )
    study.close()
    assert told(capsys, "status", study.folder)["counts"]["invalid"] == counts["invalid"]


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        (None, ""),
        ("sqlite:///{out}/mlflow.db", ""),
        ("sqlite:///{out}/a store/other.db", " --tracking-uri 'sqlite:///{out}/a store/other.db'"),
        ("http://user:secret@host:5000", ""),
    ],
)
def test_commands_that_are_printed_work(tmp_path: Path, uri: str | None, named: str) -> None:
    """They name the store where it is not the one beside the study; passwords are not printed."""
    where = None if uri is None else uri.format(out=tmp_path)
    typed = text.typed("sync", tmp_path / "seen", where)
    assert typed == f"eca-search sync {tmp_path / 'seen'}{named.format(out=tmp_path)}"


def test_ui_and_sync_go_to_the_last_drivers_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store given to `run` is where `ui` looks, `sync` writes, and what the summary names."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = f"sqlite:///{tmp_path / 'elsewhere' / 'mlflow.db'}"
    study = driven(tmp_path, COST_FIRST, tracking_uri=store)
    hint = f"eca-search ui {study.folder} --tracking-uri {store}"
    assert hint in text.summary(study)
    study.close()
    assert main(["ui", str(study.folder)]) == 2
    assert f"eca-search sync {study.folder} --tracking-uri {store}" in capsys.readouterr().err
    assert main(["sync", str(study.folder)]) == 0
    assert hint in capsys.readouterr().out
    assert (tmp_path / "elsewhere" / "mlflow.db").is_file()
    assert not (tmp_path / "mlflow.db").exists()
    assert ui.store(study.folder, None) == store
