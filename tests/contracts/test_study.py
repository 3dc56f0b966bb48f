"""What every executor owes a study: the same questions to Ray and to this process.

Real digits networks, real actors, real faults (tests/plugins/faulty.py breaks a training on
purpose). What must hold is read from the journal.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import search
import spaces
import trainers
from search.comparison import comparing, confirming
from search.report import export as exporting
from search.study.journal import read
from search.study.study import Study

PLUGIN = Path(__file__).parent.parent / "plugins" / "faulty.py"
WriteSpace = Callable[..., Path]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=["inprocess", pytest.param("ray", marks=pytest.mark.ray)])
def executor(request: pytest.FixtureRequest) -> str:
    """Each executor in turn."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    return str(request.param)


@pytest.fixture
def go(tmp_path: Path, executor: str) -> Callable[..., Study]:
    """Run a space file with the executor, tests' faulty attention plugged in."""

    def run(path: Path, **options: object) -> Study:
        return search.run(
            path,
            out=tmp_path / "runs",
            executor=executor,
            plugins=[PLUGIN],
            **options,  # type: ignore[arg-type]
        )

    return run


def faulty(fault: str, **more: object) -> str:
    """A choice of plain networks and one that breaks."""
    extra = "".join(f", {key}: {json.dumps(value)}" for key, value in more.items())
    return f"{{choice: [{{name: none}}, {{name: faulty, fault: {fault}{extra}}}]}}"


def broken(study: Study) -> list:
    return [trial for trial in study.trials if trial.config["attention"]["name"] == "faulty"]


def nothing_runs(study: Study) -> bool:
    """No attempt, replicate or Optuna trial is left open."""
    attempts = [a for t in study.trials for r in t.replicates for a in r.attempts]
    return (
        all(attempt.outcome for attempt in attempts)
        and all(trial.outcome for trial in study.trials)
        and all(trial.state.is_finished() for trial in study.optuna.trials)
    )


def test_a_search_ends_with_a_front(go: Callable[..., Study], write_space: WriteSpace) -> None:
    """Every proposal trains once, the front is real, nothing is left running."""
    study = go(write_space(trials=4))

    assert [trial.outcome for trial in study.trials] == ["finished"] * 4
    assert len({trial.key for trial in study.trials}) == 4
    assert all(len(trial.replicates[0].curve) == 3 for trial in study.trials)
    assert study.pareto()
    assert study.hypervolume() > 0
    assert nothing_runs(study)
    assert study.history.ended == "4 of 4 trials"


def test_latency_comes_with_the_first_report(
    go: Callable[..., Study], write_space: WriteSpace
) -> None:
    """Every network's is in the journal once, before its first epoch, which holds numbers alone;
    so is the device that an attempt trains on.
    """
    study = go(write_space(trials=2, search="latency: {batch_sizes: [1, 4], repeats: 6}"))

    for trial in study.trials:
        assert [latency.batch_size for latency in trial.latencies] == [1, 4]
        assert all(0 < it.low <= it.median <= it.high for it in trial.latencies)
        kinds = [r["kind"] for r in read(study.folder) if r.get("trial") == trial.number]
        assert kinds.count("latency") == 1
        assert kinds.index("latency") < kinds.index("epoch")
        assert all(
            isinstance(v, float) for epoch in trial.replicates[0].curve for v in epoch.values()
        )
        assert trial.replicates[0].attempts[-1].device == trial.latencies[0].device
    assert search.load(study.folder).trials == study.trials


def test_both_executors_train_the_same(
    write_space: WriteSpace, tmp_path: Path, cluster: None
) -> None:
    """A result depends on config and seed, never on the worker or its process."""
    path = write_space(trials=4)
    curves = []
    for executor in ("inprocess", "ray"):
        study = search.run(path, out=tmp_path / executor, executor=executor)
        curves.append(
            {
                trial.key: [
                    {k: v for k, v in epoch.items() if "second" not in k}
                    for epoch in trial.replicates[0].curve
                ]
                for trial in study.trials
            }
        )

    assert curves[0] == curves[1]


