"""ParetoSampler: the network that is expected to add the most hypervolume, its costs being known.

What a network costs is exact before it trains, so only its worth is modelled: by a Gaussian process
(`gaussian`) over what it is (`encoding`). Candidates (`pool`) are different networks within the
limits that were not tried before, so nothing is proposed in vain.

Everything is worked out anew for each ask, from the trials as a set: a resumed search proposes what
the undisturbed one would, and the order in which trials ended changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import RandomSampler
from threadpoolctl import ThreadpoolController

from search.front import pareto
from search.sampling.encoding import Encoding
from search.sampling.expected_gain import SIDES, corput, free, nodes, screened
from search.sampling.gaussian import Kernel, Posterior, fitted
from search.sampling.lessons import Lesson, Lessons
from search.sampling.pool import Point, Pool
from search.sampling.warp import Warp
from search.trial import Candidate, digest_int

if TYPE_CHECKING:
    from search.study.history import History
    from spaces import Space

Array = NDArray[np.floating[Any]]
Values = dict[str, Any]
STARTUP = 6
KNOWN = 224
"""Trials that the model reads: half of them the nearest to the front, half any."""
SKETCH = 96
"""Trials that its relevances are fitted to."""
CLOSE = 1e-6
"""Scores that differ by less, relatively, are equal: then the network's digest decides."""


