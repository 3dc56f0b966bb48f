"""One search of a table by one sampler: what it asked for, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution

from sampling_tables import Table
from search import samplers
from search.journal import FORMAT
from search.replay import HERE, Unwritten
from search.study import Study
from search.trial import Candidate, Ending
from spaces import Space
from spaces.reader import Node
from spaces.holes import Choice
from spaces.settings import Sampler, Search

OPTUNA: dict[str, Any] = {
    "Random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "TPE": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "TPE multivariate": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    "NSGA-II": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "GP": lambda seed: optuna.samplers.GPSampler(seed=seed),
}


def run(table: Table, sampler: str, seed: int, most: int) -> list[dict[str, Any]]:
    return ours(table, seed, most) if sampler == "ours" else theirs(table, sampler, seed, most)


def theirs(table: Table, sampler: str, seed: int, most: int) -> list[dict[str, Any]]:
    study = optuna.create_study(directions=["minimize"] * 2, sampler=OPTUNA[sampler](seed))
    kinds = {p.name: CategoricalDistribution(p.choices) for p in table.parameters}
    asked = []
    for _ in range(most):
        trial = study.ask(kinds)
        study.tell(trial, table.point(trial.params))
        asked.append(trial.params)
    return asked


def study_of(table: Table, seed: int, most: int, sampler: dict[str, Any]) -> Study:
    search = Search(
        trials=most, seed=seed, objectives=dict(table.objectives), sampler=Sampler(**sampler),
        reference=table.reference, executor="inprocess", latency=None,
    )
    import spaces.holes as h
    tree = Node({p.name: Node(Choice(tuple(h.Option(str(c), Node(c, HERE)) for c in p.choices)), HERE) if False else Node(0, HERE) for p in table.parameters}, HERE)
    space = _Space(name="table", search=search, tree=tree, parameters=table.parameters, notes=(),
                  source=Path("table"), written=Node({}, HERE))

    def examine(values: dict[str, Any]) -> Candidate:
        key = table.key(values)
        return Candidate({"training": {"epochs": 1}}, key, key, table.costs(values), {}, "", "")

    journal = Unwritten(lambda: 0.0)
    journal.append("study", version=FORMAT, uuid="", name="table", trials=most,
                   reference=table.reference, chance=table.chance)
    return Study(Path("table"), space, journal.records, journal=journal, examine=examine, clock=lambda: 0.0)


class _Space(Space):
    def size(self) -> int | None:
        return int(np.prod([float(len(p.choices)) for p in self.parameters]))


def ours(table: Table, seed: int, most: int) -> list[dict[str, Any]]:
    study = study_of(table, seed, most, {"name": "ParetoSampler"})
    asked = []
    while (assignment := study.next()) is not None:
        study.start(assignment, "worker")
        trial = study.history.trials[assignment.trial]
        told = table.results(trial.values)
        latency = {k: v for k, v in told.items() if k.startswith("latency")}
        if latency:
            from spaces.latency import Latency
            told = {"latency": latency_of(latency), **{k: v for k, v in told.items() if k not in latency}}
        study.report(trial.number, 0, {"epoch": 1, **told})
        study.end(trial.number, 0, Ending("finished", ""))
        asked.append(trial.values)
    return asked


def latency_of(found):
    return [dict(batch_size=128 if "batch" in n else 1, median=v) for n, v in found.items()]


def regrets(table: Table, asked: list[dict[str, Any]], at: list[int]) -> list[float]:
    points = [table.point(values) for values in asked]
    return [1 - table.volume(points[:k]) / table.best for k in at]
