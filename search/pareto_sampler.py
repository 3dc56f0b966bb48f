"""ParetoSampler: the network that is expected to add the most hypervolume, its costs being known.

What a network costs is exact before it trains, so only its worth is modelled: by a Gaussian process
(`search.gaussian`) over what it is (`search.encoding`). The candidates (`search.pool`) are different
networks within the limits that were not tried before, so nothing is proposed in vain.

Everything is worked out anew for each ask, from the trials as a set: a resumed search proposes what
the undisturbed one would, and the order in which trials ended changes nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import RandomSampler
from scipy import special

from search import pareto
from search.encoding import Encoding
from search.expected_gain import expected_gain, free
from search.gaussian import Kernel, Posterior, fitted
from search.pool import Point, Pool
from search.trial import COSTS, Candidate, Trial, digest_int
from spaces.latency import LATENCIES

if TYPE_CHECKING:
    from search.history import History
    from spaces import Space
    from spaces.settings import Objective

Array = NDArray[np.float64]
Values = dict[str, Any]
KNOWN = 256
"""The model reads at most so many trials: half of them those nearest to the front."""
SKETCH = 96
"""Its relevances are fitted to at most so many."""
SIDES = 8
"""Points at which another objective that is only known after training is looked at."""
SHORT = 320
"""With two costs or more the gain is worked out for so many candidates, by one cost the best."""
BROKEN = ("diverged", "oom", "host_oom", "timeout", "invalid", "bad_report")
"""Ends of a trial that its network or recipe is to blame for: as good as the worst."""


class ParetoSampler(RandomSampler):
    """Proposes what is expected to add the most hypervolume, exact costs being known before.

    `startup` networks come first that only spread over costs and kinds. In a plain Optuna study,
    which knows no costs, it draws at random.
    """

    def __init__(self, *, startup: int = 6, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        if startup < 1:
            raise ValueError(f"startup: at least one network comes first (got {startup})")
        self.startup = startup


@dataclass(frozen=True, slots=True)
class Axis:
    """An objective to be minimised, as hypervolume measures it, from its `origin` down."""

    name: str
    objective: Objective
    origin: float

    @property
    def known(self) -> bool:
        """Whether it is known before training."""
        return self.name in COSTS

    def of(self, value: float) -> float:
        """The place of a value on the axis; a cost's and a latency's is a logarithm, in bands."""
        if self.name not in (*COSTS, *LATENCIES):
            return -value if self.objective.goal == "max" else value
        tolerance = self.objective.tolerance
        if tolerance < pareto.FINEST:
            return math.log(value)
        return pareto.band(value, tolerance) * math.log1p(tolerance)


def axes(objectives: Mapping[str, Objective], chance: float, reference: Mapping[str, float]) -> list[Axis]:
    """The axes of a study's objectives, with the origins of `pareto.study_hypervolume`."""
    found = []
    for name, objective in objectives.items():
        if name in (*COSTS, *LATENCIES):
            axis = Axis(name, objective, 0.0)
            origin = axis.of(reference[name]) if name in reference else math.inf
        elif objective.goal == "max":
            origin = -reference.get(name, chance if name.endswith("accuracy") else 0.0)
        else:
            origin = reference[name] if name in reference else -math.log(chance)
        found.append(Axis(name, objective, origin))
    return found


