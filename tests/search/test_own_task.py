"""A task of one's own, judged by a metric of its own, from the search to the confirmation.

What is written for accuracy would show here: this metric is no accuracy, by name or by value.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

import search
from search import cli, text
from search.front import pareto
from search.front.picture import axis_name
from search.sampling.pareto_sampler import Choosing
from search.store import default_uri
from search.study.study import Study

PLUGIN = Path(__file__).parents[1] / "plugins" / "recalled.py"
SPACE = """\
name: own
task: {name: recalled, floor: {choice: [0.0, 0.05], default: 0.0}}
dataset: {name: digits, subset: 300, val: 0.2}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5], default: 0.25}}
attention: {choice: [{name: none}, {name: eca}], default: eca}
training: {epochs: 2, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
search:
  trials: 3
  executor: inprocess
  pruner: {name: MedianPruner}
  baselines: [{attention: {name: none}}, {attention: {name: eca}}]
"""
Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Path:
    """Where a search of that task lies, recorded in MLflow."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.yaml").write_text(SPACE)
    (folder / "runs").mkdir()
    shutil.copy(migrated, folder / "runs" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["run", "own.yaml", "--plugin", str(PLUGIN)]) == 0
    return folder


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line there: its exit code, stdout and stderr."""
    monkeypatch.chdir(folder)

    def run(*args: str) -> tuple[int, str, str]:
        code = cli.main(list(args))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def study(folder: Path) -> Study:
    """The search, read back from its journal."""
    return search.load(folder / "runs" / "own")


def test_the_front_is_by_its_metric(study: Study, run: Run) -> None:
    """Values, reports, best and hypervolume, which grows from what guessing scores by it."""
    assert study.judged == "val_recall"
    assert study.origins.items() >= {"val_recall": 0.1, **study.reference}.items()
    for trial in study.trials:
        for epoch in trial.replicates[0].curve:
            assert {"val_recall", "train_recall", "best_val_recall", "val_accuracy"} <= set(epoch)
            assert "best_val_accuracy" not in epoch
    by_hand = pareto.study_hypervolume(
        study.trials, study.objectives, chance=0.0, reference={"val_recall": 0.1, **study.reference}
    )
    assert study.hypervolume() == by_hand
    code, out, _ = run("pareto", "runs/own", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["objectives"] == {"val_recall": "max", "params": "min", "macs": "min"}
    assert told["hypervolume"] == by_hand
    assert "(from recall 0.1, params" in text.worth(study)


def test_the_sampler_s_gain_begins_there_too(study: Study) -> None:
    """What ParetoSampler expects to add is measured as the study measures it."""
    choosing = Choosing(study.space, lambda values: None)
    assert choosing.choose(study.history, ()) is None
    ours = {axis.name: axis.origin for axis in choosing._lessons.axes}
    theirs = pareto.axes(study.objectives, study.chance, study.origins)
    assert ours == {axis.name: axis.origin for axis in theirs}
    assert ours["val_recall"] == -0.1


def test_mlflow_has_it_under_its_name(study: Study) -> None:
    """`final_val_recall` where a trial finished, `final_val_accuracy` nowhere."""
    client = MlflowClient(default_uri(study.folder.parent))
    experiment = client.get_experiment_by_name("own")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    values = [r.data.metrics["final_val_recall"] for r in runs if "n" in r.data.metrics]
    assert len(values) == study.outcomes()["finished"]
    assert sorted(values) == sorted(
        pareto.measured(trial)["val_recall"] for trial in study.trials if trial.objectives
    )
    assert not any("final_val_accuracy" in run.data.metrics for run in runs)


def test_nothing_says_accuracy(study: Study, run: Run) -> None:
    """Neither report nor warning nor card nor axis speak of what is not judged by."""
    code, _, err = run("report", "runs/own", "--paper")
    assert code == 0, err
    page = (study.folder / "report" / "report.html").read_text()
    assert "validation recall" in page
    assert "ccurac" not in page
    methods = (study.folder / "report" / "paper" / "methods.tex").read_text()
    assert "a recall of 0.1" in methods
    assert "ccurac" not in methods
    assert axis_name("val_recall") == "validation recall"


def test_arms_are_compared_by_it(run: Run) -> None:
    """In points, with a sentence on each pair, and by the same of its noise."""
    arms = ("--arm", "eca=attention=eca", "--arm", "none=attention=none")
    wanted = ("--replicates", "2", "--anyway", "training.epochs=1", "--plugin", str(PLUGIN))
    code, out, err = run("compare", "own.yaml", *arms, *wanted)
    assert code == 0, err
    assert "own-compare: val_recall by arm" in out
    assert "differences in points (0.01 of recall)" in out
    loss = ("compare", "own.yaml", *arms, *wanted, "search.objectives={val_loss: min}", "--plan")
    code, _, err = run(*loss)
    assert code == 2
    assert "one before any other objective, of val_recall, val_accuracy" in err


def test_it_is_confirmed_by_test_images(run: Run) -> None:
    """Under its name there, with what the search had promised too much, in points."""
    code, out, err = run("confirm", "runs/own", "--replicates", "2", "training.epochs=1")
    assert code == 0, err
    assert "search: val_recall" in out
    assert "confirmed: test_recall" in out
    assert "points" in out


def test_an_export_says_what_it_is_worth(study: Study, run: Run) -> None:
    """The card's heading and figures are of recall."""
    best = text.best(study)
    assert best is not None
    code, out, err = run("export", "runs/own", str(best.number))
    assert code == 0, out + err
    (readme,) = (study.folder / "exports").glob("*/README.md")
    said = readme.read_text()
    assert "## Recall" in said
    assert f"their validation recall: {best.replicates[0].curve[-1]['val_recall']:.4f}" in said
