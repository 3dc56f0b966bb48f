"""Latency in a study: measured once per network and device, kept, told, and never judged by."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import search
import spaces
from search import text
from search.cli import main
from search.execution import worker
from search.execution.worker import Workplace
from search.front import pareto, tables
from search.pruning import warning
from search.study.history import History
from search.study.journal import FILE, read
from search.study.study import Study
from search.tracking.projection import Snapshot, trial_run
from search.trial import Assignment, Candidate, Ending
from spaces import SpaceError
from spaces.latency import Latency

SPACE = """\
name: timed
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5]}}
training: {epochs: 2, batch_size: 32, optimizer: {name: sgd, lr: {choice: [0.1, 0.2]}}}
"""
SEARCH = {
    "trials": 4,
    "sampler": {"name": "BruteForceSampler"},
    "objectives": {"val_accuracy": "max", "latency_ms": "min"},
    "reference": {"latency_ms": 10},
    "latency": {"batch_sizes": [1, 8], "repeats": 6},
}
Start = Callable[..., Study]


def examine(values: dict[str, Any]) -> Candidate:
    """A network as large as its width, whatever it is trained with."""
    width, lr = values["backbone.width"], values["training.optimizer.lr"]
    config = {
        "name": "timed",
        "dataset": {"name": "digits"},
        "backbone": {"name": "resnet", "depth": 8, "width": width},
        "attention": {"name": "none"},
        "training": {"epochs": 2, "batch_size": 32, "optimizer": {"name": "sgd", "lr": lr}},
    }
    costs = {"params": 1000 * width, "macs": 9000 * width}
    return Candidate(config, f"w{width}", f"w{width}lr{lr}", costs, {}, "none", f"w{width:g} none")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a study of that space; its search section is `SEARCH` with what is given."""
    begun: list[Study] = []

    def begin(name: str = "timed", **more: Any) -> Study:
        folder = tmp_path / name
        folder.mkdir()
        given = {key: value for key, value in {**SEARCH, **more}.items() if value is not None}
        (folder / "space.yaml").write_text(f"{SPACE}search: {json.dumps(given)}\n")
        space = spaces.load(folder / "space.yaml")
        reference = {"params": 2000.0, "macs": 18000.0, "latency_ms": 10.0}
        study = Study.create(folder, space, examine, reference=reference, chance=0.1)
        study.begin(pid=1, host="here", executor="inprocess")
        begun.append(study)
        return study

    yield begin
    for study in begun:
        study.close()


def found(
    median: float, *, device: str = "CPU, 1 thread", sizes: tuple[int, ...] = (1, 8)
) -> list[dict[str, Any]]:
    """What a worker tells that has measured `median` ms for each image of a pass."""
    times = ((size, size * median) for size in sizes)
    return [
        asdict(Latency(device, "float32", size, ms, 0.9 * ms, 1.1 * ms, 6)) for size, ms in times
    ]


def take(study: Study) -> Assignment:
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "here:1")
    return assignment


def train(
    study: Study,
    assignment: Assignment,
    latency: list[dict[str, Any]] | None,
    *,
    accuracy: float | None = None,
) -> None:
    """Both epochs of an attempt, the latency with the first, and its end."""
    width = assignment.config["backbone"]["width"]
    for epoch in range(assignment.known + 1, 3):
        metrics = {"epoch": epoch, "val_accuracy": width if accuracy is None else accuracy}
        told = {} if latency is None or epoch > assignment.known + 1 else {"latency": latency}
        if study.report(assignment.trial, assignment.replicate, {**metrics, **told}):
            return
    study.end(assignment.trial, assignment.replicate, Ending("finished", ""))