def test_baselines_are_asked_first(go: Callable[..., Study], write_space: WriteSpace) -> None:
    """The networks a person names are trained before any that the sampler thinks of."""
    path = write_space(
        trials=3,
        width="{choice: [0.25, 0.5], default: 0.5}",
        search="baselines: [{attention: {name: none}}, {attention: {name: eca}}]",
    )
    study = go(path)

    assert [trial.values["attention"] for trial in study.trials[:2]] == ["none", "eca"]
    assert [trial.values["backbone.width"] for trial in study.trials[:2]] == [0.5, 0.5]


def test_a_small_space_ends_by_itself(go: Callable[..., Study], write_space: WriteSpace) -> None:
    """Duplicates cost nothing and have no trial; when all networks are seen the study says so."""
    gammas = "{name: log2, gamma: {choice: [1.9, 2]}, b: 1}"  # one network at these widths
    study = go(
        write_space(
            trials=9, width="{choice: [0.25, 0.5]}", attention=f"{{name: eca, mapping: {gammas}}}"
        )
    )

    assert len(study.trials) == 2
    assert study.counts()["duplicate"] > 0
    assert study.history.ended == "2 of 2 networks seen"
    assert nothing_runs(study)


def test_a_sampler_that_knows_networks_asks_for_each_once(
    go: Callable[..., Study], write_space: WriteSpace
) -> None:
    """ParetoSampler proposes no duplicate, whatever runs beside, and ends with the space."""
    gammas = "{name: log2, gamma: {choice: [1.9, 2]}, b: 1}"  # one network at these widths
    study = go(
        write_space(
            trials=9,
            width="{choice: [0.25, 0.5]}",
            attention=f"{{choice: [{{name: none}}, {{name: eca, mapping: {gammas}}}]}}",
            epochs=1,
            search="sampler: {name: ParetoSampler, startup: 2}",
        )
    )

    assert len({trial.identity for trial in study.trials}) == len(study.trials) == 4
    assert study.counts()["duplicate"] == 0
    assert study.history.ended == "4 of 4 networks seen"
    assert nothing_runs(study)


def test_a_duplicate_in_flight_waits_for_its_twin(
    write_space: WriteSpace, tmp_path: Path, cluster: None
) -> None:
    """With two workers and one network, the second proposal of it waits and is told the same."""
    study = search.run(
        write_space(
            trials=2,
            width="0.25",
            attention="{name: eca, mapping: {name: log2, gamma: {choice: [1.9, 2]}}}",
        ),
        out=tmp_path / "runs",
        executor="ray",
    )

    assert len(study.trials) == 1
    told = [trial.values for trial in study.optuna.trials]
    assert len(told) > 1
    assert all(values == told[0] for values in told)


def test_duplicates_can_be_replicates(go: Callable[..., Study], write_space: WriteSpace) -> None:
    """With `duplicates: replicate` the same network is trained again with the next seed."""
    study = go(
        write_space(
            trials=2,
            width="0.25",
            attention="{name: eca, mapping: {name: log2, gamma: {choice: [1.9, 2]}}}",
            search="duplicates: replicate",
        )
    )

    (trial,) = study.trials
    assert trial.n >= 2
    assert len({replicate.seed for replicate in trial.replicates}) == trial.n
    mean = sum(r.curve[-1]["val_accuracy"] for r in trial.replicates) / trial.n
    assert trial.objectives is not None
    assert trial.objectives["val_accuracy"] == pytest.approx(mean)


def test_replicates_give_mean_and_spread(go: Callable[..., Study], write_space: WriteSpace) -> None:
    """`replicates: 2` trains two seeds, the same two for every network."""
    study = go(write_space(trials=2, search="replicates: 2"))

    assert [trial.n for trial in study.trials] == [2, 2]
    assert len({tuple(r.seed for r in trial.replicates) for trial in study.trials}) == 1
    assert all(trial.spread["val_accuracy"] >= 0 for trial in study.trials)


