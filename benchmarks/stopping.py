"""Stopping early with several objectives: ours against its peers on recorded curves, in one run.

    python benchmarks/stopping.py [--data $ECA_SEARCH_DATA] [--seeds 60] [--orders 20]
        [--syne-tune PYTHON] [--jobs 1]

Every pruner searches the same tables in the same orders with 8 workers in virtual time
(`search.execution.replay`: the real study, a random sampler). Two scores, as differences divided
by the hypervolume of the whole table:

fixed budget   epochs of 20 and of 50 full trainings: hypervolume of what had finished against that
               without stopping (positive: stopping has paid)
whole table    every network tried: epochs saved (as a factor), hypervolume lost, front members lost

What is compared, each with its defaults:

ours              ParetoPruner, and with `promote: 0.3`: stopped trials go on once all are over
Optuna            Median, Percentile (25), SuccessiveHalving, Hyperband, fed with the accuracy
multi_metric      the rule of OptunaHub's multi_metric_pruner as it is described: at every step
                  non-dominated ranks of (accuracy, costs); the front goes on, who is beyond the
                  median rank stops (written anew; no ties by hypervolume contribution)
MOASHA            Syne Tune's own class, in a Python of its own: a virtual environment with
                  `pip install syne-tune==0.16.0`, given by --syne-tune

Virtual time: the figures do not depend on the machine or its load. Written to
benchmarks/results/stopping-<date>.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from kept import RESULTS, circumstances, keep
from optuna.trial import FrozenTrial, TrialState

from search import pruning
from search.execution.recorded import Recorded, of_table
from search.execution.replay import Run, compared, spread
from search.front.pareto import band, ranks

NASBENCH = {
    "naap440, MACs": ("naap440.csv", "e{epoch}Accuracy", ["NumMACs"]),
    "naap440, MACs and params": ("naap440.csv", "e{epoch}Accuracy", ["NumMACs", "NumParams"]),
    "metaqnn_cifar10, params": ("metaqnn_cifar10.csv", "acc_{epoch}", ["num_params"]),
}
OURS = "ParetoPruner"
PRUNERS: dict[str, dict[str, Any] | None] = {
    OURS: {"name": OURS},
    f"{OURS}, promote 0.3": {"name": OURS, "promote": 0.3},
    "Optuna Median": {"name": "MedianPruner"},
    "Optuna Percentile 25": {"name": "PercentilePruner", "percentile": 25.0},
    "Optuna SuccessiveHalving": {"name": "SuccessiveHalvingPruner"},
    "Optuna Hyperband": {"name": "HyperbandPruner"},
    "multi_metric rule": {"name": "MedianRank"},
    "Syne Tune MOASHA": {"name": "SyneTuneMoasha"},
}
BUDGETS = (20, 50)
WORKERS = 8
RANDOM = {"name": "RandomSampler"}


class MedianRank(optuna.pruners.BasePruner):
    """Stops who is beyond the median non-dominated rank at its step; the front goes on."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        rivals = [
            rival
            for rival in study.get_trials(deepcopy=False)
            if step in rival.intermediate_values and rival.state != TrialState.FAIL
        ]
        points = [
            [-rival.intermediate_values[step], *(band(c, 0.01) for c in rival.user_attrs.values())]
            for rival in rivals
        ]
        rank = ranks(points)
        own = rank[[rival.number for rival in rivals].index(trial.number)]
        return bool(own > 0 and own > np.median(rank))


class SyneTuneMoasha(optuna.pruners.BasePruner):
    """Asks a process that has Syne Tune; one search after the other."""

    process: subprocess.Popen[str]
    epochs = 0
    searches = 0

    def __init__(self) -> None:
        self.begun = False

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        values = {name: float(np.log(cost)) for name, cost in trial.user_attrs.items()}
        values["error"] = -trial.intermediate_values[trial.last_step or 0]
        if not self.begun:
            SyneTuneMoasha.searches += 1
            start = {"epochs": self.epochs, "metrics": sorted(values), "seed": self.searches}
            self.ask({"begin": start})
            self.begun = True
        report = {"trial": trial.number, "epoch": trial.last_step, "values": values}
        return self.ask(report) == "STOP"

    @classmethod
    def begin(cls, python: Path) -> None:
        peer = [str(python), str(Path(__file__).with_name("moasha_peer.py"))]
        pipe = subprocess.PIPE
        cls.process = subprocess.Popen(peer, stdin=pipe, stdout=pipe, text=True)

    @classmethod
    def ask(cls, message: dict[str, Any]) -> str:
        assert cls.process.stdin is not None
        assert cls.process.stdout is not None
        cls.process.stdin.write(json.dumps(message) + "\n")
        cls.process.stdin.flush()
        return cls.process.stdout.readline().strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("ECA_SEARCH_DATA"))
    parser.add_argument("--seeds", type=int, default=60, help="orders at a fixed budget")
    parser.add_argument("--orders", type=int, default=20, help="orders of the whole table")
    parser.add_argument("--syne-tune", type=Path, help="a Python that has syne-tune")
    parser.add_argument("--jobs", type=int, default=1, help="tables at a time")
    parser.add_argument("--only", nargs="*", help="pruners, by the beginning of their names")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.data is None:
        parser.error("--data, or $ECA_SEARCH_DATA: the folder that holds nasbench/")

    pruners = {
        name: spec
        for name, spec in PRUNERS.items()
        if not given.only or name.startswith(tuple(given.only))
    }
    if given.syne_tune is None:
        pruners.pop("Syne Tune MOASHA", None)
    about = circumstances()
    started = time.monotonic()
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        asked = [
            pool.submit(
                table, name, given.data, pruners, given.seeds, given.orders, given.syne_tune
            )
            for name in NASBENCH
        ]
        tables = {name: job.result() for name, job in zip(NASBENCH, asked, strict=True)}
    if given.syne_tune is not None:
        SyneTuneMoasha.begin(given.syne_tune)
        about["versions"]["syne-tune"] = SyneTuneMoasha.ask({"version": True})
    result = {
        **about,
        "note": "virtual time, so the load does not matter",
        "seeds": given.seeds,
        "orders": given.orders,
        "workers": WORKERS,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "tables": tables,
        "summary": summary(tables, list(pruners)),
    }
    print(json.dumps(result["summary"], indent=2))
    print(f"written: {keep('stopping', result, given.out)}")