def test_a_trial_is_worth_its_latency(start: Start) -> None:
    """The median is the objective's value; epochs stay numbers; the journal gives it all back."""
    study = start()
    for number in range(4):
        train(study, take(study), found(1.0 + number))
    study.close()

    again = Study.read(study.folder, study.space)
    for known in (study, again):
        assert [trial.objectives for trial in known.trials] == [
            {
                "val_accuracy": trial.config["backbone"]["width"],
                "latency_ms": trial.latency["latency_ms"].median,
            }
            for trial in known.trials
        ]
    assert again.trials == study.trials
    assert [t.values for t in study.optuna.trials] == [
        [t.objectives["val_accuracy"], t.objectives["latency_ms"]]
        for t in study.trials
        if t.objectives is not None
    ]
    assert all(t.latency["latency_batch_ms"].batch_size == 8 for t in again.trials)
    epochs = [record["metrics"] for record in read(study.folder) if record["kind"] == "epoch"]
    assert all(set(metrics) == {"epoch", "val_accuracy"} for metrics in epochs)


def test_a_network_is_measured_once_a_device(start: Start) -> None:
    """The next trial of a network is told what is known; of two at once the first counts."""
    study = start()
    first, *others = (take(study) for _ in range(4))
    twin = next(o for o in others if o.config["backbone"] == first.config["backbone"])
    assert first.latencies == twin.latencies == []
    train(study, first, found(1.0))
    train(study, twin, found(3.0))

    for number in (first.trial, twin.trial):
        assert study.history.trials[number].latency["latency_ms"].median == 1.0
    (other, _) = (o for o in others if o is not twin)
    train(study, other, found(2.0))
    identity = study.history.trials[first.trial].identity
    assert [known.median for known in study.history.latencies[identity]] == [1.0, 8.0]
    assert study._assignment(first.trial, 0).latencies is None


def test_a_later_trial_is_given_what_is_known(start: Start) -> None:
    """One after another: the second trial of a network need not measure on the same device."""
    study = start()
    told: dict[str, list[Any]] = {}
    while (assignment := study.next()) is not None:
        study.start(assignment, "here:1")
        identity = study.history.trials[assignment.trial].identity
        told.setdefault(identity, []).append(assignment.latencies)
        train(study, assignment, found(1.0))

    assert sorted(told) == ["w0.25", "w0.5"]
    assert all(known == [[], found(1.0)] for known in told.values())


def test_only_what_is_not_known_is_measured(start: Start) -> None:
    """Neither another attempt after the first report nor another replicate is asked again."""
    study = start(replicates=2)
    assignment = take(study)
    assert assignment.latencies == []
    number = assignment.trial
    study.end(number, 0, Ending("crashed", "before its first epoch"))
    assert (again := take(study)).trial == number
    assert again.latencies == []
    study.report(number, 0, {"epoch": 1, "val_accuracy": 0.5, "latency": found(1.0)})
    study.end(number, 0, Ending("interrupted", ""))
    resumed = take(study)
    assert (resumed.trial, resumed.known, resumed.latencies) == (number, 1, None)
    train(study, resumed, None)
    assert study._assignment(number, 1).latencies is None


def test_a_study_taken_up_again_asks_for_what_it_lacks(start: Start) -> None:
    """Killed before and after the first report: each trial has its latency, and has it once."""
    study = start()
    first, second = take(study), take(study)
    study.report(first.trial, 0, {"epoch": 1, "val_accuracy": 0.5, "latency": found(1.0)})
    study.commit()
    study._open.close()  # what a SIGKILL does
    study._journal = None
    again = Study.drive(study.folder, study.space, examine)
    asked = {}
    while (assignment := again.next()) is not None:
        again.start(assignment, "here:2")
        asked.setdefault(assignment.trial, assignment.latencies)
        train(again, assignment, None if assignment.latencies is None else found(2.0))
    again.close()

    assert asked[first.trial] is None
    assert asked[second.trial] is not None
    assert [trial.outcome for trial in again.trials] == ["finished"] * 4
    assert all("latency_ms" in (trial.objectives or {}) for trial in again.trials)
    assert again.trials[first.trial].latency["latency_ms"].median == 1.0


