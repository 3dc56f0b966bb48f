"""MLflow as a projection: what a person sees there; written twice, or after a kill, the same."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.front import pareto, tables
from search.front.membership import membership
from search.store import default_uri
from search.tracking import following, in_mlflow
from search.tracking.away import TrackingError
from search.tracking.following import Tracking
from search.trial import Attempt, Replicate, Trial
from spaces.settings import Compare, Objective

START = 1_760_000_000.0
CONFIG = {
    "name": "digits",
    "dataset": {"name": "digits"},
    "backbone": {"name": "resnet", "depth": 8, "width": 0.5},
    "attention": {"name": "eca"},
    "training": {
        "epochs": 3,
        "batch_size": 64,
        "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 5e-4},
    },
}
COST = Objective(goal="min", tolerance=0.01)


@dataclasses.dataclass(frozen=True)
class Example:
    """The facts of a study that tracking reads, without a journal."""

    folder: Path
    trials: tuple[Trial, ...]
    ended: str | None = "4 of 4 trials"
    expected: int = 4
    name: str = "digits"
    uuid: str = "5d1f0c7e0b7e4b4b9a36ed0b1d2f7c11"
    chance: float = 0.1
    started: float = START
    updated: float = START + 100
    done: bool = False
    objectives: dict[str, Objective] = dataclasses.field(
        default_factory=lambda: {
            "val_accuracy": Objective(goal="max"),
            "params": COST,
            "macs": COST,
        }
    )
    reference: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"params": 1e5, "macs": 1e7}
    )
    space: Any = dataclasses.field(
        default_factory=lambda: SimpleNamespace(
            arms=None,
            search=SimpleNamespace(
                confirms=None, seed=0, replicates=1, compare=Compare(), pruner=None
            ),
            to_yaml=lambda: "# Question: does it\n#           pay?\n# Cost: little\nname: digits\n",
        )
    )

    @property
    def history(self) -> Any:
        """What the journal's first record says."""
        versions = {"eca-search": "0.1.0", "python": "3.11", "torch": "2.14"}
        return SimpleNamespace(ended=self.ended, study={"versions": versions}, total=4)

    @property
    def judged(self) -> str | None:
        """As `Study.judged`."""
        return pareto.judged(self.objectives)

    @property
    def origins(self) -> dict[str, float]:
        """As `Study.origins`."""
        return {"val_accuracy": self.chance, **self.reference}

    def rising(self, metric: str | None = None) -> bool:
        """As `Study.rising`."""
        name = metric or self.judged
        return name is not None and self.objectives[name].goal == "max"

    def counts(self, *, driven: bool = True) -> dict[str, int]:
        """As `Study.counts`."""
        free = {"infeasible": 3, "duplicate": 2, "invalid": 0, "preempted": 0}
        return {"running": 0, "waiting": 0, **free}

    def outcomes(self) -> dict[str, int]:
        """As `Study.outcomes`."""
        return tables.outcomes(self.trials)

    def membership(self) -> dict[int, float] | None:
        """As `Study.membership`."""
        return membership(self.trials, self.objectives)

    def pareto(self) -> list[Trial]:
        """As `Study.pareto`."""
        return pareto.front(self.trials, self.objectives)

    def hypervolume(self) -> float:
        """As `Study.hypervolume`."""
        return pareto.study_hypervolume(self.trials, self.objectives, self.chance, self.origins)

    def with_trials(self, *trials: Trial, ended: str | None = None) -> Example:
        """The same study at another moment."""
        return dataclasses.replace(self, trials=trials, ended=ended)


def replicate(number: int, accuracies: list[float], outcome: str | None, begun: float) -> Replicate:
    curve = tuple(
        {"epoch": float(epoch), "val_accuracy": accuracy, "train_loss": 1 / epoch, "seconds": 2.0}
        for epoch, accuracy in enumerate(accuracies, start=1)
    )
    ended = None if outcome is None else begun + 2.0 * len(curve)
    attempt = Attempt(1, begun, ended, outcome, "", "node:17")
    return Replicate(number, 11 + number, f"key-r{number}", curve, (attempt,), outcome)


