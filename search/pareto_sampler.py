"""ParetoSampler: the network that is expected to add the most hypervolume, its costs being known.

What a network costs is exact before it trains, so only its worth is modelled: by a Gaussian process
(`search.gaussian`) over what it is (`search.encoding`). The candidates (`search.pool`) are different
networks within the limits that were not tried before, so nothing is proposed in vain.

Everything is worked out anew for each ask, from the trials as a set: a resumed search proposes what
the undisturbed one would, and the order in which trials ended changes nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Container, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Told:
    """What a trial tells the model: places on the axes of the learnt objectives, to be minimised.

    `extra` is the variance that they have beside the noise of a training, in the same order.
    """

    trial: Trial
    place: int
    mark: int
    paid: tuple[float, ...]
    learnt: tuple[float, ...]
    extra: tuple[float, ...]


class Choosing:
    """Chooses for one study; `look` says what values are, None where that cannot be trained."""

    def __init__(
        self, space: Space, look: Callable[[Values], Candidate | None], startup: int
    ) -> None:
        self._space = space
        self._startup = startup
        self._pool = Pool(space, look)
        self._encoding = Encoding(space)
        self._kernels: dict[int, tuple[bytes, Kernel]] = {}
        self._told: dict[int, tuple[Trial, Told]] = {}
        self._own: dict[str, tuple[int, tuple[float, ...]]] = {}
        self._axes: list[Axis] = []

    def choose(self, history: History, tried: Container[str]) -> Values | None:
        """Values of the network to train next, none of those `tried`; None: there is none left."""
        search = self._space.search
        self._axes = axes(search.objectives, history.study["chance"], history.study["reference"])
        trials = sorted(history.trials.values(), key=lambda trial: (trial.key, trial.number))
        finished = [self._fact(trial) for trial in trials if trial.outcome == "finished"]
        running = [self._fact(trial) for trial in trials if trial.outcome is None]
        front = self._front(finished)
        points = [
            point
            for point in self._pool.candidates(history.asks, front)
            if point.network.key not in tried
        ] or list(itertools.islice(self._pool.rest(tried), 1))
        if not points:
            return None
        placed = [self._placed(point) for point in points]
        places = [place for place, _ in placed]
        own = np.array([paid for _, paid in placed]).reshape(len(points), -1)
        learnt = [axis for axis in self._axes if not axis.known]
        if not learnt:
            paid = np.array([told.paid for told in (*finished, *running)])
            scores = free(own, paid.reshape(-1, own.shape[1]), self._ceiling)
        elif len(finished) < self._startup:
            scores = self._spread(places, own, [self._fact(trial).place for trial in trials], history.asks)
        else:
            scores = self._gains(places, own, finished, running)
        best = scores.max()
        close = np.flatnonzero(scores >= best - 1e-6 * abs(best))
        return min(
            (points[place] for place in close),
            key=lambda point: digest_int(search.seed, point.network.key),
        ).values

    @property
    def _ceiling(self) -> Array:
        return np.array([axis.origin for axis in self._axes if axis.known])

    def _placed(self, point: Point) -> tuple[int, tuple[float, ...]]:
        """Its row in the encoding and its costs on their axes."""
        network = point.network
        if network.key not in self._own:
            place = self._encoding.place(network, point.values)
            self._own[network.key] = (place, self._paid(network.costs))
        return self._own[network.key]

    def _paid(self, costs: Mapping[str, float]) -> tuple[float, ...]:
        return tuple(axis.of(costs[axis.name]) for axis in self._axes if axis.known)

    def _fact(self, trial: Trial) -> Told:
        known = self._told.get(trial.number)
        if known is None or known[0] is not trial:
            values = pareto.measured(trial) if trial.outcome == "finished" else {}
            learnt = tuple(axis.of(values[axis.name]) for axis in self._axes if axis.name in values and not axis.known)
            told = Told(
                trial,
                self._encoding.place(trial, trial.values),
                digest_int(trial.key),
                self._paid(trial.costs),
                learnt,
                (0.0,) * len(learnt),
            )
            known = self._told[trial.number] = (trial, told)
        return known[1]

    def _front(self, finished: Sequence[Told]) -> list[Point]:
        if not finished:
            return []
        members = pareto.nondominated([(*told.paid, *told.learnt) for told in finished])
        return [
            Point(told.trial.values, told.trial)
            for told, member in zip(finished, members, strict=True)
            if member
        ]

    def _spread(self, places: list[int], own: Array, tried: list[int], asks: int) -> Array:
        """High where a network is unlike those tried, among those of the cost whose turn it is."""
        order = np.argsort(own.sum(axis=1) if own.shape[1] else np.zeros(len(places)), kind="stable")
        turn = np.abs(np.argsort(order, kind="stable") - _corput(asks) * (len(places) - 1))
        if not tried:
            return -turn
        rows = self._encoding.rows([*tried, *places])
        known, candidates = rows[: len(tried)], rows[len(tried) :]
        apart = ((candidates[:, None] - known[None]) ** 2).sum(axis=2).min(axis=1)
        return np.where(turn <= max(8, len(places) // 16), apart, -1.0 - turn)

    def _gains(
        self, places: list[int], own: Array, finished: list[Told], running: list[Told]
    ) -> Array:
        """The expected gain of each place."""
        learnt = [axis for axis in self._axes if not axis.known]
        known = _chosen(finished, KNOWN)
        rows = self._encoding.rows([t.place for t in (*known, *running)] + places)
        rows = rows - rows[: len(known)].mean(axis=0)
        parts = np.split(rows, [len(known), len(known) + len(running)])
        order = sorted(range(len(known)), key=lambda n: known[n].mark)[:SKETCH]
        beliefs = [
            self._believed(
                number,
                parts,
                np.array([told.learnt[number] for told in known]),
                np.array([told.extra[number] for told in known]),
                order,
            )
            for number in range(len(learnt))
        ]
        means, deviations, guesses = (np.array(part) for part in zip(*beliefs, strict=True))
        worth = np.vstack(
            [np.array([t.learnt for t in finished]), guesses.T.reshape(-1, len(learnt))]
        )
        paid = np.array([told.paid for told in (*finished, *running)])
        paid = np.hstack([paid.reshape(len(worth), -1), worth[:, 1:]])
        front = pareto.nondominated(np.hstack([worth[:, :1], paid]))
        ceiling = np.concatenate([self._ceiling, [axis.origin for axis in learnt[1:]]])
        return _gain(
            means, deviations, own, -worth[front, 0], paid[front], -learnt[0].origin, ceiling
        )

    def _believed(
        self, number: int, parts: list[Array], values: Array, extra: Array, order: list[int]
    ) -> tuple[Array, Array, Array]:
        """Mean and deviation of one objective at the candidates, and the means of what runs."""
        known, running, candidates = parts
        values = _tamed(values)
        middle, scale = values.mean(), max(float(values.std()), 1e-9)
        values, extra = (values - middle) / scale, extra / scale**2
        kernel = self._kernel(number, known[order], values[order], extra[order])
        posterior = Posterior(kernel, known, values, extra)
        guess = np.zeros(0)
        if len(running):
            guess = posterior(running)[0]
            posterior = Posterior(
                kernel,
                np.vstack([known, running]),
                np.concatenate([values, guess]),
                np.concatenate([extra, np.zeros(len(running))]),
            )
        mean, deviation = posterior(candidates)
        return mean * scale + middle, deviation * scale, guess * scale + middle

    def _kernel(self, number: int, rows: Array, values: Array, extra: Array) -> Kernel:
        """The kernel fitted to these, remembered as long as they are the same."""
        mark = hashlib.sha256()
        for part in (rows, values, extra):
            mark.update(np.ascontiguousarray(part).tobytes())
        if number not in self._kernels or self._kernels[number][0] != mark.digest():
            self._kernels[number] = (mark.digest(), fitted(rows, values, extra))
        return self._kernels[number][1]


def _chosen(told: list[Told], most: int) -> list[Told]:
    """Those that are read: half of them the nearest to the front, half any."""
    if len(told) <= most:
        return told
    points = np.array([(*one.learnt, *one.paid) for one in told])
    front = points[pareto.nondominated(points)]
    no_more = (front[None, :, 1:] <= points[:, None, 1:]).all(axis=2)
    gaps = np.where(no_more, points[:, :1] - front[None, :, 0], 0.0).max(axis=1)
    near = sorted(range(len(told)), key=lambda n: (gaps[n], told[n].mark))[: most // 2]
    taken = set(near)
    others = sorted((n for n in range(len(told)) if n not in taken), key=lambda n: told[n].mark)
    return [told[n] for n in sorted((*near, *others[: most - len(near)]))]


def _tamed(values: Array) -> Array:
    """Values with those far worse than most drawn in: a network that learns nothing is just bad."""
    low, middle = np.quantile(values, [0.1, 0.5])
    limit = middle + 3 * (middle - low)
    return np.minimum(values, limit) if limit > middle else values


def _gain(
    means: Array,
    deviations: Array,
    own: Array,
    worth: Array,
    paid: Array,
    floor: float,
    ceiling: Array,
) -> Array:
    """The expected gain, means over the other learnt objectives where there are any."""
    if len(means) == 1:
        return _screened(-means[0], deviations[0], own, worth, paid, floor, ceiling)
    total = np.zeros(len(own))
    for node in _nodes(len(means) - 1):
        sides = means[1:].T + deviations[1:].T * node
        costs = np.hstack([own, sides])
        total += _screened(-means[0], deviations[0], costs, worth, paid, floor, ceiling)
    return total / SIDES


def _screened(
    mean: Array,
    deviation: Array,
    costs: Array,
    worth: Array,
    paid: Array,
    floor: float,
    ceiling: Array,
) -> Array:
    """The expected gain; 0 where by each cost alone it is far from the best."""
    if costs.shape[1] < 2 or len(mean) <= SHORT:
        return expected_gain(mean, deviation, costs, worth, paid, floor, ceiling)
    rough = np.zeros(len(mean))
    for one in range(costs.shape[1]):
        axis = [one]
        rough += expected_gain(
            mean, deviation, costs[:, axis], worth, paid[:, axis], floor, ceiling[axis]
        )
    short = np.argsort(-rough, kind="stable")[:SHORT]
    result = np.zeros(len(mean))
    result[short] = expected_gain(
        mean[short], deviation[short], costs[short], worth, paid, floor, ceiling
    )
    return result


def _nodes(dimensions: int) -> Array:
    """Standard normal points that spread evenly, shape (SIDES, dimensions)."""
    places = [[_radical(n + 1, base) for base in (2, 3, 5, 7)[:dimensions]] for n in range(SIDES)]
    nodes: Array = special.ndtri(np.array(places))
    return nodes


def _radical(number: int, base: int) -> float:
    """The digits of a number behind the point: 1, 2, 3, 4 are 1/2, 1/4, 3/4, 1/8 in base 2."""
    result, share = 0.0, 1.0 / base
    while number:
        result += share * (number % base)
        number //= base
        share /= base
    return result


def _corput(number: int) -> float:
    """0.5, 0, 1, then what lies between them: 0.25, 0.75, 0.125, ..."""
    return (0.5, 0.0, 1.0)[number] if number < 3 else _radical(number - 1, 2)
