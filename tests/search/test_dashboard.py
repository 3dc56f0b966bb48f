"""Optuna's own view of a study: its plots, and the journal that optuna-dashboard reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import search
from search import cli
from search.study.study import Study

LAPTOP = Path(__file__).parents[2] / "benchmarks" / "results" / "cifar10-laptop"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A real search: 17 trials finished, 15 pruned, 17 duplicates."""
    return search.load(shutil.copytree(LAPTOP, tmp_path / "study"))


def loaded(file: Path) -> optuna.Study:
    """The study in an Optuna journal."""
    return optuna.load_study(
        study_name="cifar10-laptop", storage=JournalStorage(JournalFileBackend(str(file)))
    )


def test_the_log_is_the_study(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    """Count, states, parameters and values are those of the study rebuilt from the journal."""
    assert cli.main(["sync", str(study.folder), "--optuna-log"]) == 0
    assert "optuna-dashboard" in capsys.readouterr().out
    copy = loaded(study.folder / "optuna.log")
    assert copy.directions == study.optuna.directions
    assert copy.metric_names == ["val_accuracy", "params", "macs"]
    ours, theirs = study.optuna.trials, copy.trials
    assert [t.state for t in theirs] == [t.state for t in ours]
    assert [t.params for t in theirs] == [t.params for t in ours]
    complete = [t.values for t in ours if t.state == TrialState.COMPLETE]
    assert [t.values for t in theirs if t.state == TrialState.COMPLETE] == complete
    states = [t.state for t in theirs]
    assert (len(states), states.count(TrialState.COMPLETE)) == (49, len(complete))
    assert TrialState.PRUNED in states


def test_each_proposal_says_which_network_it_is(study: Study) -> None:
    """A duplicate names the trial that answered it."""
    cli.main(["sync", str(study.folder), "--optuna-log"])
    named = [t.user_attrs["trial"] for t in loaded(study.folder / "optuna.log").trials]
    assert sorted(set(named)) == list(range(32))
    assert len(named) == 49
    best = study.pareto()[-1]
    (mine,) = {
        t.user_attrs["network"]
        for t in loaded(study.folder / "optuna.log").trials
        if t.user_attrs["trial"] == best.number
    }
    assert mine == best.label


def test_it_is_written_anew(study: Study) -> None:
    """Twice is once: nothing is appended, and MLflow is left alone."""
    seen = []
    for _ in range(2):
        assert cli.main(["sync", str(study.folder), "--optuna-log"]) == 0
        trials = loaded(study.folder / "optuna.log").trials
        seen.append([(t.state, t.params, t.values, t.user_attrs) for t in trials])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 49
    both = ["sync", str(study.folder), "--optuna-log", "--tracking-uri", "sqlite:///x.db"]
    assert cli.main(both) == 2
    assert not (study.folder.parent / "mlflow.db").exists()


def test_a_trial_that_failed_has_failed_there(
    tmp_path: Path, write_space: Callable[..., Path]
) -> None:
    """FAIL, with the word for how it ended."""
    attention = "{choice: [{name: none}, {name: faulty, fault: raise, after: 1}]}"
    each = "sampler: {name: BruteForceSampler}"
    path = write_space(trials=2, epochs=2, width="0.25", attention=attention, search=each)
    plugin = Path(__file__).parents[1] / "plugins" / "faulty.py"
    broken = search.run(path, out=tmp_path / "runs", plugins=[plugin])
    cli.main(["sync", str(broken.folder), "--optuna-log"])
    storage = JournalStorage(JournalFileBackend(str(broken.folder / "optuna.log")))
    copy = optuna.load_study(study_name="small", storage=storage)
    failed = {trial.number for trial in broken.trials if trial.failed}
    told = {t.user_attrs["trial"] for t in copy.trials if t.state == TrialState.FAIL}
    assert told == failed
    assert failed


def test_optuna_s_own_plots_work(study: Study) -> None:
    """On the study rebuilt from the journal, as `search.load(DIR).optuna`."""
    rebuilt = study.optuna

    def accuracy(trial: optuna.trial.FrozenTrial) -> float:
        return float(trial.values[0])

    plots = optuna.visualization
    figures = [
        plots.plot_pareto_front(rebuilt, targets=lambda t: (t.values[0], t.values[2])),
        plots.plot_optimization_history(rebuilt, target=accuracy),
        plots.plot_param_importances(rebuilt, target=accuracy),
        plots.plot_parallel_coordinate(rebuilt, target=accuracy),
    ]
    assert all(figure.data for figure in figures)
    named = plots.plot_pareto_front(search.load(LAPTOP).optuna).layout.scene
    axes = [named.xaxis.title.text, named.yaxis.title.text, named.zaxis.title.text]
    assert axes == ["val_accuracy", "params", "macs"]