class Choosing:
    """Chooses for one study; `look` says what values are, None where that cannot be trained."""

    def __init__(self, space: Space, look: Any, startup: int) -> None:
        self._space = space
        self._startup = startup
        self._pool = Pool(space, look)
        self._encoding = Encoding(space)
        self._kernels: dict[bytes, Kernel] = {}

    def choose(self, history: History, tried: set[str]) -> Values | None:
        """Values of the network to train next, none of those `tried`; None: there is none left."""
        search = self._space.search
        known = axes(search.objectives, history.study["chance"], history.study["reference"])
        trials = sorted(history.trials.values(), key=lambda trial: (trial.key, trial.number))
        finished = [trial for trial in trials if trial.outcome == "finished"]
        front = pareto.front(finished, search.objectives)
        members = [Point(trial.values, trial) for trial in front]
        points = [
            point
            for point in self._pool.candidates(history.asks, members)
            if point.network.key not in tried
        ]
        if not points:
            points = list(self._pool.rest(tried))[:1]
        if not points:
            return None
        learnt = [axis for axis in known if not axis.known]
        enough = not learnt or len(finished) >= self._startup
        if enough:
            scores = self._gains(points, trials, known, learnt)
        else:
            scores = self._spread(points, trials, history.asks)
        best = scores.max()
        slack = 1e-9 * abs(best)
        return min(
            (point for point, score in zip(points, scores, strict=True) if score >= best - slack),
            key=lambda point: digest_int(search.seed, point.network.key),
        ).values

    def _spread(self, points: Sequence[Point], trials: Sequence[Trial], asks: int) -> Array:
        """High where a network is unlike those tried, among those of the cost whose turn it is."""
        first = [sum(map(math.log, point.network.costs.values())) for point in points]
        order = np.argsort(first, kind="stable")
        place = _corput(asks) * (len(points) - 1)
        turn = np.abs(np.argsort(order, kind="stable") - place)
        near = turn <= max(8, len(points) // 16)
        if not trials:
            return -turn
        rows = self._rows(trials, points)
        known, open_ = rows[: len(trials)], rows[len(trials) :]
        apart = ((open_[:, None] - known[None]) ** 2).sum(axis=2).min(axis=1)
        return np.where(near, apart, -1.0 - turn)

    def _rows(self, trials: Sequence[Trial], points: Sequence[Point]) -> Array:
        return self._encoding(
            [*trials, *(point.network for point in points)],
            [*(trial.values for trial in trials), *(point.values for point in points)],
        )

    def _gains(
        self, points: Sequence[Point], trials: Sequence[Trial], known: Sequence[Axis], learnt: Sequence[Axis]
    ) -> Array:
        """The expected gain of each point."""
        costs = [axis for axis in known if axis.known]
        ceiling = np.array([axis.origin for axis in costs])
        own = np.array([[a.of(p.network.costs[a.name]) for a in costs] for p in points])
        own = own.reshape(len(points), len(costs))
        finished = [trial for trial in trials if trial.outcome == "finished"]
        running = [trial for trial in trials if trial.outcome is None]
        if not learnt:
            paid = np.array([[a.of(t.costs[a.name]) for a in costs] for t in (*finished, *running)])
            return free(own, paid.reshape(-1, len(costs)), ceiling)
        told = _observed(trials, learnt)
        told = _nearest(told, known, KNOWN)
        rows = self._rows([*(o.trial for o in told), *running], points)
        rows = rows - rows[: len(told)].mean(axis=0)
        seen, rest = rows[: len(told)], rows[len(told) :]
        means, deviations, guessed = [], [], []
        for place, axis in enumerate(learnt):
            mean, deviation, guess = self._believed(told, place, seen, rest, len(running))
            means.append(mean), deviations.append(deviation), guessed.append(guess)
        paid = [[axis.of(trial.costs[axis.name]) for axis in costs] for trial in (*finished, *running)]
        paid = np.array(paid).reshape(-1, len(costs))
        values = np.array([[axis.of(pareto.measured(t)[axis.name]) for axis in learnt] for t in finished])
        values = np.vstack([values.reshape(len(finished), len(learnt)), np.array(guessed).T.reshape(-1, len(learnt))])
        return _gain(means, deviations, own, -values[:, 0], np.hstack([paid, values[:, 1:]]),
                     -learnt[0].origin, np.concatenate([ceiling, [a.origin for a in learnt[1:]]]))

    def _believed(self, told, place, seen, rest, running):
        values = np.array([one.values[place] for one in told])
        extra = np.array([one.extra[place] for one in told])
        values = _tamed(values)
        middle, scale = values.mean(), max(float(values.std()), 1e-9)
        values, extra = (values - middle) / scale, extra / scale**2
        kernel = self._kernel(told, place, seen, values, extra)
        posterior = Posterior(kernel, seen, values, extra)
        guess = posterior.mean(rest[:running]) if running else np.zeros(0)
        if running:
            posterior = Posterior(kernel, np.vstack([seen, rest[:running]]), np.concatenate([values, guess]),
                                  np.concatenate([extra, np.zeros(running)]))
        mean, deviation = posterior(rest[running:])
        return mean * scale + middle, deviation * scale, guess * scale + middle

    def _kernel(self, told, place, seen, values, extra) -> Kernel:
        order = sorted(range(len(told)), key=lambda n: told[n].hash)[:SKETCH]
        mark = hashlib.sha256()
        for part in (seen[order], values[order], extra[order]):
            mark.update(np.round(part, 12).tobytes())
        key = mark.digest() + bytes([place])
        if key not in self._kernels:
            self._kernels = {k: v for k, v in self._kernels.items() if k[-1] != place}
            self._kernels[key] = fitted(seen[order], values[order], extra[order])
        return self._kernels[key]


@dataclass(frozen=True, slots=True)
class Observed:
    """A trial and what is known of its learnt objectives, as places on their axes.

    `extra` is the variance that this has beside the noise of a training.
    """

    trial: Trial
    values: tuple[float, ...]
    extra: tuple[float, ...]
    hash: str


def _observed(trials: Sequence[Trial], learnt: Sequence[Axis]) -> list[Observed]:
    whole = []
    for trial in trials:
        if trial.outcome == "finished":
            known = pareto.measured(trial)
            values = tuple(axis.of(known[axis.name]) for axis in learnt)
            whole.append(Observed(trial, values, (0.0,) * len(learnt), _mark(trial)))
    return whole


def _mark(trial: Trial) -> str:
    return hashlib.sha256(trial.key.encode()).hexdigest()


def _nearest(told: list[Observed], known: Sequence[Axis], most: int) -> list[Observed]:
    if len(told) <= most:
        return told
    points = np.array([[a.of(pareto.measured(o.trial)[a.name]) for a in known] for o in told])
    rank = pareto.ranks(points)
    near = sorted(range(len(told)), key=lambda n: (rank[n], told[n].hash))[: most // 2]
    others = sorted(set(range(len(told))) - set(near), key=lambda n: told[n].hash)[: most - len(near)]
    return [told[n] for n in sorted((*near, *others))]


def _tamed(values: Array) -> Array:
    """Values with those far worse than most drawn in: a network that learns nothing is just bad."""
    low, middle = np.quantile(values, [0.1, 0.5])
    limit = middle + 3 * (middle - low)
    return np.minimum(values, limit) if limit > middle else values


def _gain(means, deviations, own, worth, paid, floor, ceiling) -> Array:
    others = len(means) - 1
    if others == 0:
        return _one(-means[0], deviations[0], own, worth, paid, floor, ceiling)
    total = np.zeros(len(own))
    for node in _nodes(others):
        sides = [m + z * d for m, d, z in zip(means[1:], deviations[1:], node, strict=True)]
        costs = np.hstack([own, np.array(sides).T])
        total += _one(-means[0], deviations[0], costs, worth, paid, floor, ceiling)
    return total / SIDES


def _one(mean, deviation, costs, worth, paid, floor, ceiling):
    chosen = np.arange(len(mean))
    if costs.shape[1] > 1 and len(mean) > SHORT:
        by_one = sum(
            expected_gain(mean, deviation, costs[:, [c]], worth, paid[:, [c]], floor, ceiling[[c]])
            for c in range(costs.shape[1])
        )
        chosen = np.argsort(-by_one, kind="stable")[:SHORT]
    result = np.zeros(len(mean))
    result[chosen] = expected_gain(mean[chosen], deviation[chosen], costs[chosen], worth, paid, floor, ceiling)
    return result


def _nodes(dimensions: int) -> Array:
    """Standard normal points that spread evenly, shape (SIDES, dimensions)."""
    places = [[_radical(n + 1, base) for base in (2, 3, 5, 7)[:dimensions]] for n in range(SIDES)]
    return special.ndtri(np.array(places))


def _radical(number: int, base: int) -> float:
    result, share = 0.0, 1.0 / base
    while number:
        result += share * (number % base)
        number //= base
        share /= base
    return result


def _corput(number: int) -> float:
    """0.5, 0, 1, then between them: the middle, both ends, the quarters, ..."""
    return (0.5, 0.0, 1.0)[number] if number < 3 else _radical(number - 1, 2)
