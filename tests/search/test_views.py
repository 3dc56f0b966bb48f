"""MLflow's page of a study: its saved views, what its tables hold, and the links `ui` prints."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Experiment

from search.cli import main
from search.commands import ui
from search.execution import launch
from search.study.study import Study
from search.tracking import in_mlflow, projection
from search.tracking.following import Tracking
from search.tracking.projection import Snapshot
from search.tracking.view import Layout
from search.trial import Ending

NAMES = ["trials", "front", "networks", "kernels", "failures"]
"""The views, as `eca-search ui` prints them."""


def driven(study: Study, epochs: int = 3, extra: int = 0) -> Study:
    """The study at its end: a wide network is better, and so is a later replicate.

    `extra` is how many more metrics an epoch reports.
    """
    while (assignment := study.next()) is not None:
        trial = study.history.trials[assignment.trial]
        width = trial.values["backbone.width"]
        study.start(assignment, "here:1")
        for epoch in range(1, epochs + 1):
            accuracy = width / 4 + epoch / 100 + assignment.replicate / 1000
            metrics = {"epoch": float(epoch), "val_accuracy": accuracy, "val_loss": 1 - accuracy}
            more = {f"metric_{number}": float(number) for number in range(extra)}
            study.report(assignment.trial, assignment.replicate, {**more, **metrics})
        study.end(assignment.trial, assignment.replicate, Ending("finished", ""))
    return study


def shown(uri: str, study: Study) -> Tracking:
    """The study brought level in the store."""
    place = Tracking(uri, study.name, study, say=pytest.fail)
    place.project(study)
    return place


def experiment(uri: str, name: str = "synthetic") -> Experiment:
    found = in_mlflow._client(uri).get_experiment_by_name(name)
    assert found is not None
    return found


def views(uri: str, name: str = "synthetic") -> dict[str, Any]:
    """Each saved view of an experiment, as MLflow's application reads it."""
    prefix = "mlflow.sharedViewState."
    return {
        tag.removeprefix(prefix): json.loads(value)
        for tag, value in experiment(uri, name).tags.items()
        if tag.startswith(prefix)
    }


def matching(uri: str, query: str) -> dict[int, Any]:
    """The runs that a filter finds, by trial number; the study's own is PARENT."""
    client = in_mlflow._client(uri)
    runs = client.search_runs([experiment(uri).experiment_id], query, max_results=1000)
    return {int(run.data.tags.get("eca.trial", in_mlflow.PARENT)): run for run in runs}


def test_the_page_of_a_study_shows_its_front(store: str, synthetic: Callable[..., Study]) -> None:
    """Each view has an address; trials come best first, with accuracy over costs.

    The layout's keys are MLflow's own (its web application, 3.17.2); they were seen to work there.
    """
    study = driven(synthetic())
    addresses = shown(store, study).pages()
    assert list(addresses) == NAMES
    number = experiment(store).experiment_id
    for name, address in addresses.items():
        assert address.startswith(f"#/experiments/{number}/runs?viewStateShareKey={name}&")
    saved = views(store)
    assert sorted(saved) == sorted(NAMES)
    layout = saved["trials"]
    assert layout["orderByKey"] == "metrics.`final_val_accuracy`"
    assert layout["orderByAsc"] is False
    charts = [
        (chart["xaxis"]["key"], chart["yaxis"]["key"]) for chart in layout["compareRunCharts"]
    ]
    assert charts == [("macs", "final_val_accuracy"), ("n_params", "final_val_accuracy")]
    assert {chart["metricSectionId"] for chart in layout["compareRunCharts"]} <= {
        section["uuid"] for section in layout["compareRunSections"]
    }
    front = {trial.number for trial in study.pareto()}
    assert set(matching(store, saved["front"]["searchFilter"])) == front


def test_networks_and_kernels_are_grouped_by_tags_that_runs_carry(
    store: str, synthetic: Callable[..., Study]
) -> None:
    """Children of one network, by its identity, and of one kernel profile; the best is above."""
    shown(store, driven(synthetic(trials=3)))
    saved = views(store)
    groups = {name: view["groupBy"] for name, view in saved.items() if view["groupBy"]}
    keys = {name: group["groupByKeys"] for name, group in groups.items()}
    assert keys == {
        "networks": [{"mode": "tag", "groupByData": "eca.identity"}],
        "kernels": [{"mode": "tag", "groupByData": "eca.kernels"}],
    }
    assert {group["aggregateFunction"] for group in groups.values()} == {"max"}
    found = matching(store, saved["networks"]["searchFilter"])
    assert sorted(found) == [0, 1, 2]
    assert all({"eca.identity", "eca.kernels"} <= run.data.tags.keys() for run in found.values())


def test_the_best_loss_is_the_smallest(store: str, synthetic: Callable[..., Study]) -> None:
    """An objective that goes down is sorted upwards, and the best of a group is its smallest."""
    shown(store, driven(synthetic(trials=3, objectives={"val_loss": "min", "macs": "min"})))
    for name, layout in views(store).items():
        if name != "failures":
            assert (layout["orderByKey"], layout["orderByAsc"]) == (
                "metrics.`final_val_loss`",
                True,
            )
        if layout["groupBy"]:
            assert layout["groupBy"]["aggregateFunction"] == "min"