def test_infeasible_points_use_no_worker(go: Callable[..., Study], write_space: WriteSpace) -> None:
    """Points over `limits` are refused before training and never count as trials."""
    study = go(
        write_space(
            trials=3, width="{choice: [0.25, 0.5, 2.0, 4.0]}", search="limits: {params: 20e3}"
        )
    )

    assert study.counts()["infeasible"] > 0
    assert all(trial.costs["params"] <= 20e3 for trial in study.trials)
    refused = [record for record in read(study.folder) if record["kind"] == "refuse"]
    assert all("params" in record["reason"] for record in refused)


def test_the_pruner_stops_a_training_midway(
    go: Callable[..., Study], write_space: WriteSpace
) -> None:
    """A pruned trial keeps its curve, has no objectives, and never reported another epoch."""
    study = go(
        write_space(
            trials=4,
            epochs=6,
            search=(
                "pruner: {name: ThresholdPruner, lower: 0.99, n_warmup_steps: 3}\n"
                "objectives: {val_accuracy: max, params: min}\n"
                "checkpoints: {of: all}"
            ),
        )
    )

    pruned = [trial for trial in study.trials if trial.outcome == "pruned"]
    assert pruned
    assert all(3 <= len(trial.replicates[0].curve) < 6 for trial in pruned)
    assert all(trial.objectives is None and trial.reason for trial in pruned)
    records = read(study.folder)
    for trial in pruned:
        kinds = [r["kind"] for r in records if r.get("trial") == trial.number]
        assert kinds.index("end") == len(kinds) - 2  # then only the trial's own record
        # the worker stores an epoch before it tells of it: one more would be lying there
        stored = trainers.history(study.folder / "checkpoints" / f"{trial.key}-r0")
        assert len(stored) == len(trial.replicates[0].curve)
    assert nothing_runs(study)


@pytest.mark.parametrize("of", ["front", "all"])
def test_the_weights_that_are_kept(
    go: Callable[..., Study], write_space: WriteSpace, tmp_path: Path, of: str
) -> None:
    """At the end those of the front alone are there, unless all are wanted; the front exports."""
    study = go(
        write_space(
            trials=5,
            epochs=6,
            width="{choice: [0.25, 0.5, 0.75, 1.0]}",
            search=(
                "pruner: {name: ThresholdPruner, lower: 0.9, n_warmup_steps: 4}\n"
                "objectives: {val_accuracy: max, params: min}\n"
                "baselines: [{attention: {name: eca}, backbone: {width: 0.25}}]\n"
                f"checkpoints: {{of: {of}}}"
            ),
        )
    )

    outcomes = {trial.outcome for trial in study.trials}
    assert "pruned" in outcomes
    front = study.pareto()
    there = {folder.name for folder in (study.folder / "checkpoints").iterdir()}
    kept = front if of == "front" else study.trials
    assert there == {trial.key_of(0) for trial in kept}
    for trial in front:
        assert exporting.export(study, trial, out=tmp_path / str(trial.number)).epoch == 6
    assert nothing_runs(study)


def test_a_promoted_trial_ends_as_if_undisturbed(
    go: Callable[..., Study], write_space: WriteSpace
) -> None:
    """Half of the networks stop after an epoch; whoever may reach the front after all goes on from
    its checkpoint, on whatever worker is free, to the numbers of a search that stops nobody.
    """
    pruner = "pruner: {name: MedianPruner, n_startup_trials: 4, promote: 0.001}"
    width = "{choice: [0.25, 0.5, 0.75, 1.0]}"
    study = go(write_space(width=width, trials=8, search=pruner))
    whole = go(write_space(name="whole", width=width, trials=8))

    promoted = [trial for trial in study.trials if trial.promoted is not None]
    assert promoted
    curves = {trial.key: trial.replicates[0].curve for trial in whole.trials}
    for trial in promoted:
        (replicate,) = trial.replicates
        assert [attempt.outcome for attempt in replicate.attempts] == ["pruned", "finished"]
        assert sum(attempt.epochs for attempt in replicate.attempts) == 3  # none once more
        assert without_times(replicate.curve) == without_times(curves[trial.key])
    assert nothing_runs(study)
    assert search.load(study.folder).trials == study.trials