class ParetoSampler(RandomSampler):
    """Proposes what is expected to add the most hypervolume, exact costs being known before.

    The first `startup` networks only spread over costs and kinds. In a plain Optuna study, which
    knows of no network what it costs, it draws at random.
    """

    def __init__(self, *, startup: int = STARTUP, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        if startup < 2:
            raise ValueError(f"startup: two networks at least come first (got {startup})")


class Choosing:
    """Chooses for one study.

    `look` says what values are, None where they cannot be trained within the limits.
    """

    def __init__(
        self, space: Space, look: Callable[[Values], Candidate | None], startup: int = STARTUP
    ) -> None:
        self._space = space
        self._startup = startup
        self._pool = Pool(space, look)
        self._encoding = Encoding(space)
        self._lessons = Lessons(())
        self._kernels: dict[int, tuple[bytes, Kernel]] = {}
        self._points: dict[Point, tuple[int, tuple[float, ...]]] = {}
        self._threads = ThreadpoolController()
        self._met: dict[int, Lesson] = {}  # finished trials that the front has met
        self._members: list[Lesson] = []

    def choose(self, history: History, tried: Container[str]) -> Values | None:
        """Values of the network to train next, none of those `tried`; None: there is none left.

        By one thread: the matrices are small, the cores are the trainings', and sums by several
        would differ from machine to machine in their last digits.
        """
        with self._threads.limit(limits=1):
            return self._choice(history, tried)

    def _choice(self, history: History, tried: Container[str]) -> Values | None:
        if not self._lessons.axes:
            chance, objectives = history.study["chance"], self._space.search.objectives
            begins = pareto.origins(self._space, chance, history.study["reference"])
            self._lessons = Lessons(pareto.axes(objectives, chance, begins))
        finished, running, others = self._sorted(history)
        front = self._front(finished)
        members = [Point(lesson.trial.values, lesson.trial) for lesson in front]
        points = self._pool.candidates(history.asks, members, tried)
        if not points:
            left = self._pool.another(tried)
            return None if left is None else left.values
        places, own = self._placed(points)
        if not self._lessons.learnt:
            paid = np.array([lesson.paid for lesson in (*finished, *running)])
            scores = free(own, paid.reshape(-1, own.shape[1]), self._ceiling)
        elif len(finished) < self._startup:
            before = [lesson.place for lesson in (*finished, *running, *others)]
            scores = self._spread(places, own, before, history.asks)
        else:
            scores = self._gains(places, own, finished, running, others, front)
        best = float(scores.max())
        close = np.flatnonzero(scores >= best - CLOSE * abs(best))
        seed = self._space.search.seed
        return min(
            (points[place] for place in close),
            key=lambda point: digest_int(seed, point.network.key),
        ).values

    def _sorted(self, history: History) -> tuple[list[Lesson], list[Lesson], list[Lesson]]:
        """Lessons of the finished trials, of those that run or wait, and of the rest."""
        known = self._lessons.known
        for number, trial in history.trials.items():
            if number not in known or known[number].trial is not trial:
                self._lessons.read(trial, self._encoding.place(trial, trial.values))
        finished: list[Lesson] = []
        running: list[Lesson] = []
        others: list[Lesson] = []
        for lesson in known.values():
            if lesson.whole:
                finished.append(lesson)
            elif lesson.trial.outcome is None:
                running.append(lesson)
            else:
                others.append(lesson)
        return finished, running, others

    def _front(self, finished: Sequence[Lesson]) -> list[Lesson]:
        """Those that none of the others dominates, by their digests.

        A trial that is new meets the front alone; where one has changed, all meet all.
        """
        known = self._met
        new = [lesson for lesson in finished if known.get(lesson.trial.number) is not lesson]
        if any(lesson.trial.number in known for lesson in new):
            pool = list(finished)
        else:
            pool = [*self._members, *new]
        if new:
            known.update((lesson.trial.number, lesson) for lesson in new)
            there = pareto.nondominated([(*lesson.paid, *lesson.values) for lesson in pool])
            self._members = [lesson for lesson, member in zip(pool, there, strict=True) if member]
            self._members.sort(key=lambda lesson: lesson.mark)
        return self._members

    def _placed(self, points: Sequence[Point]) -> tuple[list[int], Array]:
        """The candidates' rows in the encoding, and their costs on the axes, shape (n, m)."""
        known = self._points
        for point in points:
            if point not in known:
                place = self._encoding.place(point.network, point.values)
                known[point] = (place, self._lessons.paid(point.network.costs))
        found = [known[point] for point in points]
        return [place for place, _ in found], np.array([paid for _, paid in found])

    @property
    def _ceiling(self) -> Array:
        return np.array([axis.origin for axis in self._lessons.costs])

    def _spread(self, places: list[int], own: Array, before: list[int], asks: int) -> Array:
        """High where a network is unlike those before, among those of the cost whose turn it is."""
        rank = np.empty(len(places))
        rank[np.argsort(own.sum(axis=1), kind="stable")] = np.arange(len(places))
        share = (0.5, 0.0, 1.0)[asks] if asks < 3 else corput(asks - 1)
        turn = np.abs(rank - share * (len(places) - 1))
        if not before:
            return -turn
        rows = self._encoding.rows([*before, *places])
        tried, open_ = rows[: len(before)], rows[len(before) :]
        apart = ((open_[:, None] - tried[None]) ** 2).sum(axis=2).min(axis=1)
        return np.where(turn <= max(8, len(places) // 16), apart, -1.0 - turn)

    def _gains(
        self,
        places: list[int],
        own: Array,
        finished: list[Lesson],
        running: list[Lesson],
        others: list[Lesson],
        members: list[Lesson],
    ) -> Array:
        """The expected gain of each candidate."""
        running = sorted(running, key=lambda lesson: lesson.mark)
        ends = np.array([lesson.values for lesson in finished])
        front = np.array([(*lesson.values, *lesson.paid) for lesson in members])
        front = front[np.lexsort(front.T)]
        learnt = self._lessons.learnt
        means, deviations, guesses, warps = [], [], [], []
        for number in range(len(learnt)):
            known, values, variances = self._lessons.guessed(finished, others, number)
            known = [*finished, *known]
            values = np.concatenate([ends[:, number], values])
            variances = np.concatenate([np.zeros(len(finished)), variances])
            kept = _chosen(known, values, front[:, [number, *range(len(learnt), front.shape[1])]])
            mean, deviation, guess, warp = self._believed(
                number,
                [known[place] for place in kept],
                values[kept],
                variances[kept],
                [lesson.place for lesson in running],
                places,
            )
            means.append(mean)
            deviations.append(deviation)
            guesses.append(warp.undone(guess))
            warps.append(warp)
        paid = np.array([lesson.paid for lesson in running]).reshape(len(running), own.shape[1])
        guessed = np.column_stack([*guesses, paid])
        front = np.vstack([front, guessed])
        front = front[pareto.nondominated(front)]
        origins = np.array([axis.origin for axis in learnt])
        ceiling = np.concatenate([origins[:1], self._ceiling, origins[1:]])
        worth = front[:, 0]
        paid = np.hstack([front[:, len(learnt) :], front[:, 1 : len(learnt)]])
        if len(learnt) == 1:
            return screened(means[0], deviations[0], own, worth, paid, ceiling, warps[0])
        total = np.zeros(len(own))
        for node in nodes(len(learnt) - 1):
            sides = [
                warp.undone(mean + deviation * away)
                for mean, deviation, warp, away in zip(
                    means[1:], deviations[1:], warps[1:], node, strict=True
                )
            ]
            costs = np.column_stack([own, *sides])
            total += screened(means[0], deviations[0], costs, worth, paid, ceiling, warps[0])
        return total / SIDES

    def _believed(
        self,
        number: int,
        known: list[Lesson],
        values: Array,
        variances: Array,
        running: list[int],
        asked: list[int],
    ) -> tuple[Array, Array, Array, Warp]:
        """Mean and deviation of one objective at the places asked, and the means of what runs.

        All warped. What runs is taken to end at its mean, so that it is not asked for twice.
        """
        places = [lesson.place for lesson in known]
        seeds = np.array([float(lesson.seeds) for lesson in known])
        # By digest the first are the same as long as no new one is among them: of many, these set
        # the scales as well, so that a fit holds for more than one ask.
        few = slice(0, SKETCH)
        many = len(known) == KNOWN
        scaling = few if many else slice(None)
        frame = self._encoding.frame(places[few] if many else [*places, *running, *asked])
        rows = self._encoding.rows([*places, *running, *asked], frame)
        warp = Warp.of(values[scaling])
        slack = np.where(values > warp.middle, 1 + (values - warp.middle) / warp.step, 1.0)
        values, variances = warp(values), variances / slack**2
        middle, scale = float(values[scaling].mean()), max(float(values[scaling].std()), 1e-12)
        values, variances = (values - middle) / scale, variances / scale**2
        rows = rows - rows[: len(known)][scaling].mean(axis=0)
        seen, going, rest = np.split(rows, [len(known), len(known) + len(running)])
        kernel = self._kernel(number, seen[few], values[few], seeds[few], variances[few])
        posterior = Posterior(kernel, seen, values, seeds, variances)
        guess: Array = np.zeros(0)
        if running:
            guess = posterior(going)[0].astype(np.float64)
            none = np.zeros(len(running))
            posterior = Posterior(
                kernel,
                np.vstack([seen, going]),
                np.concatenate([values, guess]),
                np.concatenate([seeds, none + 1]),
                np.concatenate([variances, none]),
            )
        mean, deviation = posterior(rest)
        return mean * scale + middle, deviation * scale, guess * scale + middle, warp

    def _kernel(
        self, number: int, rows: Array, values: Array, seeds: Array, variances: Array
    ) -> Kernel:
        """The kernel fitted to these, remembered as long as they are the same."""
        digest = hashlib.sha256()
        for part in (rows, values, seeds, variances):
            digest.update(np.ascontiguousarray(part).tobytes())
        mark = digest.digest()
        if number not in self._kernels or self._kernels[number][0] != mark:
            self._kernels[number] = (mark, fitted(rows, values, seeds, variances))
        return self._kernels[number][1]


def _chosen(known: Sequence[Lesson], values: Array, front: Array) -> NDArray[np.int64]:
    """Places of those that are read, by their digests.

    Nearest to the front is who is least behind the best that costs no more.
    """
    marks = np.array([lesson.mark for lesson in known])
    order = np.argsort(marks, kind="stable")
    if len(known) <= KNOWN:
        return order
    paid = np.array([lesson.paid for lesson in known]).reshape(len(known), -1)
    no_more = (front[None, :, 1:] <= paid[:, None, :]).all(axis=2)
    gaps = np.where(no_more, values[:, None] - front[None, :, 0], 0.0).max(axis=1)
    near = np.lexsort((marks, gaps))[: KNOWN // 2]
    left = order[~np.isin(order, near)][: KNOWN - len(near)]
    chosen = np.concatenate([near, left])
    return chosen[np.argsort(marks[chosen], kind="stable")]
