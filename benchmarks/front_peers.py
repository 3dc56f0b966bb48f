"""A peer of benchmarks/time_to_front.py in a process of its own, as its documentation has it.

    python benchmarks/front_peers.py PEER SPACE FOLDER --seed N --began T --seconds S

ray        Ray Tune: OptunaSearch with NSGA-II over three metrics, ASHA on the accuracy,
           MLflowLoggerCallback into SQLite, a process a trial (Ray's default)
ray-reuse  the same with `reuse_actors=True`, which the documentation advises where trials are short
optuna     `study.optimize(n_jobs=...)` with Optuna's own default sampler, each run in MLflow

All train by `trainers.train` on a point of the same space. Each trial that ends is a line of
FOLDER/trials.jsonl: seconds since T (unix time at which the process was asked for), its values, its
last accuracy, its epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection

import spaces
import trainers
from search.front.pareto import judged
from search.sampling import samplers
from spaces import Space

Values = dict[str, Any]


class Ended:
    """The trials that have ended, each on the disk as it does."""

    def __init__(self, folder: Path, began: float) -> None:
        self.path = folder / "trials.jsonl"
        self.began = began

    def add(self, values: Values, accuracy: float, epochs: int) -> None:
        at = time.time() - self.began
        row = {"at": at, "values": values, "accuracy": accuracy, "epochs": epochs}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def trained(space: Space, values: Values, seed: int) -> Iterator[dict[str, float]]:
    """What a trial reports: the epoch's metrics, and the costs that are objectives beside them."""
    point = space.at(values)
    cost = trainers.measure(point)
    for metrics in trainers.train(point, seed=seed):
        yield {**metrics, "params": float(cost.params), "macs": float(cost.macs)}


def defined(space: Space, trial: optuna.Trial) -> None:
    """The space as a define-by-run function, which OptunaSearch pickles every now and then."""
    space.fill(lambda parameter: samplers.suggest(trial, parameter))


def ray_tune(
    space: Space, folder: Path, seed: int, until: float, ended: Ended, *, reuse: bool
) -> None:
    """Ray Tune by the book: searcher, scheduler and logger are its own."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    goals = space.search.objectives
    metric = judged(goals)
    wanted = space.search.resources
    resources: dict[str, float] = {"cpu": wanted.cpu}

    def trainable(config: Values) -> None:
        for metrics in trained(space, config, seed):
            tune.report(metrics)

    class Noted(tune.Callback):  # type: ignore[misc]
        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            last = trial.last_result
            ended.add(trial.config, last[metric], int(last["epoch"]))

    ray.init(address="local", log_to_driver=False)
    gpus = ray.cluster_resources().get("GPU", 0)
    if gpus and wanted.gpu:
        resources["gpu"] = 1.0 if wanted.gpu == "auto" else wanted.gpu
    search = OptunaSearch(
        partial(defined, space),
        metric=list(goals),
        mode=[goal.goal for goal in goals.values()],
        sampler=optuna.samplers.NSGAIISampler(seed=seed),
    )
    tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            num_samples=space.search.trials,
            search_alg=search,
            scheduler=ASHAScheduler(
                metric=metric, mode=goals[str(metric)].goal, max_t=_epochs(space)
            ),
            max_concurrent_trials=slots(space, gpus),
            time_budget_s=max(1.0, until - time.time()),
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(
            name="front",
            storage_path=str(folder / "ray"),
            callbacks=[
                MLflowLoggerCallback(
                    tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="front"
                ),
                Noted(),
            ],
            verbose=0,
        ),
    ).fit()


def by_optuna(space: Space, folder: Path, seed: int, until: float, ended: Ended) -> None:
    """Optuna alone: threads, its default sampler, MLflow's fluent calls in the objective."""
    import mlflow
    import torch

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("front")
    goals = space.search.objectives
    torch.set_num_threads(1)

    def objective(trial: optuna.Trial) -> list[float]:
        values = space.fill(lambda parameter: samplers.suggest(trial, parameter))
        metrics: dict[str, float] = {}
        with mlflow.start_run(run_name=f"trial-{trial.number}"):
            mlflow.log_params(values)
            for metrics in trained(space, values, seed):
                mlflow.log_metrics(metrics, step=int(metrics["epoch"]))
        ended.add(values, metrics[str(judged(goals))], int(metrics["epoch"]))
        return [metrics[name] for name in goals]

    ways = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
    study = optuna.create_study(directions=[ways[goal.goal] for goal in goals.values()])
    study.sampler = type(study.sampler)(seed=seed)  # type: ignore[call-arg]
    study.optimize(
        objective,
        n_trials=space.search.trials,
        timeout=max(1.0, until - time.time()),
        n_jobs=slots(space, torch.cuda.device_count()),
    )


def slots(space: Space, gpus: float) -> int:
    """How many trials run at a time: as many as the space's resources allow here."""
    wanted = space.search.resources
    most = space.search.max_concurrent or 1_000
    if gpus and wanted.gpu:
        return min(most, int(gpus / (1.0 if wanted.gpu == "auto" else wanted.gpu)))
    return min(most, max(1, int((os.cpu_count() or 1) / wanted.cpu)))


def _epochs(space: Space) -> int:
    return int(space.at(space.sample(seed=0)).training.epochs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=["ray", "ray-reuse", "optuna"])
    parser.add_argument("space", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--began", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = spaces.load(given.space)
    ended = Ended(given.folder, given.began)
    until = given.began + given.seconds
    if given.peer == "optuna":
        by_optuna(space, given.folder, given.seed, until, ended)
    else:
        reuse = given.peer == "ray-reuse"
        ray_tune(space, given.folder, given.seed, until, ended, reuse=reuse)


if __name__ == "__main__":
    main()