def trial(
    number: int,
    outcome: str | None = "finished",
    accuracies: tuple[float, ...] = (0.5, 0.7, 0.8),
    params: float = 2e4,
    **more: Any,
) -> Trial:
    begun = START + 10 * number
    finished = outcome == "finished"
    facts: dict[str, Any] = {
        "values": {"backbone.width": 0.5, "attention": "eca", "attention.eca.mapping.gamma": 2},
        "config": {**CONFIG, "name": f"digits-{number}"},
        "label": "w0.5 eca s1,2,3 k3-3-5",
        "identity": f"net{number}",
        "key": f"key{number}",
        "costs": {"params": params, "macs": 100 * params},
        "kernels": {"stage1.block1": 3, "stage2.block1": 3, "stage3.block1": 5},
        "placement": "stages 1, 2, 3",
        "replicates": (replicate(0, list(accuracies), outcome, begun),),
        "outcome": outcome,
        "objectives": {"val_accuracy": accuracies[-1], "params": params, "macs": 100 * params}
        if finished
        else None,
        "started": begun,
        "ended": None if outcome is None else begun + 7,
    }
    return Trial(number=number, **{**facts, **more})


def four(folder: Path) -> Example:
    """A finished study: two networks on the front, one dominated, one pruned."""
    return Example(
        folder,
        (
            trial(0, accuracies=(0.5, 0.8, 0.9), params=5e4),
            trial(1, accuracies=(0.4, 0.6, 0.7), params=2e4),
            trial(2, accuracies=(0.2, 0.3, 0.6), params=4e4),
            trial(3, "pruned", accuracies=(0.1,), reason="behind its peers"),
        ),
    )


def runs_of(uri: str, name: str | None = None) -> dict[str, Any]:
    """Every active run by name (it must be unique) with all that was written into it.

    Of the one experiment of that name, or of all.
    """
    client = in_mlflow._client(uri)
    found: dict[str, Any] = {}
    for experiment in client.search_experiments():
        if name not in (None, experiment.name):
            continue
        for run in client.search_runs([experiment.experiment_id]):
            points = sorted(
                (metric.key, metric.step, metric.value, metric.timestamp)
                for key in run.data.metrics
                for metric in client.get_metric_history(run.info.run_id, key)
            )
            tags = dict(run.data.tags)
            tags.pop("mlflow.parentRunId", None)  # an id of this very store
            tags["mlflow.note.content"] = tags.get("mlflow.note.content", "").split("](")[0]
            assert run.info.run_name not in found
            found[run.info.run_name] = {
                "experiment": experiment.name if name is None else None,
                "status": run.info.status,
                "start": run.info.start_time,
                "end": run.info.end_time,
                "tags": tags,
                "params": run.data.params,
                "points": points,
                "artifacts": sorted(f.path for f in client.list_artifacts(run.info.run_id)),
                "inputs": [i.dataset.name for i in run.inputs.dataset_inputs],
            }
    for run in found.values():  # the digest covers the parent's id
        run["tags"]["eca.digest"] = bool(run["tags"].get("eca.digest"))
    return found


def projected(uri: str, study: Example, say: Any = None) -> dict[str, Any]:
    Tracking(uri, "digits", study, say=say or pytest.fail).project(study)  # type: ignore[arg-type]
    return runs_of(uri)


NAMES = [f"#{number:03d} w0.5 eca s1,2,3 k3-3-5" for number in range(4)]


def test_a_study_is_one_parent_and_a_run_per_trial(store: str, tmp_path: Path) -> None:
    """The experiment holds the study's run and its trials' runs, named as DESIGN.md spells them."""
    runs = projected(store, four(tmp_path))
    assert sorted(runs) == sorted([*NAMES, "digits"])
    assert {run["experiment"] for run in runs.values()} == {"digits"}