def test_failures_say_why(store: str, synthetic: Callable[..., Study]) -> None:
    """The view of failures finds what failed and has the reason, one line, among its columns."""
    study = synthetic(trials=3)
    reasons = ["RuntimeError: no way\n  because of\tthis", "place 8 of 9 at epoch 2", ""]
    for outcome, reason in zip(["crashed", "pruned", "finished"], reasons, strict=True):
        assignment = study.next()
        assert assignment is not None
        for attempt in range(4):  # what crashed is tried again
            study.start(assignment, "here:1")
            metrics = {"epoch": 1.0, "val_accuracy": 0.5}
            if outcome == "finished":
                study.report(assignment.trial, 0, metrics)
            study.end(assignment.trial, 0, Ending(outcome, reason))
            if study.history.trials[assignment.trial].outcome:
                break
            assignment = study.next()
            assert assignment is not None, attempt
    shown(store, study)
    saved = views(store)
    failed = matching(store, saved["failures"]["searchFilter"])
    assert {key: run.data.tags["eca.reason"] for key, run in failed.items()} == {
        0: "RuntimeError: no way because of this"
    }
    assert saved["failures"]["selectedColumns"][:2] == ["tags.`eca.outcome`", "tags.`eca.reason`"]
    stopped = matching(store, "tags.`eca.outcome` = 'pruned'")
    assert stopped[1].data.tags["eca.reason"] == "place 8 of 9 at epoch 2"
    assert "tags.`eca.reason`" in saved["trials"]["selectedColumns"]


def test_an_older_experiment_is_given_its_views(
    store: str, synthetic: Callable[..., Study]
) -> None:
    """Views that a release before did not give, or gave otherwise, come with `sync` and `ui`."""
    study = driven(synthetic(trials=2))
    place = shown(store, study)
    now = views(store)
    client, number = in_mlflow._client(store), experiment(store).experiment_id
    for bring in (lambda: place.pages(), lambda: place.project(study)):
        client.delete_experiment_tag(number, "mlflow.sharedViewState.networks")
        client.set_experiment_tag(number, "mlflow.sharedViewState.failures", '{"older": 1}')
        bring()
        assert views(store) == now


def test_a_shared_experiment_keeps_the_views_of_who_made_it(
    store: str, synthetic: Callable[..., Study]
) -> None:
    """A study judged otherwise adds what is missing and turns nothing over."""
    study = driven(synthetic(trials=2))
    place = shown(store, study)
    before = views(store)
    client, number = in_mlflow._client(store), experiment(store).experiment_id
    client.delete_experiment_tag(number, "mlflow.sharedViewState.networks")
    other = Layout("final_test_accuracy", searched="searched_val_accuracy")
    in_mlflow.pages(store, "synthetic", other)
    after = views(store)
    assert "final_test_accuracy" in after.pop("networks")["orderByKey"]
    assert after == {name: view for name, view in before.items() if name != "networks"}
    place.pages()
    assert views(store) == before


def test_looking_makes_nothing(store: str, synthetic: Callable[..., Study]) -> None:
    """The pages of a study that MLflow has not are none; no experiment comes of the question."""
    study = driven(synthetic(trials=2))
    assert Tracking(store, "synthetic", study, say=pytest.fail).pages() == {}
    assert in_mlflow._client(store).get_experiment_by_name("synthetic") is None


@pytest.mark.parametrize(("replicates", "extra"), [(14, 0), (2, 40)])
def test_metrics_are_few_however_many_seeds(
    store: str, synthetic: Callable[..., Study], tmp_path: Path, replicates: int, extra: int
) -> None:
    """At most 25 keys a run; each seed's result is a step, its curve in `replicates.csv`."""
    study = driven(synthetic(trials=2, replicates=replicates), extra=extra)
    shown(store, study)
    client = in_mlflow._client(store)
    for number, run in matching(store, "tags.`eca.outcome` = 'finished'").items():
        keys = set(run.data.metrics)
        assert {"val_accuracy", "final_val_accuracy", "replicate_val_accuracy", "n"} <= keys
        assert len(keys) <= 25
        assert not any(key.startswith("replicate_2") for key in keys)
        trial = study.trials[number]
        each = client.get_metric_history(run.info.run_id, "replicate_val_accuracy")
        results = {r.number + 1: r.curve[-1]["val_accuracy"] for r in trial.replicates}
        assert {point.step: point.value for point in each} == results
        assert len(results) == replicates
        path = client.download_artifacts(run.info.run_id, "replicates.csv", str(tmp_path))
        with Path(path).open() as file:
            rows = list(csv.DictReader(file))
        curves = {
            (str(r.number + 1), str(r.seed), str(m["epoch"])): str(m["val_accuracy"])
            for r in trial.replicates
            for m in r.curve
        }
        told = {(row["replicate"], row["seed"], row["epoch"]): row["val_accuracy"] for row in rows}
        assert told == curves
    parent = matching(store, "")[in_mlflow.PARENT]
    assert len(parent.data.metrics) <= 25


