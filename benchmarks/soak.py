"""A search of digits killed with SIGKILL again and again, ours and the stock stack's.

    python benchmarks/soak.py [--kills 20] [--trials 24] [--executor ray|inprocess] [--only NAME]

Both train the same networks with the same code; their driver is killed at random moments and then
started anew, as a requeued job script does it, until so many kills are done; the last one may end.

ours    `eca-search run --resume`
stock   Ray Tune with OptunaSearch and MLflowLoggerCallback, checkpoints reported every epoch,
        `Tuner.restore(..., resume_errored=True)` where there is something to restore

What is counted: the trials that finished; the child runs that MLflow then holds, and those of them
that are RUNNING for ever; curves that equal the same config trained alone and undisturbed, epoch by
epoch; epochs that were begun more than once, against the aim of one per kill and trial that ran.
With `--executor inprocess` there is one worker, and our journal must equal, but for times, that of
the same search without a kill. Results go to benchmarks/results/soak-<executor>-<date>.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kept import RESULTS, circumstances, keep

ROOT = Path(__file__).parent.parent
WORKERS = 2
STARTING = 8.0
"""Seconds within which one kill in five comes, counted from the start of the process."""
LINGER = 15.0
"""Seconds that what a dead driver left running has to end by itself."""
GIVEN_UP = 3
"""A driver that fails so often in a row will never come back."""
CLOCK = ("seconds", "images_per_second", "time")
SPACE = """\
name: soak
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5, 0.75, 1.0]}}
attention:
  choice:
    - {name: none}
    - name: eca
      placement: {name: stages, stages: {subset: [1, 2, 3]}}
      mapping: {name: log2, gamma: {float: [1, 4], step: 0.5}, b: {float: [-1, 3], step: 1}}
training: {epochs: EPOCHS, batch_size: 64, optimizer: {name: sgd, lr: {float: [0.02, 0.2]}}}
search: {trials: TRIALS, seed: 0, sampler: {name: TPESampler, n_startup_trials: 6}}
"""

# Read by every Python process of a child, Ray's workers included: it tells of each epoch's begin.
WATCHER = """
import hashlib, importlib.abc, importlib.machinery, os, sys