def test_a_finished_trial_shows_its_network_and_its_result(store: str, tmp_path: Path) -> None:
    """Tags, params, curve, final values, costs, times, dataset and config of a finished trial."""
    run = projected(store, four(tmp_path))[NAMES[0]]
    wanted = {
        "eca.study": four(tmp_path).uuid,
        "eca.trial": "0",
        "eca.outcome": "finished",
        "eca.identity": "net0",
        "eca.kernels": "stage1=3 stage2=3 stage3=5",
        "eca.placement": "stages 1, 2, 3",
        "eca.front": "1",
        "eca.version": "0.1.0",
    }
    assert wanted.items() <= run["tags"].items()
    assert run["params"] == {
        "backbone.width": "0.5",
        "attention": "eca",
        "attention.eca.mapping.gamma": "2",
    }
    last = {key: (step, value) for key, step, value, _ in run["points"]}
    assert last["val_accuracy"] == (3, 0.9)
    assert last["train_loss"] == (3, pytest.approx(1 / 3))
    assert last["final_val_accuracy"] == (0, 0.9)
    assert last["n"] == (0, 1.0)
    assert last["n_params"] == (0, 5e4)
    assert last["macs"] == (0, 5e6)
    assert last["flops"] == (0, 1e7)  # 1 MAC = 2 FLOPs
    assert "final_val_accuracy_sd" not in last
    assert (run["status"], run["start"], run["end"]) == (
        "FINISHED",
        round(START * 1000),
        round((START + 7) * 1000),
    )
    assert run["artifacts"] == ["config.yaml"]
    assert run["inputs"] == ["digits"]


def test_curves_lie_where_their_epochs_ended(store: str, tmp_path: Path) -> None:
    """An epoch's point stands where its seconds end, and there is one point an epoch."""
    run = projected(store, four(tmp_path))[NAMES[1]]
    begun = round((START + 10) * 1000)
    curve = [(step, time) for key, step, _, time in run["points"] if key == "val_accuracy"]
    assert curve == [(1, begun + 2000), (2, begun + 4000), (3, begun + 6000)]


def test_a_stopped_trial_has_no_final_values(store: str, tmp_path: Path) -> None:
    """A pruned trial keeps its curve, but its last accuracy is in no scatter of results."""
    run = projected(store, four(tmp_path))[NAMES[3]]
    keys = {key for key, *_ in run["points"]}
    assert "val_accuracy" in keys
    assert not {"final_val_accuracy", "n"} & keys
    assert run["tags"]["eca.outcome"] == "pruned"
    assert run["tags"]["eca.reason"] == "behind its peers"
    assert "eca.front" not in run["tags"]