def test_curves_of_seeds_are_written_as_each_ends(synthetic: Callable[..., Study]) -> None:
    """While a study is driven, not with each epoch; without a driver, with all that there is."""
    study = synthetic(trials=1, replicates=3)
    seen: dict[bool, list[tuple[str, list[str]]]] = {True: [], False: []}
    for index in range(3):
        assignment = study.next()
        assert assignment is not None
        study.start(assignment, "here:1")
        for epoch in (1.0, 2.0):
            study.report(0, index, {"epoch": epoch, "val_accuracy": 0.5})
            for live, told in seen.items() if index else ():
                run = projection.trial_run(study.trials[0], Snapshot.of(study, live=live), "above")
                rows = str(run.files["replicates.csv"]()).splitlines()[1:]
                told.append((run.filed, [row.split(",")[0] for row in rows]))
        study.end(0, index, Ending("finished", ""))
    live, left = seen[True], seen[False]
    assert [rows for _, rows in live] == [["1"] * 2] * 2 + [["1"] * 2 + ["2"] * 2] * 2
    assert len({filed for filed, _ in live}) == 2
    assert [rows.count("3") for _, rows in left] == [0, 0, 1, 2]
    assert len({filed for filed, _ in left}) == 4


def files(folder: Path) -> dict[str, str]:
    """Every file below a folder of a study, with its digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def everything(uri: str) -> dict[str, Any]:
    """Experiments with their tags and runs, as a store holds them; deleted ones too."""
    from mlflow.entities import ViewType

    client = in_mlflow._client(uri)
    return {
        found.name: (
            found.tags,
            sorted(
                json.dumps(run.to_dictionary(), sort_keys=True)
                for run in client.search_runs([found.experiment_id], "", ViewType.ALL)
            ),
        )
        for found in client.search_experiments(ViewType.ALL)
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three studies of one folder of which two are in its store, and what is no study."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    results = Path(__file__).parents[2] / "benchmarks" / "results"
    runs = tmp_path / "runs"
    for name in ("cifar10-laptop", "cifar10-rules"):
        shutil.copytree(results / name, runs / name)
        launch.sync(runs / name, say=pytest.fail)
    shutil.copytree(results / "cifar10-rules-longer", runs / "left-out")
    (runs / "damaged").mkdir()
    (runs / "damaged" / "journal.jsonl").write_text("no journal\n")
    (runs / "notes.txt").write_text("no study")
    return runs


@pytest.mark.slow
def test_ui_prints_the_links_of_every_study_and_changes_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A set of links a study of the folder; what has no page is said, and stays as it was.

    Runs that are there twice are left to `sync`; no study, run or experiment is touched.
    """
    store = f"sqlite:///{folder / 'mlflow.db'}"
    client = in_mlflow._client(store)
    found = client.get_experiment_by_name("cifar10-laptop")
    twice = {"eca.study": launch.load(folder / "cifar10-laptop").uuid, "eca.trial": "1"}
    client.create_run(found.experiment_id, 0, twice, "lost")
    before, stored = files(folder), everything(store)
    monkeypatch.setattr(ui.os, "execv", lambda *arguments: None)  # which would not come back
    monkeypatch.setattr(ui.os, "environ", dict(ui.os.environ))
    assert main(["ui", str(folder), "--port", "5017"]) == 0
    out, err = capsys.readouterr()
    head, *lines = out.splitlines()
    assert head.startswith("MLflow at http://127.0.0.1:5017 ")
    assert [line for line in lines if not line.startswith(" ")] == [
        "cifar10-laptop",
        "cifar10-rules",
    ]
    assert [line.split()[0] for line in lines if line.startswith(" ")] == NAMES * 2
    for line in lines[1:6]:
        assert f" http://127.0.0.1:5017/#/experiments/{found.experiment_id}/runs?" in line
    missing = launch.load(folder / "left-out").name
    assert f"{missing}: not there yet; eca-search sync {folder / 'left-out'} writes it" in err
    assert str(folder / "damaged") in err
    assert everything(store) == stored
    ignored = {"mlflow.db", "mlflow.db-journal"}  # its rows are compared above
    after = files(folder)
    assert {k: v for k, v in after.items() if k not in ignored} == {
        k: v for k, v in before.items() if k not in ignored
    }
    assert main(["ui", str(folder / "cifar10-rules"), "--port", "5017"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES


def test_ui_of_a_server_that_is_away_says_so_once(
    synthetic: Callable[..., Study], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However many studies it has; a password is not printed."""
    driven(synthetic(trials=1)).close()
    shutil.copytree(tmp_path / "runs" / "synthetic", tmp_path / "runs" / "twin")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://somebody:secret@127.0.0.1:{port}"
    assert main(["ui", str(tmp_path / "runs"), "--tracking-uri", uri]) == 0
    out, err = capsys.readouterr()
    assert "the runs are on a server already" in out
    assert err.count("nobody listens there: start it") == 1
    assert "secret" not in out + err