def table(
    name: str,
    data: Path,
    pruners: dict[str, dict[str, Any] | None],
    seeds: int,
    orders: int,
    syne_tune: Path | None,
) -> dict[str, Any]:
    """Both scores of every pruner on one table, in a process of its own."""
    file, curve, costs = NASBENCH[name]
    found = of_table(data / "nasbench" / file, curve=curve, costs=costs)
    pruning.PRUNERS |= {cls.__name__: cls for cls in (MedianRank, SyneTuneMoasha)}
    if syne_tune is not None:
        SyneTuneMoasha.begin(syne_tune)
        SyneTuneMoasha.epochs = found.epochs
    whole = found.hypervolume()
    result: dict[str, Any] = {
        "networks": len(found.trials),
        "epochs": found.epochs,
        "front": len(found.front()),
        "chance": found.chance,
        "reference": dict(found.reference),
        "rows": {pruner: {} for pruner in pruners},
    }
    everyone = {"none": None, **pruners}
    scores = compared(
        found, everyone, sampler=RANDOM, workers=WORKERS, repeats=seeds, budget=max(BUDGETS)
    )
    unstopped: dict[int, list[float]] = {}
    for score in scores if seeds else ():
        for budget in BUDGETS:  # a smaller one only ends the same search earlier
            reached = [within(found, run, budget) / whole for run in score.runs]
            if score.pruner == "none":
                unstopped[budget] = reached
                continue
            gains = [mine - none for mine, none in zip(reached, unstopped[budget], strict=True)]
            mean, sd = spread(gains)
            row = {
                "none": statistics.fmean(unstopped[budget]),
                "gain": mean,
                "sd": sd,
                "better": sum(gain > 0 for gain in gains),
            }
            result["rows"][score.pruner][f"budget {budget}"] = row
            print(f"{name:26} {budget:3} {score.pruner:26} {mean:+.3f} ± {sd:.3f}", flush=True)
    if not orders:
        return result
    for score in compared(found, pruners, sampler=RANDOM, workers=WORKERS, repeats=orders):
        lost, sd = spread([1 - volume / whole for volume in score.volumes])
        saved = statistics.fmean(score.saved)
        killed, killed_sd = spread([float(len(members)) for members in score.killed])
        result["rows"][score.pruner]["whole table"] = {
            "factor": 1 / (1 - saved),
            "epochs_saved": saved,
            "hypervolume_lost": lost,
            "hypervolume_lost_sd": sd,
            "front_killed": killed,
            "front_killed_sd": killed_sd,
        }
        print(
            f"{name:26} all {score.pruner:26} {1 / (1 - saved):5.1f} x fewer epochs, hypervolume "
            f"-{lost:.1%}, {killed:.1f} of {result['front']} of the front",
            flush=True,
        )
    return result


def within(found: Recorded, run: Run, budget: int) -> float:
    """The hypervolume of what had finished within so many full trainings."""
    end = budget * found.epochs
    pairs = zip(run.finished, run.after, strict=True)
    return found.hypervolume(found.trials[row] for row, after in pairs if after <= end)


def summary(tables: dict[str, Any], pruners: list[str]) -> dict[str, Any]:
    """The worst and the mean gain of every pruner at a fixed budget, and its whole tables."""
    result = {}
    for pruner in pruners:
        rows = [one["rows"][pruner] for one in tables.values()]
        gains = [row[key]["gain"] for row in rows for key in row if key.startswith("budget")]
        ends = [row["whole table"] for row in rows if "whole table" in row]
        result[pruner] = {
            **({"worst": min(gains), "mean": statistics.fmean(gains)} if gains else {}),
            "factors": [round(end["factor"], 2) for end in ends],
            "hypervolume_lost": [round(end["hypervolume_lost"], 4) for end in ends],
            "front_killed": [round(end["front_killed"], 1) for end in ends],
        }
    return result


if __name__ == "__main__":
    main()
