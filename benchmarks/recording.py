"""What recording costs: our journal and MLflow projection against four other ways to log.

    python benchmarks/recording.py [--trials 100] [--slow 20] [--rounds 3] [--front 2000]

Every system records the same trials: 20 params, 60 metric points (15 epochs of 4), 8 tags; ours
also keeps the Pareto front tagged, the config and the dataset of every trial, and a fsynced
journal. Each runs in a process of its own over a fresh SQLite store, whose making and whose imports
are not counted (`once_ms`; with ours also the drawing of the front at the end).

ours-inprocess  study, journal and MLflow in the process that trains
ours-ray        the same with trials in Ray workers, which record nothing
per-call        mlflow: a call for every param, tag and metric value
async           mlflow: the same calls with synchronous=False, flushed at the end
batched         mlflow: one log_batch a trial
ray-callback    Ray Tune's MLflowLoggerCallback

CPU ms a trial: `thread` in the thread that trains, `process` in the process that trains, `total` in
training and driving processes together. What Ray Tune needs without any recording (`ray-bare`) is
taken off from the two systems over it, what proposing needs from ours. Rounds alternate; medians
with ranges go to benchmarks/results/recording-<date>.json, with the seconds that the front of a
large study takes to load from the journal, and from MLflow by its tag.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kept import RESULTS, circumstances, keep

EPOCHS = 15
WORKERS = 2
AIMS = {"process_ms": 2, "total_ms": 50, "front_s": 2}
BLOCKS = ", ".join(f"stage{stage}.block{block}" for stage in (1, 2, 3) for block in (1, 2, 3))
SPACE = f"""\
name: recording
task: {{name: classification}}
dataset: {{name: digits}}
backbone: {{name: resnet, depth: 20, width: {{float: [0.25, 8.0]}}}}
attention:
  name: eca
  placement: {{name: blocks, blocks: {{subset: [{BLOCKS}]}}}}
  mapping: {{name: log2, gamma: {{float: [1, 4]}}, b: {{float: [0, 3]}}}}
training:
  epochs: {EPOCHS}
  batch_size: {{int: [16, 512]}}
  optimizer:
    name: sgd
    lr: {{float: [0.001, 1.0], log: true}}
    momentum: {{float: [0, 0.99]}}
    weight_decay: {{float: [1.0e-6, 0.1], log: true}}
    nesterov: {{choice: [true, false]}}
  label_smoothing: {{float: [0, 0.2]}}
  augmentation: {{flip: {{choice: [true, false]}}, crop: {{int: [0, 4]}}}}
search: {{trials: TRIALS, seed: SEED, sampler: {{name: RandomSampler}}}}
"""

Figures = dict[str, float]


def curve(number: int) -> Iterator[dict[str, float]]:
    """Fifteen epochs of four metrics, other ones for every trial."""
    best = 0.5 + int(hashlib.sha256(str(number).encode()).hexdigest()[:4], 16) / 2**17
    for epoch in range(1, EPOCHS + 1):
        accuracy = best * (1 - 0.8**epoch)
        yield {
            "epoch": epoch,
            "val_accuracy": accuracy,
            "val_loss": 1 - accuracy,
            "train_accuracy": accuracy,
            "train_loss": 1 - accuracy,
        }


def params(number: int) -> dict[str, str]:
    """Twenty params of a peer's trial."""
    return {f"group.param_{index}": f"{number / (index + 1):.12f}" for index in range(20)}


def tags(number: int) -> dict[str, str]:
    """Eight tags of a peer's trial."""
    return {f"tag_{index}": f"trial {number}" for index in range(8)}


class Clock:
    """CPU seconds since it was made, of this thread and of this process, without `pause`d ones."""

    def __init__(self) -> None:
        self._began = time.thread_time(), time.process_time()

    def skip(self, seconds: float) -> None:
        thread, process = self._began
        self._began = thread + seconds, process + seconds

    def figures(self, trials: int) -> Figures:
        thread, process = self._began
        return {
            "thread_ms": 1000 * (time.thread_time() - thread) / trials,
            "process_ms": 1000 * (time.process_time() - process) / trials,
        }


# ---- ours ------------------------------------------------------------------------------------