def test_an_objective_that_is_not_told_is_a_bad_report(start: Start) -> None:
    """A first epoch without the latency that trials are compared by ends the attempt."""
    study = start()
    assignment = take(study)
    ending = study.report(assignment.trial, 0, {"epoch": 1, "val_accuracy": 0.5})

    assert ending is not None
    assert (ending.outcome, ending.reason) == ("bad_report", "epoch 1 reports latency_ms as None")


def test_without_being_asked_nothing_is_measured(start: Start) -> None:
    """As studies were before there was latency: no assignment asks, no record says anything."""
    study = start(latency=None, reference=None, objectives={"val_accuracy": "max", "params": "min"})
    assert study.space.search.timing is None
    for _ in range(4):
        assignment = take(study)
        assert assignment.latencies is None
        train(study, assignment, None)
    study.commit()

    assert all(record["kind"] != "latency" for record in read(study.folder))
    assert History(read(study.folder)).latencies == {}
    assert "latency" not in text.front(study) + " ".join(text.footnotes(study))


def test_latencies_within_their_tolerance_are_equal(start: Start) -> None:
    """Medians 2 % apart are one band of 5 %: the more accurate network alone is on the front."""
    study = start()
    for _ in range(4):
        assignment = take(study)
        wide = assignment.config["backbone"]["width"] == 0.5
        train(study, assignment, found(1.01 if wide else 0.99), accuracy=0.9 if wide else 0.8)
    assert {trial.identity for trial in study.pareto()} == {"w0.5"}
    assert study.objectives["latency_ms"].tolerance == 0.05

    apart = start("apart")
    for _ in range(4):
        assignment = take(apart)
        wide = assignment.config["backbone"]["width"] == 0.5
        train(apart, assignment, found(1.1 if wide else 0.9), accuracy=0.9 if wide else 0.8)
    assert {trial.identity for trial in apart.pareto()} == {"w0.25", "w0.5"}
    assert apart.hypervolume() > 0


def test_nothing_is_judged_by_latency(start: Start) -> None:
    """Neither the pruner nor the best trial; a study of costs and latency alone has no judge."""
    first = {"latency_ms": "min", "val_accuracy": "max"}
    both = start(objectives=first, pruner={"name": "ParetoPruner"})
    assert both.judged == "val_accuracy"
    for number in range(4):
        train(both, take(both), found(1.0 + number))
    assert {trial.outcome for trial in both.trials} <= {"finished", "pruned"}
    assert pareto.foreseen(both.objectives) == {"macs": 0.01}  # so that fast networks stay
    assert pareto.foreseen(start("plain", objectives={"params": "min"}).objectives) == {
        "params": 0.01
    }

    study = start("costs", objectives={"latency_ms": "min"}, pruner={"name": "MedianPruner"})
    assert study.judged is None
    assert "never stops a trial" in str(warning({"name": "MedianPruner"}, study.objectives))
    for number in range(4):
        train(study, take(study), found(5.0 - number), accuracy=0.5)
    best = text.best(study)
    assert best is not None
    assert best.latency["latency_ms"].median == min(
        trial.latency["latency_ms"].median for trial in study.trials
    )