@pytest.mark.parametrize(
    ("fault", "outcome", "attempts"),
    [("raise", "crashed", 2), ("nan", "diverged", 1), ("oom", "oom", 1)],
)
def test_a_failing_training_fails_alone(
    go: Callable[..., Study],
    write_space: WriteSpace,
    executor: str,
    fault: str,
    outcome: str,
    attempts: int,
) -> None:
    """An exception, a NaN or full memory ends one trial with its word; the others finish.

    A worker whose memory may be spoilt takes no other attempt.
    """
    study = go(write_space(trials=3, attention=faulty(fault, after=12)))

    (trial, *_), others = broken(study), [t for t in study.trials if t not in broken(study)]
    assert trial.outcome == outcome
    assert len(trial.replicates[0].attempts) == attempts
    assert trial.replicates[0].curve  # the finite epochs before it are kept
    assert trial.objectives is None
    assert others
    assert all(other.outcome == "finished" for other in others)
    assert nothing_runs(study)
    if executor == "ray" and fault != "nan":
        for failed in trial.replicates[0].attempts:
            assert failed.worker not in workers_after(study, failed.ended)


def workers_after(study: Study, moment: float | None) -> set[str]:
    """Who took attempts up after a moment."""
    assert moment is not None
    attempts = [a for t in study.trials for r in t.replicates for a in r.attempts]
    return {attempt.worker for attempt in attempts if attempt.started >= moment}


def test_a_trial_that_hangs_is_ended(go: Callable[..., Study], write_space: WriteSpace) -> None:
    """No epoch for `timeouts.no_progress` seconds: the trial times out, its slot is free again."""
    study = go(
        write_space(
            trials=3,
            attention=faulty("hang", after=12),
            search="timeouts: {no_progress: 15}",
        )
    )

    trial = broken(study)[0]
    assert trial.outcome == "timeout"
    assert "15 s" in trial.reason
    assert any(t.outcome == "finished" for t in study.trials)
    assert nothing_runs(study)


@pytest.mark.ray
def test_a_worker_that_dies_gets_another_attempt(
    write_space: WriteSpace, tmp_path: Path, cluster: None
) -> None:
    """os._exit in a worker: the attempt crashed, the next goes on from the last checkpoint."""
    study = search.run(
        write_space(
            trials=2,
            width="0.25",
            attention=faulty("exit", after=12, once=str(tmp_path / "died")),
        ),
        out=tmp_path / "runs",
        executor="ray",
        plugins=[PLUGIN],
    )

    replicate = broken(study)[0].replicates[0]
    assert [attempt.outcome for attempt in replicate.attempts] == ["crashed", "finished"]
    assert replicate.attempts[0].worker != replicate.attempts[1].worker
    assert [epoch["epoch"] for epoch in replicate.curve] == [1, 2, 3]
    assert nothing_runs(study)


def test_a_training_that_ends_its_process_is_resumed(
    write_space: WriteSpace, tmp_path: Path
) -> None:
    """os._exit in this process ends the search with it; `resume` goes on, each epoch kept once."""
    path = write_space(
        trials=2, width="0.25", attention=faulty("exit", after=12, once=str(tmp_path / "died"))
    )
    command = [sys.executable, "-m", "search", "run", str(path), "--out", str(tmp_path / "runs")]
    ended = subprocess.run(
        [*command, "--executor", "inprocess", "--plugin", str(PLUGIN)], capture_output=True
    )
    study = search.resume(tmp_path / "runs" / "small", executor="inprocess")

    assert ended.returncode == 7  # what the training itself has said
    assert [trial.outcome for trial in study.trials] == ["finished"] * 2
    (replicate,) = broken(study)[0].replicates
    assert [attempt.outcome for attempt in replicate.attempts] == ["interrupted", "finished"]
    assert [epoch["epoch"] for epoch in replicate.curve] == [1, 2, 3]
    assert nothing_runs(study)