def our_study(scratch: Path, trials: int, seed: int) -> Any:
    """A study whose networks cost nothing to look at."""
    import spaces
    from search.study.study import Study
    from search.trial import Candidate

    path = scratch / "recording.yaml"
    path.write_text(SPACE.replace("TRIALS", str(trials)).replace("SEED", str(seed)))
    space = spaces.load(path)

    def examine(values: dict[str, Any]) -> Candidate:
        config = space.at(values).model_dump(mode="json")
        key = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
        kernels = {f"stage{n}.block1": 3 for n in (1, 2, 3)}
        size = values["backbone.width"] ** 2 * 1e5
        costs = {"params": size, "macs": size * 100}
        return Candidate(config, key, key, costs, kernels, "blocks", f"w{key[:6]} eca s1,2,3")

    reference = {"params": 1e7, "macs": 1e9}
    return Study.create(
        scratch / "recording", space, examine, reference=reference, chance=0.1, versions={}
    )


def recorded(study: Any, handed: Callable[[Any], None]) -> float:
    """Drive a study to its end in this thread; the CPU seconds of proposing."""
    from search.trial import Ending

    proposing = 0.0
    while True:
        began = time.thread_time()
        assignment = study.next()
        proposing += time.thread_time() - began
        if assignment is None:
            return proposing
        study.start(assignment, "here:1")
        for metrics in curve(assignment.trial):
            study.report(assignment.trial, 0, metrics)
            study.commit(now=False)
        study.end(assignment.trial, 0, Ending("finished", ""))
        study.commit()
        for trial in study.touched():
            handed(trial)