def test_several_devices_are_said(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """`status` and `pareto` name them and say that their latencies are not comparable."""
    study = start()
    for number in range(4):
        train(study, take(study), found(1.0, device=f"GPU {'AB'[number % 2]}"))
    study.commit()
    for command in ("status", "pareto"):
        assert main([command, str(study.folder)]) == 0
        said = capsys.readouterr().out
        assert said.index("GPU A") < said.index("GPU B")
        assert "not comparable" in said
        assert main([command, str(study.folder), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["devices"] == ["GPU A", "GPU B"]


def test_latency_is_shown(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """With its interval by `pareto` and `show`, with its ends in CSV, as metrics in MLflow."""
    study = start(reference=None, objectives={"val_accuracy": "max", "params": "min"})
    for number in range(4):
        train(study, take(study), found(1.0 + number))
    study.commit()
    front = study.pareto()
    best = front[0]

    assert main(["pareto", str(study.folder)]) == 0
    said = capsys.readouterr().out
    one = best.latency["latency_ms"]
    assert f"{one.median:.4g} ({one.low:.4g}-{one.high:.4g})" in said
    assert "not comparable" not in said
    assert main(["pareto", str(study.folder), "--json"]) == 0
    member = json.loads(capsys.readouterr().out)["front"][0]
    assert member["latencies"] == [asdict(latency) for latency in best.latencies]
    assert set(member["values"]) == {"val_accuracy", "params"}
    assert main(["show", str(study.folder), str(best.number)]) == 0
    assert "of 8 images: " in capsys.readouterr().out
    row = tables.front_rows(study.trials, study.objectives)[0]
    assert row["latency_ms"] == one.median
    assert (row["latency_ms_low"], row["latency_ms_high"]) == (one.low, one.high)
    assert "latency_batch_ms" in tables.front_markdown(study.trials, study.objectives)
    run = trial_run(best, Snapshot.of(study, live=False), "parent")
    points = {(p.key, p.step): p.value for p in run.points if p.key.startswith("latency")}
    assert points == {
        ("latency_ms", 0): one.median,
        ("latency_batch_ms", 0): best.latency["latency_batch_ms"].median,
    }


@pytest.fixture
def real(tmp_path: Path) -> tuple[Assignment, Workplace]:
    """A digits network to be trained here, and where."""
    config = {
        "name": "real",
        "dataset": {"name": "digits", "subset": 200, "val": 0.2},
        "backbone": {"name": "resnet", "depth": 8, "width": 0.25},
        "training": {"epochs": 2, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.1}},
    }
    place = Workplace(str(tmp_path / "checkpoints"), threads=1, batch_sizes=(1, 4), repeats=6)
    return Assignment(0, 0, 1, 7, "key-r0", config, known=0, latencies=[]), place


def carried(assignment: Assignment, place: Workplace) -> list[dict[str, Any]]:
    *epochs, ending = worker.attempt(assignment, place)
    assert ending == Ending("finished", "")
    return [epoch for epoch in epochs if isinstance(epoch, dict)]


def test_a_worker_measures_before_its_first_epoch(
    real: tuple[Assignment, Workplace], tmp_path: Path
) -> None:
    """The first report has the latency, no other; what is learnt is what it was without it."""
    assignment, place = real
    first, second = carried(assignment, place)
    latencies = [Latency(**latency) for latency in first.pop("latency")]
    assert [latency.batch_size for latency in latencies] == [1, 4]
    assert all(0 < it.low <= it.median <= it.high for it in latencies)
    assert "latency" not in second

    plain = replace(place, checkpoints=str(tmp_path / "others"))
    silent = carried(replace(assignment, latencies=None), plain)
    timeless = [
        [{k: v for k, v in epoch.items() if "second" not in k} for epoch in curve]
        for curve in ([first, second], silent)
    ]
    assert timeless[0] == timeless[1]


def test_a_worker_measures_only_what_is_not_known(real: tuple[Assignment, Workplace]) -> None:
    """Known for this device and precision it is passed on as it is; of another device it is not."""
    assignment, place = real
    measured = [Latency(**it) for it in carried(assignment, place)[0]["latency"]]
    device = measured[0].device
    here = found(123.0, device=device, sizes=(4,))
    elsewhere = found(77.0, device="GPU", sizes=(1, 4))
    asked = replace(assignment, latencies=[*elsewhere, *here])
    one, four = carried(asked, place)[0]["latency"]  # its epochs are read from their checkpoints

    assert four == here[0]
    assert (one["device"], one["batch_size"]) == (device, 1)
    assert one["median"] != 77.0


def test_a_fork_keeps_latencies_that_are_asked_for_alike(
    write_space: Callable[..., Path], tmp_path: Path
) -> None:
    """Results go along with what was measured; where a latency is lacking they do not suffice."""
    asked = "latency: {batch_sizes: [1], repeats: 6}"
    done = search.run(write_space(trials=2, epochs=1, search=asked), out=tmp_path / "runs")
    known = {trial.key: trial.latencies for trial in done.trials}
    assert all(len(latencies) == 1 for latencies in known.values())

    objective = [
        "search.objectives={val_accuracy: max, latency_ms: min}",
        "search.reference={latency_ms: 1000}",
    ]
    fork = search.resume(done.folder, fork=True, overrides=objective, trials=2)
    assert {trial.key: trial.latencies for trial in fork.trials} == known
    assert all(trial.replicates[0].attempts[-1].reason == "carried over" for trial in fork.trials)

    batch = ["search.latency.batch_sizes=[2]", "search.objectives={latency_batch_ms: min}"]
    batch += ["search.reference={latency_batch_ms: 1000}"]
    anew = search.resume(done.folder, fork=True, overrides=batch, trials=1)
    assert len(anew.trials) == 1
    assert anew.history.carried == 0
    assert anew.trials[0].latency["latency_batch_ms"].batch_size == 2


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            "objectives: {val_accuracy: max, latency_ms: min}",
            "search.reference.latency_ms: missing: hypervolume is measured from it",
        ),
        (
            "objectives: {latency_ms: min}\nreference: {latency_ms: 9}\n"
            "latency: {batch_sizes: [2]}",
            "search.latency.batch_sizes: no 1 for latency_ms (got [2]",
        ),
        (
            "objectives: {latency_batch_ms: min}\nreference: {latency_batch_ms: 9}\n"
            "latency: {batch_sizes: [1]}",
            "search.latency.batch_sizes: no batch for latency_batch_ms (got [1]",
        ),
        ("limits: {latency_ms: 3}", "search.limits.latency_ms: it is measured when"),
        ("latency: {batch_sizes: [1, 1]}", "search.latency.batch_sizes: one stands there twice"),
        ("latency: {repeats: 5}", "search.latency.repeats: out of range (got 5"),
        (
            "objectives: {latency_ms: max}\nreference: {latency_ms: 9}",
            "search.objectives.latency_ms: wrong way",
        ),
        ("reference: {latencyms: 3}", "did you mean 'latency_ms'?"),
    ],
)
def test_what_cannot_be_is_refused(
    write_space: Callable[..., Path], section: str, said: str
) -> None:
    """At its place, with what is allowed, before anything is created."""
    with pytest.raises(SpaceError) as refused:
        spaces.load(write_space(search=section))
    assert said in str(refused.value)


