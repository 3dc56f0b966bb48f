"""MLflow after a real search: what it shows is what the journal says."""

from __future__ import annotations

from pathlib import Path

import pytest

import search
from search import store
from search.tracking import following, in_mlflow


def test_mlflow_tells_the_journals_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real digits networks: accuracies, costs, front and volume agree; `sync` then adds nothing."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    overrides = ["search.trials=3", "training.epochs=1", "dataset.subset=400"]
    study = search.run("digits", out=tmp_path, overrides=overrides, executor="inprocess")

    client = in_mlflow._client(store.default_uri(tmp_path))
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = {
        int(run.data.tags.get("eca.trial", in_mlflow.PARENT)): run
        for run in client.search_runs([experiment.experiment_id])
    }
    for trial in study.trials:
        shown = runs[trial.number].data
        assert trial.objectives is not None
        assert shown.metrics["final_val_accuracy"] == trial.objectives["val_accuracy"]
        assert shown.metrics["macs"] == trial.costs["macs"]
        assert shown.metrics["n_params"] == trial.costs["params"]
    members = {number for number, run in runs.items() if run.data.tags.get("eca.front") == "1"}
    assert members == {trial.number for trial in study.pareto()}
    parent = runs.pop(in_mlflow.PARENT)
    assert sorted(runs) == [0, 1, 2]
    # The same boxes, summed in another order.
    assert parent.data.metrics["hypervolume"] == pytest.approx(study.hypervolume(), rel=1e-12)

    before = {run.info.run_id: run.to_dictionary() for run in client.search_runs(["1"])}
    following.Tracking(
        store.default_uri(tmp_path), "digits", search.load(study.folder), say=pytest.fail
    ).project(search.load(study.folder))
    assert {run.info.run_id: run.to_dictionary() for run in client.search_runs(["1"])} == before