def drawing() -> list[float]:
    """From now on, the CPU seconds that each drawing of a front takes."""
    from search.front import plots

    took: list[float] = []

    def timed(draw: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def drawn(study: Any) -> Any:
            began = time.thread_time()
            picture = draw(study)
            took.append(time.thread_time() - began)
            return picture

        return drawn

    plots.png, plots.html = timed(plots.png), timed(plots.html)
    return took


def ours_inprocess(trials: int, seed: int, scratch: Path) -> Figures:
    """Everything in one process."""
    from search.store import default_uri
    from search.tracking.following import Tracking

    study = our_study(scratch, trials, seed)
    tracking = Tracking(default_uri(scratch), study.name, study, say=print)
    drawn = drawing()
    began = time.process_time()
    tracking._opened()
    once = time.process_time() - began
    tracking.start()
    clock = Clock()
    clock.skip(recorded(study, tracking.submit))
    study.close()
    thread = clock.figures(trials)["thread_ms"]
    assert tracking.close(timeout=600)
    clock.skip(sum(drawn))
    process = clock.figures(trials)["process_ms"]
    return {
        "thread_ms": thread,
        "process_ms": process,
        "total_ms": process,
        "once_ms": 1000 * (once + sum(drawn)),
    }


# ---- MLflow's own ways -----------------------------------------------------------------------


def opened(scratch: Path) -> tuple[Any, str, float]:
    """A client of a fresh store, an experiment in it, and the CPU seconds of both."""
    began = time.process_time()
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{scratch}/mlflow.db")
    experiment = client.create_experiment("recording", artifact_location=f"file://{scratch}/files")
    return client, experiment, time.process_time() - began


def per_call(trials: int, seed: int, scratch: Path, *, synchronous: bool = True) -> Figures:
    """A call for everything, as most scripts do it."""
    client, experiment, once = opened(scratch)
    clock = Clock()
    for number in range(trials):
        run = client.create_run(experiment, run_name=f"trial {number}").info.run_id
        for name, value in params(number).items():
            client.log_param(run, name, value, synchronous=synchronous)
        for name, value in tags(number).items():
            client.set_tag(run, name, value, synchronous=synchronous)
        for metrics in curve(number):
            step = int(metrics.pop("epoch"))
            for name, value in metrics.items():
                client.log_metric(run, name, value, step=step, synchronous=synchronous)
        if synchronous:
            client.set_terminated(run)
    thread = clock.figures(trials)["thread_ms"]
    if not synchronous:
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{scratch}/mlflow.db")
        mlflow.flush_async_logging()
        for run in client.search_runs([experiment], max_results=trials):
            client.set_terminated(run.info.run_id)
    process = clock.figures(trials)["process_ms"]
    written = client.search_runs([experiment], max_results=trials)
    assert all(len(run.data.params) == 20 and len(run.data.metrics) == 4 for run in written)
    return {
        "thread_ms": thread,
        "process_ms": process,
        "total_ms": process,
        "once_ms": 1000 * once,
    }


def asynchronous(trials: int, seed: int, scratch: Path) -> Figures:
    """MLflow's threads write; the calls return at once."""
    return per_call(trials, seed, scratch, synchronous=False)


def batched(trials: int, seed: int, scratch: Path) -> Figures:
    """One batch a trial, at its end."""
    from mlflow.entities import Metric, Param, RunTag

    client, experiment, once = opened(scratch)
    clock = Clock()
    for number in range(trials):
        run = client.create_run(experiment, run_name=f"trial {number}").info.run_id
        now = int(time.time() * 1000)
        points = [
            Metric(name, value, now, int(metrics["epoch"]))
            for metrics in curve(number)
            for name, value in metrics.items()
            if name != "epoch"
        ]
        client.log_batch(
            run,
            points,
            [Param(name, value) for name, value in params(number).items()],
            [RunTag(name, value) for name, value in tags(number).items()],
        )
        client.set_terminated(run)
    figures = clock.figures(trials)
    return {**figures, "total_ms": figures["process_ms"], "once_ms": 1000 * once}


# ---- over Ray --------------------------------------------------------------------------------


def noted(spent: Path) -> None:
    """Keep what this worker has used when a trial of its ends."""
    with (spent / str(os.getpid())).open("a") as file:
        file.write(json.dumps([time.thread_time(), time.process_time()]) + "\n")


def over_ray(trials: int, scratch: Path, drive: Callable[[], None]) -> Figures:
    """Figures of the driver and of its workers, each from the end of its first trial to its last.

    What comes before is its imports.
    """
    from search.execution import ray_tune

    with ray_tune.connected("local", cpus=WORKERS):
        clock = Clock()
        drive()
        driver = clock.figures(trials)["process_ms"]
    cpu, counted = [0.0, 0.0], 0
    for path in (scratch / "spent").iterdir():
        notes = [json.loads(line) for line in path.read_text().splitlines()]
        counted += len(notes) - 1
        spans = zip(cpu, notes[0], notes[-1], strict=True)
        cpu = [so_far + last - first for so_far, first, last in spans]
    thread, process = (1000 * seconds / counted for seconds in cpu)
    return {"thread_ms": thread, "process_ms": process, "total_ms": driver + process}


def ours_ray(trials: int, seed: int, scratch: Path) -> Figures:
    """Workers yield, the driver records."""
    from search.execution import ray_tune
    from search.execution.worker import Workplace
    from search.store import default_uri
    from search.tracking.following import Tracking
    from search.trial import Ending

    spent = scratch / "spent"
    spent.mkdir()
    study = our_study(scratch, trials, seed)
    tracking = Tracking(default_uri(scratch), study.name, study, say=print)
    drawn = drawing()
    tracking._opened()
    tracking.start()
    proposing = [0.0]
    propose = study.next

    def proposed() -> Any:
        began = time.thread_time()
        assignment = propose()
        proposing[0] += time.thread_time() - began
        return assignment

    study.next = proposed

    class Reports(ray_tune.Attempt):
        @staticmethod
        def attempt(assignment: Any, workplace: Any) -> Iterator[Any]:
            yield from curve(assignment.trial)
            noted(spent)
            yield Ending("finished", "")

    def watch(study: Any) -> None:
        for trial in study.touched():
            if trial.outcome is not None:
                tracking.submit(trial)

    def drive() -> None:
        ray_tune.drive(
            study,
            Workplace(checkpoints=str(scratch / "checkpoints")),
            cpu=1,
            gpu=0,
            slots=lambda: WORKERS,
            watch=watch,
            trainable=Reports,
        )
        study.close()
        assert tracking.close(timeout=600)

    figures = over_ray(trials, scratch, drive)
    figures["total_ms"] -= 1000 * (proposing[0] + sum(drawn)) / trials
    return figures


def stock_ray(trials: int, seed: int, scratch: Path, *, callback: bool) -> Figures:
    """Ray Tune with its MLflow callback, or with no logger at all."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    spent = scratch / "spent"
    spent.mkdir()

    class Stock(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.reports = curve(config["number"])

        def step(self) -> dict[str, Any]:
            metrics = next(self.reports)
            done = metrics["epoch"] == EPOCHS
            if done:
                noted(spent)
            return {**metrics, "done": done}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            return None

    callbacks = []
    if callback:
        opened(scratch)
        callbacks = [
            MLflowLoggerCallback(
                tracking_uri=f"sqlite:///{scratch}/mlflow.db",
                experiment_name="recording",
                tags=tags(0),
            )
        ]
    uniform = {name: tune.uniform(0, 1) for name in list(params(0))[:19]}

    def drive() -> None:
        results = tune.Tuner(
            Stock,
            param_space={**uniform, "number": tune.grid_search(list(range(trials)))},
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=WORKERS),
            run_config=tune.RunConfig(
                storage_path=str(scratch / "tune"), verbose=0, callbacks=callbacks
            ),
        ).fit()
        assert len(results) == trials
        assert not results.errors

    return over_ray(trials, scratch, drive)


def ray_bare(trials: int, seed: int, scratch: Path) -> Figures:
    """Ray Tune alone."""
    return stock_ray(trials, seed, scratch, callback=False)


def ray_callback(trials: int, seed: int, scratch: Path) -> Figures:
    """Ray Tune with MLflowLoggerCallback."""
    return stock_ray(trials, seed, scratch, callback=True)


SYSTEMS: dict[str, Callable[[int, int, Path], Figures]] = {
    "ours-inprocess": ours_inprocess,
    "ray-bare": ray_bare,
    "ours-ray": ours_ray,
    "batched": batched,
    "per-call": per_call,
    "async": asynchronous,
    "ray-callback": ray_callback,
}
SLOW = ("per-call", "async")
OVER_RAY = ("ours-ray", "ray-callback")


# ---- the front of a large study --------------------------------------------------------------


def front(trials: int, scratch: Path) -> Figures:
    """Seconds to the front of a study of so many trials, each in a fresh process."""
    from search.store import default_uri
    from search.tracking.following import Tracking

    study = our_study(scratch, trials, 0)
    recorded(study, lambda trial: None)
    study.close()
    Tracking(default_uri(scratch), study.name, study, say=print).project(study)
    journal = """
import sys, time
import search, search.execution.launch, optuna
began = time.perf_counter()
front = search.load(sys.argv[1]).pareto()
print(time.perf_counter() - began, len(front))
"""
    tag = """
import sys, time
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
experiment = client.get_experiment_by_name("recording").experiment_id
began = time.perf_counter()
front = client.search_runs([experiment], "tags.`eca.front` = '1'")
print(time.perf_counter() - began, len(front))
"""
    found = {}
    for name, code, where in (
        ("front_journal_s", journal, str(study.folder)),
        ("front_mlflow_s", tag, default_uri(scratch)),
    ):
        command = [sys.executable, "-c", code, where]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, members = done.stdout.split()
        found[name] = float(seconds)
        assert int(members) == len(study.pareto()), name
    return {**found, "members": len(study.pareto()), "trials": trials}


# ---- the run ---------------------------------------------------------------------------------


def child(name: str, trials: int, seed: int) -> Figures:
    """One system, measured in a process of its own."""
    command = [sys.executable, __file__, "--child", name, str(trials), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-4000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Rounds of all systems in turn."""
    rows = []
    for index in range(arguments.rounds):
        for name in SYSTEMS:
            if arguments.only and name not in arguments.only:
                continue
            trials = min(arguments.trials, arguments.slow) if name in SLOW else arguments.trials
            row = {"system": name, "round": index, "trials": trials, **child(name, trials, index)}
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians with ranges; of those over Ray, what is over bare Ray Tune in the same round."""
    bare = {row["round"]: row for row in rows if row["system"] == "ray-bare"}
    lines = []
    for system in SYSTEMS:
        own = [row for row in rows if row["system"] == system]
        if not own:
            continue
        line: dict[str, Any] = {"system": system, "trials": own[0]["trials"]}
        for name in ("thread_ms", "process_ms", "total_ms"):
            off = system in OVER_RAY
            values = [
                row[name] - (bare[row["round"]][name] if off and row["round"] in bare else 0)
                for row in own
            ]
            line[name] = round(statistics.median(values), 2)
            line[f"{name[:-3]}_range"] = [round(min(values), 2), round(max(values), 2)]
        once = [row["once_ms"] for row in own if "once_ms" in row]
        line["once_ms"] = round(statistics.median(once)) if once else None
        lines.append(line)
    return lines


def main() -> None:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--slow", type=int, default=20, help="trials of the slow ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--front", type=int, default=2000, help="trials of a large study")
    parser.add_argument("--only", nargs="*", choices=SYSTEMS)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.child:
        name, trials, seed = arguments.child
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(SYSTEMS[name](int(trials), int(seed), Path(scratch))))
        return
    about = circumstances()
    rows = measure(arguments)
    table = summary(rows)
    columns = list(table[0])
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for line in table:
        print("| " + " | ".join(str(line[column]) for column in columns) + " |")
    fronts: Figures = {}
    if arguments.front:
        with tempfile.TemporaryDirectory() as scratch:
            fronts = front(arguments.front, Path(scratch))
        print(json.dumps(fronts))
    result = {
        **about,
        "aims": AIMS,
        "summary": table,
        "front": fronts,
        "rounds": rows,
    }
    out = keep("recording", result, arguments.out)
    print(f"written to {out}")


if __name__ == "__main__":
    main()