def test_the_parent_tells_the_study(store: str, tmp_path: Path) -> None:
    """Question, front, counts, hypervolume over finished trials, environment and files."""
    study = four(tmp_path)
    client = in_mlflow._client(store)
    Tracking(store, "digits", study).project(study)  # type: ignore[arg-type]
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'digits'")
    note = parent.data.tags["mlflow.note.content"]
    assert "**does it pay?**" in note
    assert "| 0.9000 | 50,000 | 5,000,000 | 1 | stage1=3 stage2=3 stage3=5 |" in note
    assert "3 finished, 1 pruned, 3 infeasible, 2 duplicate" in note
    assert parent.data.tags["eca.env.torch"] == "2.14"
    assert parent.data.metrics["trials_pruned"] == 1
    volumes = client.get_metric_history(parent.info.run_id, "hypervolume")
    assert [point.step for point in volumes] == [1, 2, 3]
    assert volumes[-1].value == pytest.approx(study.hypervolume())
    names = [file.path for file in client.list_artifacts(parent.info.run_id)]
    assert names == [
        "front.csv",
        "front.md",
        "pareto.html",
        "pareto.png",
        "report.html",
        "space.yaml",
    ]
    children = client.search_runs(
        [experiment.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    assert len(children) == 4
    for child in children:
        if "eca.front" in child.data.tags:
            assert f"/runs/{child.info.run_id})" in note


def test_config_and_dataset_can_be_used_again(store: str, tmp_path: Path) -> None:
    """The artifact `config.yaml` loads as the very config that was trained."""
    import spaces

    study = four(tmp_path)
    Tracking(store, "digits", study).project(study)  # type: ignore[arg-type]
    client = in_mlflow._client(store)
    (run,) = client.search_runs(["1"], "tags.`eca.trial` = '2'")
    path = client.download_artifacts(run.info.run_id, "config.yaml", str(tmp_path))
    space = spaces.load(path)
    assert space.at({}) == spaces.Config.model_validate(study.trials[2].config)


def test_projecting_twice_adds_nothing(store: str, tmp_path: Path) -> None:
    """The second time not one writing call is made, and the store's every point is as before."""
    study = four(tmp_path)
    once = projected(store, study)
    with Faults(10**9) as calls:
        again = projected(store, study)
    assert again == once
    assert [name for name in calls if not name.startswith(("get_", "search_", "list_"))] == []


def test_a_trial_costs_few_requests(store: str, tmp_path: Path) -> None:
    """A trial that is written once is four requests, on the front or not; MLflow's are dear."""
    study = four(tmp_path)
    with Faults(10**9) as calls:
        following = Tracking(store, "digits", study.with_trials(), say=pytest.fail)  # type: ignore[arg-type]
        following._attempt(following._update)  # the study's own run
        calls.clear()
        for done in study.trials:
            following._changed[done.number] = done
            following._attempt(following._update)
    once = ["create_run", "log_inputs", "log_batch", "set_terminated"]
    assert calls[:4] == once
    left = ["set_tag", "delete_tag"]  # a colour, and the tag of those that left the front
    assert [call for call in calls if call not in left] == once * 4


@pytest.mark.parametrize("outcome", ["crashed", "oom", "timeout"])
def test_a_failed_trial_brings_its_log(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """`failure.txt` holds reason, traceback and the end of the attempt's log, without secrets."""
    from search.study import logs

    monkeypatch.setenv("MY_API_TOKEN", "canary-of-the-environment")
    reason = "RuntimeError: no way with canary-of-the-environment"
    first = replicate(0, [0.5], outcome, START)
    (attempt,) = first.attempts
    attempt = dataclasses.replace(attempt, reason=reason, detail=f"Traceback (most):\n{reason}")
    failed = trial(
        3,
        outcome,
        replicates=(dataclasses.replace(first, attempts=(attempt,)),),
        reason=reason,
    )
    log = logs.path(tmp_path, 3, 0, 1)
    log.parent.mkdir()
    log.write_text("x" * 50_000 + "\nlast words, password=canary-of-the-log\n")
    running = dataclasses.replace(failed, outcome=None)
    projected(store, four(tmp_path).with_trials(running))
    run = projected(store, four(tmp_path).with_trials(failed))[NAMES[3]]
    assert run["artifacts"] == ["config.yaml", "failure.txt"]
    assert run["tags"]["eca.outcome"] == outcome
    assert run["tags"]["eca.reason"] == "RuntimeError: no way with [redacted]"
    (path,) = tmp_path.glob("mlartifacts/*/artifacts/failure.txt")
    told = path.read_text()
    for part in (f"{NAMES[3]}: {outcome}", "Traceback (most)", "last words", str(log)):
        assert part in told
    assert len(told) < 20_000
    for file in tmp_path.rglob("*"):
        if file.is_file() and file != log:
            assert b"canary-of" not in file.read_bytes(), file


def test_a_failed_trial_without_a_log(store: str, tmp_path: Path) -> None:
    """A log that was never written, or is gone, costs nothing but itself."""
    run = projected(store, four(tmp_path).with_trials(trial(0, "crashed")))[NAMES[0]]
    assert run["artifacts"] == ["config.yaml", "failure.txt"]


class Faults:
    """Counts the calls of MLflow's client, and kills the driver once so many are done.

    Used by `with`, which gives the list of the calls made.
    """

    def __init__(self, calls: int) -> None:
        self.left = calls
        self.calls: list[str] = []

    def __enter__(self) -> list[str]:
        self.original = in_mlflow._client
        in_mlflow._client = lambda uri: _Faulty(self.original(uri), self)  # type: ignore[assignment,return-value]
        return self.calls

    def __exit__(self, *_: object) -> None:
        in_mlflow._client = self.original


class _Faulty:
    def __init__(self, client: Any, plan: Faults) -> None:
        self._client = client
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            result = getattr(self._client, name)(*args, **more)
            self._plan.calls.append(name)
            self._plan.left -= 1
            if self._plan.left == 0:
                raise KeyboardInterrupt("killed")
            return result

        return call


def test_a_kill_at_any_call_is_made_good(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever call was the last of a driver, the next projection gives the undisturbed store."""
    # Drawing has its own tests; here it would be drawn a hundred times.
    monkeypatch.setattr(following, "_figures", lambda snapshot: {"front.md": lambda: "drawn"})
    study = four(tmp_path).with_trials(trial(0), trial(1, "pruned", (0.1,)), ended="all")

    def drive(experiment: str) -> None:
        driven = Tracking(store, experiment, study, say=pytest.fail)  # type: ignore[arg-type]
        for state in (trial(0, None, (0.5,)), *study.trials):
            driven._changed[state.number] = state
            driven._attempt(driven._update)
        project(experiment)

    def project(experiment: str) -> None:
        Tracking(store, experiment, study, say=pytest.fail).project(study)  # type: ignore[arg-type]

    with Faults(10**9) as calls:
        drive("whole")
    undisturbed = runs_of(store, "whole")
    assert len(calls) > 15
    for number, call in enumerate(calls, start=1):
        experiment = f"killed in call {number}"
        with Faults(number), pytest.raises(KeyboardInterrupt):
            drive(experiment)
        project(experiment)
        assert runs_of(store, experiment) == undisturbed, call


def test_a_trial_that_leaves_the_front_loses_its_tag(store: str, tmp_path: Path) -> None:
    """`eca.front` is on the members and on nobody else, whenever one looks."""
    study = four(tmp_path)
    projected(store, study)
    better = trial(4, accuracies=(0.5, 0.8, 0.95), params=1.9e4)
    runs = projected(store, study.with_trials(*study.trials, better))
    members = [name for name, run in runs.items() if run["tags"].get("eca.front") == "1"]
    assert members == ["#004 w0.5 eca s1,2,3 k3-3-5"]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("finished", "FINISHED"),
        ("pruned", "FINISHED"),
        ("diverged", "FAILED"),
        ("oom", "FAILED"),
        ("crashed", "FAILED"),
        ("timeout", "FAILED"),
        ("invalid", "FAILED"),
        ("bad_report", "FAILED"),
        ("preempted", "KILLED"),
        (None, "KILLED"),  # nobody drives the study any more
    ],
)
def test_statuses_in_mlflows_words(
    store: str, tmp_path: Path, outcome: str | None, status: str
) -> None:
    """Pruned is FINISHED, failures FAILED, what was cut off KILLED; nothing stays RUNNING."""
    study = four(tmp_path).with_trials(trial(0, outcome))
    runs = projected(store, study)
    assert runs[NAMES[0]]["status"] == status
    assert runs[NAMES[0]]["tags"]["eca.outcome"] == (outcome or "interrupted")
    assert runs["digits"]["status"] == "KILLED"  # it was not said to be over


def test_a_waiting_trial_has_no_run_yet(store: str, tmp_path: Path) -> None:
    """Only what was started can be looked at."""
    waiting = trial(0, None, replicates=(), started=None)
    assert list(projected(store, four(tmp_path).with_trials(waiting))) == ["digits"]


def test_a_resumed_trial_goes_on_in_its_own_run(store: str, tmp_path: Path) -> None:
    """Interrupted at epoch 2 and finished later: one run, every epoch once, FINISHED."""
    study = four(tmp_path)
    cut = trial(0, None, accuracies=(0.5, 0.8))
    assert projected(store, study.with_trials(cut))[NAMES[0]]["status"] == "KILLED"
    runs = projected(store, study.with_trials(trial(0, accuracies=(0.5, 0.8, 0.9)), ended="all"))
    steps = [step for key, step, *_ in runs[NAMES[0]]["points"] if key == "val_accuracy"]
    assert steps == [1, 2, 3]
    assert runs[NAMES[0]]["status"] == "FINISHED"
    assert runs["digits"]["status"] == "FINISHED"


def test_another_recipe_begins_anew(store: str, tmp_path: Path) -> None:
    """A trial whose batch had to be cut trains from its first epoch again: no point is doubled."""
    study = four(tmp_path)
    projected(store, study.with_trials(trial(0, None, accuracies=(0.5, 0.6))))
    again = trial(0, None, accuracies=(0.4,), accumulate=2)
    run = projected(store, study.with_trials(again))[NAMES[0]]
    assert run["tags"]["eca.accumulate"] == "2"
    assert [p[1:3] for p in run["points"] if p[0] == "val_accuracy"] == [(1, 0.4)]
    done = projected(store, study.with_trials(trial(0, accuracies=(0.4, 0.7, 0.8), accumulate=2)))[
        NAMES[0]
    ]
    assert [p[1] for p in done["points"] if p[0] == "val_accuracy"] == [1, 2, 3]


def test_replicates_share_their_trials_run(store: str, tmp_path: Path) -> None:
    """The first replicate's curves, the result of each, the mean and its spread."""
    seeds = tuple(
        replicate(number, [0.5, 0.8 + number / 10], "finished", START + 10 * number)
        for number in range(2)
    )
    averaged = trial(
        0,
        replicates=seeds,
        objectives={"val_accuracy": 0.85},
        spread={"val_accuracy": 0.07},
    )
    run = projected(store, four(tmp_path).with_trials(averaged))[NAMES[0]]
    last = {key: value for key, _, value, _ in run["points"]}
    assert last["val_accuracy"] == 0.8
    each = [point[1:3] for point in run["points"] if point[0] == "replicate_val_accuracy"]
    assert each == [(1, 0.8), (2, 0.9)]
    assert run["artifacts"] == ["config.yaml", "replicates.csv"]
    assert (last["final_val_accuracy"], last["final_val_accuracy_sd"], last["n"]) == (0.85, 0.07, 2)


def test_a_further_replicate_changes_the_final_value(store: str, tmp_path: Path) -> None:
    """A value that changed is told by a later point, so that the newest is what MLflow shows."""
    study = four(tmp_path)
    projected(store, study.with_trials(trial(0)))
    lower = trial(0, objectives={"val_accuracy": 0.75})  # the same moment, another mean
    projected(store, study.with_trials(lower))
    client = in_mlflow._client(store)
    (run,) = client.search_runs(["1"], "tags.`eca.trial` = '0'")
    assert run.data.metrics["final_val_accuracy"] == 0.75


def test_infinity_never_reaches_a_chart(store: str, tmp_path: Path) -> None:
    """Values that are not finite are left out: MLflow stores infinity as 1.8e308."""
    wild = dataclasses.replace(
        replicate(0, [0.5], "diverged", START),
        curve=({"epoch": 1.0, "train_loss": float("inf"), "val_accuracy": float("nan")},),
    )
    run = projected(store, four(tmp_path).with_trials(trial(0, "diverged", replicates=(wild,))))
    assert {key for key, *_ in run[NAMES[0]]["points"]} == {"n_params", "macs", "flops"}


def test_duplicates_are_counted_on_the_trial_that_answered(store: str, tmp_path: Path) -> None:
    """A duplicate has no run of its own."""
    asked = trial(0, aliases=({"values": {}, "time": START}, {"values": {}, "time": START}))
    runs = projected(store, four(tmp_path).with_trials(asked))
    assert len(runs) == 2
    assert runs[NAMES[0]]["tags"]["eca.aliases"] == "2"


def test_odd_names_and_long_values(store: str, tmp_path: Path) -> None:
    """Whatever a person writes into a space comes through: cut, or with `_` for a letter."""
    odd = trial(
        0,
        label="w0.5 | <script>alert(1)</script> `é` 日本",
        values={"a..b[0]/../c": "x" * 7000, "": None, "größe": True, "list": [1, 2]},
        placement="p" * 9000,
    )
    (name,) = [n for n in projected(store, four(tmp_path).with_trials(odd)) if n != "digits"]
    run = runs_of(store)[name]
    assert "<script>" in name
    assert run["params"]["größe"] == "true"
    assert run["params"]["list"] == "[1, 2]"
    assert sorted(len(value) for value in run["params"].values()) == [4, 4, 6, 6000]
    assert len(run["tags"]["eca.placement"]) == 8000


@pytest.mark.parametrize("folder", ["with space", "100%", "a#b", "über"])
def test_odd_folders(migrated: Path, tmp_path: Path, folder: str) -> None:
    """The store and its artifacts lie in the folder of studies, whatever its name."""
    out = tmp_path / folder
    out.mkdir()
    shutil.copy(migrated, out / "mlflow.db")
    projected(default_uri(out), four(out))
    assert len(list(out.glob("mlartifacts/*/artifacts/config.yaml"))) == 4


def test_a_deleted_run_is_made_again(store: str, tmp_path: Path) -> None:
    """What a person deleted in the UI comes back as a new run, and that is said."""
    study = four(tmp_path)
    before = projected(store, study)
    client = in_mlflow._client(store)
    (run,) = client.search_runs(["1"], "tags.`eca.trial` = '2'")
    client.delete_run(run.info.run_id)
    said: list[str] = []
    assert projected(store, study, said.append) == before
    assert said == [f"MLflow: the run '{NAMES[2]}' was deleted there; it is made again"]


def test_a_deleted_experiment_is_not_restored(store: str, tmp_path: Path) -> None:
    """Its name stays taken, so the study goes to the next free one, again and again the same."""
    study = four(tmp_path)
    projected(store, study)
    client = in_mlflow._client(store)
    client.delete_experiment("1")
    said: list[str] = []
    runs = projected(store, study, said.append)
    assert {run["experiment"] for run in runs.values()} == {"digits (2)"}
    assert said == ["MLflow: the experiment 'digits' was deleted there; this is 'digits (2)'"]
    assert projected(store, study) == runs


def test_a_run_created_twice_is_kept_once(store: str, tmp_path: Path) -> None:
    """A creation that a lost answer made twice leaves one run for the trial."""
    study = four(tmp_path)
    before = projected(store, study)
    tags = {"eca.study": study.uuid, "eca.trial": "1"}
    in_mlflow._client(store).create_run("1", 0, tags, "lost")
    assert projected(store, study) == before


def test_following_ends_level_with_projecting(migrated: Path, tmp_path: Path) -> None:
    """Trials handed over while a study runs, then the end: the same as one projection of all."""
    uris = []
    for name in ("followed", "whole"):
        (tmp_path / name).mkdir()
        shutil.copy(migrated, tmp_path / name / "mlflow.db")
        uris.append(default_uri(tmp_path / name))
    study = four(tmp_path)
    with Tracking(uris[0], "digits", study.with_trials(), say=pytest.fail) as following:  # type: ignore[arg-type]
        for number, done in enumerate(study.trials):
            following.submit(trial(number, None, accuracies=(0.5,)))
            following.submit(done)
        following._study = study  # type: ignore[assignment]
    assert runs_of(uris[0]) == projected(uris[1], study)


def test_a_running_trial_is_running(store: str, tmp_path: Path) -> None:
    """While a driver is at work its trials and its study are RUNNING, with the curve so far."""
    study = four(tmp_path).with_trials(trial(0, None, accuracies=(0.5, 0.6)))
    following = Tracking(store, "digits", study, say=pytest.fail)  # type: ignore[arg-type]
    following.start()

    def both() -> Any:
        runs = runs_of(store)
        child = runs.get(NAMES[0], {}).get("tags", {})
        return "digits" in runs and "eca.outcome" in child and runs

    seen = _until(both)
    assert seen["digits"]["points"] == []
    assert seen[NAMES[0]]["status"] == seen["digits"]["status"] == "RUNNING"
    assert seen[NAMES[0]]["tags"]["eca.outcome"] == "running"
    assert seen[NAMES[0]]["end"] is None
    assert following.close()
    assert runs_of(store)[NAMES[0]]["status"] == "KILLED"


def _until(ask: Any) -> Any:
    pause = threading.Event()
    for _ in range(600):
        if answer := ask():
            return answer
        pause.wait(0.1)
    raise AssertionError("it never happened")


def test_a_store_that_is_away_costs_the_search_nothing(migrated: Path, tmp_path: Path) -> None:
    """It is said once; when the store is there again all is written without being asked."""
    out = tmp_path / "out"
    out.write_text("a file where the folder should be")
    study = four(tmp_path)
    said: list[str] = []
    following = Tracking(default_uri(out), "digits", study.with_trials(), say=said.append)  # type: ignore[arg-type]
    following.start()
    for done in study.trials:
        following.submit(done)
    _until(lambda: said)
    out.unlink()
    out.mkdir()
    shutil.copy(migrated, out / "mlflow.db")
    _until(lambda: (runs := runs_of(default_uri(out))) and len(runs) == 5)
    following._study = study  # type: ignore[assignment]
    assert following.close()
    assert len(said) == 1
    assert "the search goes on" in said[0]
    assert "\n" not in said[0]


def test_a_dead_server_is_noticed_and_left(tmp_path: Path) -> None:
    """Nothing listens: `project` raises one line, `close` returns and names the command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    study = four(tmp_path)
    with pytest.raises(TrackingError, match=f"MLflow at {uri}") as caught:
        Tracking(uri, "digits", study).project(study)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    said: list[str] = []
    following = Tracking(uri, "digits", study, say=said.append)  # type: ignore[arg-type]
    following.start()
    assert not following.close()
    assert said[-1] == f"MLflow is behind: eca-search sync {tmp_path} --tracking-uri {uri}"


def test_a_locked_store_is_tried_again(store: str, tmp_path: Path) -> None:
    """Another program may hold the database for a while: nothing is lost by that."""
    import sqlite3

    study = four(tmp_path)
    other = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    said: list[str] = []
    following = Tracking(store, "digits", study, say=said.append)  # type: ignore[arg-type]
    following.start()
    _until(lambda: said)
    other.execute("COMMIT")
    other.close()
    assert following.close()
    assert len(runs_of(store)) == 5


def test_telemetry_is_off(store: str) -> None:
    """MLflow sends nothing home, and its settings are left to whoever has set them."""
    in_mlflow._client(store)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_importing_tracking_does_not_import_mlflow() -> None:
    """`eca-search --help` must not pay for it."""
    import subprocess
    import sys

    check = "import sys, search.tracking.following; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_two_studies_of_one_name_do_not_mix(store: str, tmp_path: Path) -> None:
    """Runs are found by the study's uuid, so an experiment can hold many studies."""
    study = four(tmp_path)
    Tracking(store, "digits", study).project(study)  # type: ignore[arg-type]
    other = dataclasses.replace(study, uuid="f" * 32)
    Tracking(store, "digits", other).project(other)  # type: ignore[arg-type]
    client = in_mlflow._client(store)
    for uuid in (study.uuid, other.uuid):
        assert len(client.search_runs(["1"], f"tags.`eca.study` = '{uuid}'")) == 5


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tracking sets for MLflow is taken back after each test."""
    for name in in_mlflow._ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