class Watcher(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "trainers.train":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def watched(module):
            execute(module)
            begin, advance = module.Run.__init__, module.Run.advance
            def init(run, config, seed, *rest, **more):
                begin(run, config, seed, *rest, **more)
                text = config.model_dump_json() + str(seed)
                run.watched = hashlib.sha256(text.encode()).hexdigest()[:16]
            def tell(run, epoch, *rest):
                line = f"{run.watched} {epoch}\\n".encode()
                with open(os.environ["SOAK_EPOCHS"], "ab", buffering=0) as file:
                    file.write(line)
                return advance(run, epoch, *rest)
            module.Run.__init__, module.Run.advance = init, tell
        spec.loader.exec_module = watched
        return spec

sys.meta_path.insert(0, Watcher())
"""


# ---- the two searches, each a process of its own ------------------------------------------------


def ours(scratch: Path, executor: str) -> list[str]:
    """The command that starts our search or goes on with it."""
    space = str(scratch / "soak.yaml")
    options = ["--resume", "--out", str(scratch / "runs"), "--executor", executor]
    return [sys.executable, "-m", "search", "run", space, *options]


def stock(scratch: Path, executor: str) -> list[str]:
    """The same of the stock stack: this file, told to be that driver."""
    return [sys.executable, __file__, "--stock", str(scratch)]


def drive_stock(scratch: Path) -> None:
    """Ray Tune, Optuna and MLflow as their documentation puts them together."""
    import optuna
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    store = f"sqlite:///{scratch / 'mlflow.db'}"
    objectives = {"val_accuracy": "max", "params": "min", "macs": "min"}
    folder = scratch / "results" / "soak"
    if tune.Tuner.can_restore(str(folder)):
        tuner = tune.Tuner.restore(str(folder), stock_trial, resume_errored=True)
    else:
        trials = int(os.environ["SOAK_TRIALS"])
        searcher = OptunaSearch(
            stock_space, metric=list(objectives), mode=list(objectives.values()), seed=0
        )
        tuner = tune.Tuner(
            stock_trial,
            tune_config=tune.TuneConfig(
                num_samples=trials,
                search_alg=ConcurrencyLimiter(searcher, max_concurrent=WORKERS),
            ),
            run_config=tune.RunConfig(
                name="soak",
                storage_path=str(scratch / "results"),
                callbacks=[MLflowLoggerCallback(tracking_uri=store, experiment_name="soak")],
                verbose=0,
            ),
        )
    results = tuner.fit()
    finished = [result for result in results if result.error is None and result.metrics]
    (scratch / "finished").write_text(str(len(finished)))


def stock_space(trial: Any) -> None:
    """The same space, asked the same way."""
    import spaces
    from search.sampling import samplers

    space = spaces.load(os.environ["SOAK_SPACE"])
    space.fill(lambda parameter: samplers.suggest(trial, parameter))


def stock_trial(values: dict[str, Any]) -> None:
    """Train a config; every epoch is reported with a checkpoint."""
    import torch
    from ray import tune

    import spaces
    import trainers

    torch.set_num_threads(1)
    config = spaces.load(os.environ["SOAK_SPACE"]).at(values)
    cost = trainers.measure(config)
    with tempfile.TemporaryDirectory() as place:
        if stored := tune.get_checkpoint():
            with stored.as_directory() as folder:
                shutil.copytree(folder, place, dirs_exist_ok=True)
        for metrics in trainers.train(
            config, seed=0, device="cpu", checkpoint=place, resume=stored is not None
        ):
            told = {**metrics, "params": cost.params, "macs": cost.macs}
            tune.report(told, checkpoint=tune.Checkpoint.from_directory(place))


# ---- the torture ---------------------------------------------------------------------------------


class Torture:
    """One search, killed at random moments until it is over."""

    def __init__(self, name: str, scratch: Path, arguments: argparse.Namespace) -> None:
        self.scratch = scratch
        self.command = SYSTEMS[name](scratch, arguments.executor)
        self.span = arguments.span
        self.random = random.Random(arguments.seed)
        self.epochs = scratch / "epochs"
        self.epochs.touch()
        (scratch / "site").mkdir()
        (scratch / "site" / "sitecustomize.py").write_text(WATCHER)
        text = SPACE.replace("TRIALS", str(arguments.trials))
        (scratch / "soak.yaml").write_text(text.replace("EPOCHS", str(arguments.epochs)))
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
            "PYTHONPATH": f"{scratch / 'site'}:{ROOT}",
            "SOAK_EPOCHS": str(self.epochs),
            "SOAK_SPACE": str(scratch / "soak.yaml"),
            "SOAK_TRIALS": str(arguments.trials),
            "ECA_SEARCH_CACHE": str(scratch / "cache"),
            "RAY_TMPDIR": str(scratch / "ray"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        self.kills = 0
        self.exits: list[int] = []

    def run(self, kills: int) -> None:
        """Kill so many drivers, then let one end; a search that ends before that is over."""
        while True:
            code = self.once(kill=self.kills < kills)
            if code is None:
                self.kills += 1
                continue
            self.exits.append(code)
            if code == 0 or self.exits[-GIVEN_UP:] == [code] * GIVEN_UP:
                return

    def once(self, *, kill: bool) -> int | None:
        """One driver; its exit code, or None where it was killed."""
        begun = self.epochs.stat().st_size
        log = open(self.scratch / "log", "ab")  # noqa: SIM115 - the child has it
        driver = subprocess.Popen(
            self.command, cwd=self.scratch, env=self.environment, stdout=log, stderr=log
        )
        log.close()
        early = self.random.random() < 0.2
        moment = self.random.uniform(0, STARTING if early else self.span)
        start = time.monotonic()
        while driver.poll() is None:
            training = self.epochs.stat().st_size > begun
            if not (early or training):
                start = time.monotonic()  # the moment is counted from the first epoch
            elif kill and time.monotonic() - start >= moment:
                left = dict(descendants(driver.pid))
                driver.send_signal(signal.SIGKILL)
                driver.wait()
                end(left)
                return None
            time.sleep(0.02)
        return driver.returncode


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Processes that it has started, and they, with when each began."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            yield int(child), began(int(child))
            yield from descendants(int(child))
        except OSError:
            continue  # it has ended meanwhile


def began(pid: int) -> str:
    """When a process began, in ticks since boot: with its number, that names it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def end(left: dict[int, str]) -> None:
    """What a dead driver left running may end by itself; after a while it is ended."""
    until = time.monotonic() + LINGER
    while alive := [pid for pid, start in left.items() if _is(pid, start)]:
        if time.monotonic() > until:
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _is(pid: int, start: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" and began(pid) == start
    except OSError:
        return False


# ---- and what was left --------------------------------------------------------------------------


def look_at_ours(torture: Torture, arguments: argparse.Namespace) -> dict[str, Any]:
    """What our study came to."""
    import search

    study = search.load(torture.scratch / "runs" / "soak")
    curves = {
        trial.number: (trial.config, trial.replicates[0].seed, trial.replicates[0].curve)
        for trial in study.trials
        if trial.replicates
    }
    row = {
        "trials": len(study.trials),
        "finished": study.outcomes()["finished"],
        **runs(torture.scratch / "runs" / "mlflow.db", "eca.trial"),
        "curves_equal": sum(alone(*curve) for curve in curves.values()),
    }
    if arguments.executor == "inprocess":
        with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
            twin = Torture("ours", Path(scratch), arguments)
            twin.run(0)
            row["journal_equal"] = decisions(torture.scratch) == decisions(twin.scratch)
    return row


def decisions(scratch: Path) -> list[dict[str, Any]]:
    """A journal without times, drivers and the attempts that kills made necessary."""
    from search.study import journal

    kept = []
    for record in journal.read(scratch / "runs" / "soak"):
        resumed = record["kind"] in ("driver", "start", "study") or (
            record["kind"] == "end" and record["outcome"] == "interrupted"
        )
        if not resumed:
            dropped = (*CLOCK, "seq", "fence", "attempt")
            record = {key: value for key, value in record.items() if key not in dropped}
            if "metrics" in record:
                record["metrics"] = timeless(record["metrics"])
            kept.append(record)
    return kept


def look_at_stock(torture: Torture, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the stock stack came to, as far as it can be told from MLflow."""
    finished = torture.scratch / "finished"
    store = torture.scratch / "mlflow.db"
    return {
        "trials": arguments.trials,
        "finished": int(finished.read_text()) if finished.exists() else 0,
        **runs(store, "trial_name"),
        "curves_equal": sum(alone(*curve) for curve in logged(torture, store)),
    }


def runs(store: Path, tag: str) -> dict[str, int]:
    """How many child runs the store holds, and how many of them claim to be running."""
    if not store.exists():
        return {"child_runs": 0, "running": 0}
    with sqlite3.connect(store) as db:
        statuses = [
            status
            for (status,) in db.execute(
                "select r.status from runs r join tags t on t.run_uuid = r.run_uuid and t.key = ?",
                [tag],
            )
        ]
    return {"child_runs": len(statuses), "running": statuses.count("RUNNING")}


def logged(torture: Torture, store: Path) -> Iterator[tuple[dict[str, Any], int, list[Any]]]:
    """Config, seed and curve of every stock run that has finished."""
    import spaces

    if not store.exists():
        return
    space = spaces.load(torture.scratch / "soak.yaml")
    with sqlite3.connect(store) as db:
        query = "select run_uuid from runs where status = 'FINISHED'"
        for (run,) in db.execute(query).fetchall():
            params = dict(db.execute("select key, value from params where run_uuid = ?", [run]))
            values = space.fill(lambda parameter, said=params: _typed(parameter, said))  # type: ignore[misc]
            rows = db.execute(
                "select step, key, value from metrics where run_uuid = ? order by step, timestamp",
                [run],
            ).fetchall()
            epochs = [value for _, key, value in rows if key == "epoch"]
            curve = [
                {key: value for at, key, value in rows if at == step}
                for step in sorted({step for step, _, _ in rows})
            ]
            whole = epochs == sorted(set(epochs))
            yield space.at(values).model_dump(mode="json"), 0, curve if whole else []


def _typed(parameter: Any, said: dict[str, str]) -> Any:
    """A parameter's value from the text that MLflow keeps."""
    text = said[parameter.name]
    if parameter.kind == "categorical":
        return next(choice for choice in parameter.choices if str(choice) == text)
    return int(text) if parameter.kind == "int" else float(text)


def alone(config: dict[str, Any], seed: int, curve: Any) -> bool:
    """Whether a curve equals that of its config trained alone and undisturbed."""
    import torch

    import trainers
    from spaces import Config

    torch.set_num_threads(1)
    undisturbed = [
        timeless(metrics)
        for metrics in trainers.train(Config.model_validate(config), seed=seed, device="cpu")
    ]
    kept = [
        {key: value for key, value in timeless(metrics).items() if key in undisturbed[0]}
        for metrics in curve
    ]
    return kept == undisturbed


def timeless(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics without those that a clock has made."""
    return {key: value for key, value in metrics.items() if key not in CLOCK}


SYSTEMS = {"ours": ours, "stock": stock}
LOOK = {"ours": look_at_ours, "stock": look_at_stock}


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Torture one system and count what is left."""
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as scratch:
        torture = Torture(name, Path(scratch), arguments)
        start = time.monotonic()
        torture.run(arguments.kills)
        took = time.monotonic() - start
        times = Counter(torture.epochs.read_text().splitlines())
        workers = 1 if name == "ours" and arguments.executor == "inprocess" else WORKERS
        return {
            "system": name,
            "kills": torture.kills,
            "exits": torture.exits,
            **LOOK[name](torture, arguments),
            "epochs": len(times),
            "epochs_begun_again": sum(times.values()) - len(times),
            "aim": torture.kills * workers,
            "seconds": round(took),
            **({"log": tail(torture.scratch / "log")} if torture.exits[-1] else {}),
        }


def tail(log: Path) -> list[str]:
    """What a driver that gave up said last."""
    return log.read_text(errors="replace").splitlines()[-5:]


def main() -> None:
    """Torture, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--span", type=float, default=8.0, help="seconds of training before a kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--executor", choices=["ray", "inprocess"], default="ray")
    parser.add_argument("--only", nargs="*", choices=SYSTEMS)
    parser.add_argument("--stock", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.stock:
        drive_stock(arguments.stock)
        return
    about = circumstances()
    rows = []
    for name in arguments.only or SYSTEMS:
        rows.append(measure(name, arguments))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    columns = [column for column in rows[0] if column != "log"]
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row.get(column, "")) for column in columns) + " |")
    result = {
        **about,
        "systems": rows,
    }
    out = keep(f"soak-{arguments.executor}", result, arguments.out)
    print(f"written to {out}")


if __name__ == "__main__":
    main()