def timeless(study: Study) -> list[list[dict[str, float]]]:
    """Every curve, without what a clock says."""
    return [without_times(r.curve) for trial in study.trials for r in trial.replicates]


def without_times(curve: Iterable[dict[str, float]]) -> list[dict[str, float]]:
    """A curve, without what a clock says."""
    clocks = {"seconds", "images_per_second"}
    return [{k: v for k, v in epoch.items() if k not in clocks} for epoch in curve]


@pytest.mark.ray
def test_a_preempted_trial_goes_on_as_if_undisturbed(
    write_space: WriteSpace, tmp_path: Path, cluster: None
) -> None:
    """SIGTERM within an epoch: its state is stored, another worker goes on, bit for bit the same.

    That is no failure, and costs nothing of a budget for crashes.
    """
    path = write_space(
        trials=2,
        width="0.25",  # 240 images in batches of 32: the 13th is the second epoch's 6th
        attention=faulty("leave", after=12, once=str(tmp_path / "told")),
        search="failures: {crashed: 0, max: 0}",
    )
    told = search.run(path, out=tmp_path / "told-to", executor="ray", plugins=[PLUGIN])
    alone = search.run(path, out=tmp_path / "alone", executor="ray", plugins=[PLUGIN])

    first, second = broken(told)[0].replicates[0].attempts
    assert (first.outcome, second.outcome) == ("preempted", "finished")
    assert first.reason == "SIGTERM: left after 6 steps of epoch 2"
    assert first.worker != second.worker
    assert told.outcomes() == {"finished": 2, "pruned": 0, "failed": 0}
    assert len(broken(alone)[0].replicates[0].attempts) == 1
    assert timeless(told) == timeless(alone)


