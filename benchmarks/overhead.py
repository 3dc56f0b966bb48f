"""What orchestration costs: our study against stock Ray Tune and Optuna, in one run.

    python benchmarks/overhead.py [--trials 200] [--sleeping 100] [--rounds 3] [--only NAME ...]

Every system runs the same trials, two at a time where it can: 12 reports each, five free
parameters; "empty" trials take no time, "sleeping" ones one second. What each records:

ours-ray        journal (fsynced) and MLflow, everything on, one driver, Ray actors
ours-inprocess  the same study without Ray, one trial at a time
ray-bare        Ray Tune, random search, actors reused, all loggers off: the floor of Ray Tune
ray-reuse       Ray Tune with OptunaSearch and its default loggers, actors reused
ray-default     the same as Ray does it by default: a process a trial (fewer trials: see `trials`)
optuna-sqlite   Optuna with SQLite storage, n_jobs=2: every report is a row

"to the journal" ends with the last fsynced record, "to MLflow" when the store is level too. ms per
trial above ideal = (wall - trials * seconds / workers) / trials. Rounds alternate; medians, ranges
are written to benchmarks/results/overhead-<date>.json. Nothing imports torch but our examiner.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import ray
from kept import RESULTS, circumstances, keep
from ray import tune

import spaces
from search.beforehand.examine import examiner
from search.execution import inprocess, ray_tune
from search.execution.worker import Workplace
from search.store import default_uri
from search.study.study import Study
from search.tracking.following import Tracking
from search.trial import Assignment, Ending

REPORTS = 12
WORKERS = 2
SPACE = """\
name: overhead
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {float: [0.25, 1.0], step: 0.25}}
attention: {name: eca, mapping: {name: log2, gamma: {float: [1, 4]}, b: {float: [0, 3]}}}
training:
  epochs: 12
  batch_size: 32
  optimizer: {name: sgd, lr: {float: [0.001, 1.0], log: true}, momentum: {float: [0, 0.99]}}
search: {trials: TRIALS, seed: SEED, sampler: {name: RandomSampler}}
"""


def reports(seconds: float) -> Iterator[dict[str, float]]:
    """What a trial reports: twelve epochs in so many seconds."""
    for epoch in range(1, REPORTS + 1):
        if seconds:
            time.sleep(seconds / REPORTS)
        yield {
            "epoch": epoch,
            "val_accuracy": 1 - 0.5**epoch,
            "val_loss": 0.5**epoch,
            "train_accuracy": 1 - 0.5**epoch,
            "train_loss": 0.5**epoch,
        }


def empty(assignment: Assignment, workplace: Workplace) -> Iterator[dict[str, float] | Ending]:
    """An attempt that trains nothing."""
    yield from reports(0)
    yield Ending("finished", "")


def sleeping(assignment: Assignment, workplace: Workplace) -> Iterator[dict[str, float] | Ending]:
    """An attempt of one second."""
    yield from reports(1)
    yield Ending("finished", "")


class EmptyAttempt(ray_tune.Attempt):
    """Ray actors that train nothing."""

    attempt = staticmethod(empty)


class SleepingAttempt(ray_tune.Attempt):
    """Ray actors that sleep a second a trial."""

    attempt = staticmethod(sleeping)


class Stock(tune.Trainable):
    """The same trial for stock Ray Tune."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reports = reports(config["seconds"])

    def step(self) -> dict[str, Any]:
        metrics = next(self.reports)
        return {**metrics, "done": metrics["epoch"] == REPORTS}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.reports = reports(new_config["seconds"])
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        return None


Times = dict[str, float]