def test_an_objective_asks_for_its_measurement(write_space: Callable[..., Path]) -> None:
    """Without `search.latency` it is as by default: one image, and a batch of 128."""
    section = "objectives: {val_accuracy: max, latency_ms: min}\nreference: {latency_ms: 9}"
    timing = spaces.load(write_space(search=section)).search.timing

    assert timing is not None
    assert (timing.batch_sizes, timing.repeats) == ([1, 128], 50)


def test_complexity_measures_here(capsys: pytest.CaptureFixture[str]) -> None:
    """`--latency` adds a column, of as many images as are asked for; --batch-size needs it."""
    assert main(["complexity", "resnet8", "--attention", "eca", "--latency", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    latency = Latency(**model["latency"])
    assert latency.batch_size == 1
    assert 0 < latency.low <= latency.median <= latency.high
    assert main(["complexity", "digits", "--latency", "--batch-size", "3"]) == 0
    said = capsys.readouterr().out
    assert "latency_ms" in said
    assert "of 3 images on" in said
    assert main(["complexity", "resnet8", "--batch-size", "3"]) == 2
    assert "--latency" in capsys.readouterr().err


def test_a_study_from_before_latency_loads(start: Start) -> None:
    """Its space and its records say nothing of latency, and nothing is missing."""
    study = start(latency=None, reference=None, objectives={"val_accuracy": "max", "params": "min"})
    train(study, take(study), None)
    study.close()
    journal = study.folder / FILE
    assert "batch_sizes" not in journal.read_text()
    first = read(study.folder)[0]
    old = spaces.load(study.folder / "space.yaml", text=first["space"].replace("latency: null", ""))

    assert old == study.space
    assert Study.read(study.folder, old).trials[0].latencies == ()