def test_a_trial_whose_process_is_to_leave_goes_on_as_if_undisturbed(
    write_space: WriteSpace, tmp_path: Path
) -> None:
    """SIGTERM within an epoch, in process: the state is stored, `resume` goes on, bit for bit."""
    path = write_space(
        trials=2, width="0.25", attention=faulty("leave", after=12, once=str(tmp_path / "told"))
    )
    command = [sys.executable, "-m", "search", "run", str(path), "--out", str(tmp_path / "runs")]
    left = subprocess.run(
        [*command, "--executor", "inprocess", "--plugin", str(PLUGIN)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert left.returncode == 143, left.stderr
    (state,) = (tmp_path / "runs" / "small" / "checkpoints").rglob("epoch-00001-step-0000006.*")
    told = search.resume(tmp_path / "runs" / "small", executor="inprocess")
    alone = search.run(path, out=tmp_path / "alone", executor="inprocess", plugins=[PLUGIN])

    (replicate,) = broken(told)[0].replicates
    assert [attempt.outcome for attempt in replicate.attempts] == ["interrupted", "finished"]
    assert not state.exists()  # two later ones are kept
    assert timeless(told) == timeless(alone)


@pytest.mark.ray
def test_an_actor_is_reused_from_trial_to_trial(
    write_space: WriteSpace, tmp_path: Path, cluster: None
) -> None:
    """Six trials on two workers run in two processes: nobody pays for a start and an import."""
    study = search.run(
        write_space(trials=6, width="{choice: [0.25, 0.5, 0.75]}", epochs=2),
        out=tmp_path / "runs",
        executor="ray",
    )

    workers = [t.replicates[0].attempts[0].worker for t in study.trials]
    assert len(workers) == 6
    assert len(set(workers)) <= 2
    assert str(os.getpid()) not in {worker.rpartition(":")[2] for worker in workers}


def test_a_driver_killed_midway_is_resumed_whole(
    executor: str, write_space: WriteSpace, tmp_path: Path
) -> None:
    """SIGKILL at any moment: resume finishes every trial once, and trains no stored epoch again."""
    path = write_space(trials=3, width="{choice: [0.5, 1.0, 1.5]}", epochs=8)
    out = tmp_path / "runs"
    command = [
        sys.executable,
        "-m",
        "search",
        "run",
        str(path),
        "--out",
        str(out),
        "--executor",
        executor,
    ]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    journal = out / "small" / "journal.jsonl"

    driver = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: journal.exists() and journal.read_text().count('"kind":"epoch"') >= 5)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = read(out / "small")
    study = search.resume(out / "small", executor=executor)

    assert [trial.outcome for trial in study.trials] == ["finished"] * 3
    records = read(out / "small")
    assert records[: len(before)] == before
    epochs = [
        (record["trial"], record["metrics"]["epoch"])
        for record in records
        if record["kind"] == "epoch"
    ]
    assert sorted(epochs) == [(t, e) for t in range(3) for e in range(1, 9)]
    assert nothing_runs(study)


def test_arms_are_trained_once_each_and_confirmed_by_the_test_images(
    executor: str, write_space: WriteSpace, tmp_path: Path
) -> None:
    """A comparison is a study like any: killed midway it goes on; its front can be confirmed."""
    path = write_space(width="{choice: [0.25, 0.5], default: 0.5}", attention="{name: eca}")
    said = [
        "eca=",
        "k5=attention.mapping={name: constant, kernel_size: 5}",
        "none=attention={name: none}",
    ]
    space = spaces.load(path, compared=said, overrides=["search.replicates=2", "training.epochs=4"])
    out = tmp_path / "runs"
    (tmp_path / "arms.yaml").write_text(space.to_yaml())
    command = [sys.executable, "-m", "search", "run", str(tmp_path / "arms.yaml")]
    driver = subprocess.Popen(
        [*command, "--out", str(out), "--executor", executor],
        env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    journal = out / "small" / "journal.jsonl"
    wait_until(lambda: journal.exists() and journal.read_text().count('"kind":"epoch"') >= 5)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    study = search.resume(out / "small", executor=executor)

    assert [(trial.values["arm"], trial.n) for trial in study.trials] == [
        ("eca", 2),
        ("k5", 2),
        ("none", 2),
    ]
    epochs = [(r["trial"], r["replicate"]) for r in read(study.folder) if r["kind"] == "epoch"]
    assert all(epochs.count((trial, seed)) == 4 for trial in range(3) for seed in range(2))
    told = comparing.told(study)
    assert told is not None
    assert [(pair.a, pair.b, pair.n) for pair in told.comparison.pairs] == [
        ("eca", "k5", 2),
        ("eca", "none", 2),
        ("k5", "none", 2),
    ]
    chosen = confirming.space(study, study.pareto()[:1], replicates=1)
    confirmed = search.run(chosen, out=out, executor=executor)
    (curve,) = [replicate.curve for trial in confirmed.trials for replicate in trial.replicates]
    assert len(curve) == 4
    seeds, fresh = (
        {replicate.seed for trial in one.trials for replicate in trial.replicates}
        for one in (study, confirmed)
    )
    assert len(seeds) == 2
    assert seeds.isdisjoint(fresh)
    assert all("test_accuracy" in metrics and "val_accuracy" not in metrics for metrics in curve)
    assert nothing_runs(confirmed)


def wait_until(condition: Callable[[], bool], *, seconds: float = 120) -> None:
    """Poll until something holds; fail when it never does."""
    end = time.monotonic() + seconds
    for _ in itertools.count():
        if condition():
            return
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


@pytest.mark.parametrize("executor", ["inprocess"], indirect=True)
def test_a_study_is_read_back_by_a_process_that_knows_nothing(
    go: Callable[..., Study], write_space: WriteSpace
) -> None:
    """`load` needs the folder alone: the plugin's path is in the journal."""
    study = go(
        write_space(trials=1, width="0.25", attention="{name: faulty, fault: raise, after: 9999}")
    )
    ask = f"import search; s = search.load({str(study.folder)!r}); print(s.hypervolume())"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)

    assert float(done.stdout) == study.hypervolume()