def ours(trials: int, seconds: float, seed: int, *, over_ray: bool) -> Times:
    """Our study, everything recorded."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "overhead.yaml"
        path.write_text(SPACE.replace("TRIALS", str(trials)).replace("SEED", str(seed)))
        space = spaces.load(path)
        examine = examiner(space)
        examine(space.sample(seed=0))  # torch's import and the data's digest are not orchestration
        folder = Path(scratch) / "overhead"
        study = Study.create(
            folder, space, examine, reference={"params": 1e5, "macs": 1e6}, chance=0.1
        )
        tracking = Tracking(default_uri(Path(scratch)), study.name, study, say=print)
        tracking.start()

        def watch(study: Study) -> None:
            for trial in study.touched():
                if trial.outcome is not None:
                    tracking.submit(trial)

        began = time.perf_counter()
        workplace = Workplace(checkpoints=str(folder / "checkpoints"))
        if over_ray:
            ray_tune.drive(
                study,
                workplace,
                cpu=1,
                gpu=0,
                slots=lambda: WORKERS,
                watch=watch,
                trainable=SleepingAttempt if seconds else EmptyAttempt,
            )
        else:
            attempt = sleeping if seconds else empty
            inprocess.drive(study, workplace, watch=watch, attempt=attempt)
        study.close()
        journal = time.perf_counter() - began
        tracking.close(timeout=600)
        both = time.perf_counter() - began
        finished = sum(trial.outcome == "finished" for trial in study.trials)
        assert finished == trials, f"{finished} of {trials} finished"
    return {"journal": journal, "mlflow": both}


def stock(trials: int, seconds: float, seed: int, *, bare: bool, reuse: bool) -> Times:
    """Ray Tune as people use it; `bare` has no searcher and no loggers."""
    environment = {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_MAX_PENDING_TRIALS_PG": str(WORKERS)}
    if bare:
        environment["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    uniform = {name: tune.uniform(0, 1) for name in "abcde"}
    search = None
    if not bare:
        from ray.tune.search import ConcurrencyLimiter
        from ray.tune.search.optuna import OptunaSearch

        search = ConcurrencyLimiter(
            OptunaSearch(metric="val_accuracy", mode="max", seed=seed), max_concurrent=WORKERS
        )
    with tempfile.TemporaryDirectory() as scratch, setting(environment):
        began = time.perf_counter()
        results = tune.Tuner(
            tune.with_resources(Stock, {"cpu": 1}),
            param_space={**uniform, "seconds": seconds},
            tune_config=tune.TuneConfig(
                num_samples=trials,
                reuse_actors=reuse,
                search_alg=search,
                max_concurrent_trials=WORKERS if bare else None,
            ),
            run_config=tune.RunConfig(storage_path=scratch, verbose=0),
        ).fit()
        took = time.perf_counter() - began
        assert len(results) == trials
        assert not results.errors
    return {"journal": took}


def optuna_sqlite(trials: int, seconds: float, seed: int) -> Times:
    """Optuna alone, two threads, one SQLite file."""

    def objective(trial: optuna.Trial) -> float:
        for name in "abcde":
            trial.suggest_float(name, 0, 1)
        value = 0.0
        for metrics in reports(seconds):
            value = metrics["val_accuracy"]
            trial.report(value, int(metrics["epoch"]))
        return value

    with tempfile.TemporaryDirectory() as scratch:
        study = optuna.create_study(
            storage=f"sqlite:///{scratch}/optuna.db",
            sampler=optuna.samplers.RandomSampler(seed=seed),
            direction="maximize",
        )
        began = time.perf_counter()
        study.optimize(objective, n_trials=trials, n_jobs=WORKERS)
        return {"journal": time.perf_counter() - began}


SYSTEMS: dict[str, tuple[Callable[..., Times], dict[str, Any], int]] = {
    "ours-ray": (ours, {"over_ray": True}, WORKERS),
    "ray-bare": (stock, {"bare": True, "reuse": True}, WORKERS),
    "ours-inprocess": (ours, {"over_ray": False}, 1),
    "ray-reuse": (stock, {"bare": False, "reuse": True}, WORKERS),
    "optuna-sqlite": (optuna_sqlite, {}, WORKERS),
    "ray-default": (stock, {"bare": False, "reuse": False}, WORKERS),
}


@contextlib.contextmanager
def setting(environment: dict[str, str]) -> Iterator[None]:
    """Environment variables for a while."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    yield
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Rounds of all systems in turn."""
    rows: list[dict[str, Any]] = []
    kinds = [("empty", arguments.trials, 0.0), ("sleeping", arguments.sleeping, 1.0)]
    for kind, count, seconds in kinds:
        rounds = arguments.rounds if kind == "empty" else 1
        for index in range(rounds if count else 0):
            for name, (run, options, workers) in SYSTEMS.items():
                slow = name == "ray-default" or (name == "ours-inprocess" and seconds)
                if (arguments.only and name not in arguments.only) or (slow and index):
                    continue
                trials = min(count, arguments.slow) if slow else count
                times = run(trials, seconds, index, **options)
                ideal = trials * seconds / workers
                row = {
                    "kind": kind,
                    "system": name,
                    "round": index,
                    "trials": trials,
                    "ms_per_trial": 1000 * (times["journal"] - ideal) / trials,
                    "reports_per_s": trials * REPORTS / times["journal"],
                }
                if "mlflow" in times:
                    row["ms_per_trial_mlflow_level"] = 1000 * (times["mlflow"] - ideal) / trials
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median and range of each system, and its ratio to bare Ray Tune of the same round."""
    lines = []
    for kind in ("empty", "sleeping"):
        bare = {
            row["round"]: row["ms_per_trial"]
            for row in rows
            if row["kind"] == kind and row["system"] == "ray-bare"
        }
        for system in SYSTEMS:
            own = [row for row in rows if row["kind"] == kind and row["system"] == system]
            if not own:
                continue
            figures = [row["ms_per_trial"] for row in own]
            ratios = [r["ms_per_trial"] / bare[r["round"]] for r in own if r["round"] in bare]
            lines.append(
                {
                    "kind": kind,
                    "system": system,
                    "trials": own[0]["trials"],
                    "ms_per_trial": round(statistics.median(figures), 2),
                    "range": [round(min(figures), 2), round(max(figures), 2)],
                    "x_ray_bare": round(statistics.median(ratios), 2) if ratios else None,
                    "reports_per_s": round(statistics.median(r["reports_per_s"] for r in own)),
                    "ms_to_mlflow": round(
                        statistics.median(r.get("ms_per_trial_mlflow_level", 0) for r in own), 2
                    )
                    or None,
                }
            )
    return lines


def main() -> None:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200, help="empty trials")
    parser.add_argument("--sleeping", type=int, default=100, help="trials of one second")
    parser.add_argument("--slow", type=int, default=20, help="trials of the slowest systems")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=SYSTEMS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    about = circumstances()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray").setLevel(logging.ERROR)
    with ray_tune.connected("local", cpus=WORKERS):
        ray.get([ray.remote(lambda: None).remote() for _ in range(WORKERS)])
        rows = measure(arguments)
    table = summary(rows)
    columns = list(table[0])
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for line in table:
        print("| " + " | ".join(str(line[column]) for column in columns) + " |")
    result = {
        **about,
        "summary": table,
        "rounds": rows,
    }
    out = keep("overhead", result, arguments.out)
    print(f"written to {out}")


if __name__ == "__main__":
    main()
