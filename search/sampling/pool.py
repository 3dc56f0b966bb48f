"""Candidates: different networks within the limits that a sampler may choose among.

The pool is a number of points in random order, more with every ask, and the neighbours of the
networks on the front, of a large one by turns. A small space is in it as a whole in the end. Which
these are depends on the seed, the number of asks and the front alone, so a resumed search has the
same pool.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from search.trial import Candidate, Trial, digest_int
from spaces import Space
from spaces.parameters import Parameter

Values = dict[str, Any]
LISTED = 4_000
"""A space of at most so many settings is a pool as a whole, in the end."""
FIRST = 192
"""Points looked at for the first ask; to know what a network costs takes a millisecond or three."""
EACH = 8
"""More for every further one, while there are fewer than `MOST`."""
MOST = 400
LISTING = 32
"""More for every further ask in a space that is listed, up to all."""
NEAR = 32
"""Neighbours of a network of the front; every third differs in two holes."""
TURN = 16
"""Members of the front whose neighbours are in the pool of one ask; the next ask has the next."""
FEW = 6
"""A hole of at most so many values moves to any of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A network, and values that make it; of equal values there is one point in a pool."""

    values: Values
    network: Candidate | Trial


class Pool:
    """The candidates of a space; `look` says what values are, or None where they are nothing that
    can be trained within the limits.
    """

    def __init__(self, space: Space, look: Callable[[Values], Candidate | None]) -> None:
        self._space = space
        self._look = look
        self._seed = space.search.seed
        size = space.size()
        self._listed = size is not None and size <= LISTED
        self._order = self._ordered()
        self._looked: list[Point | None] = []
        self._drawn: dict[str, Point] = {}  # by run key; the first `_distinct` of `_looked`
        self._distinct = 0
        self._near: dict[str, list[Point]] = {}  # by run key
        self._known: dict[str, Point | None] = {}  # by values

    def candidates(self, asks: int, front: Sequence[Point], tried: Container[str]) -> list[Point]:
        """What may be chosen at that ask: each network once, and none of those tried.

        The order of the front is that of its members' turns.
        """
        self._look_at(FIRST + LISTING * asks if self._listed else min(FIRST + EACH * asks, MOST))
        found = dict(self._drawn)
        for member in _turn(front, asks):
            for point in self._neighbours(member):
                found.setdefault(point.network.key, point)
        return [point for key, point in found.items() if key not in tried]

    def another(self, tried: Container[str]) -> Point | None:
        """One more that was not tried, of all in a space that is listed; else of some further."""
        for place in range(LISTED if self._listed else 2 * MOST):
            if len(self._looked) == place:
                values = next(self._order, None)
                if values is None:
                    return None
                self._looked.append(self._at(values))
            point = self._looked[place]
            if point is not None and point.network.key not in tried:
                return point
        return None

    def _look_at(self, count: int) -> None:
        while self._distinct < count:
            if len(self._looked) == self._distinct:
                values = next(self._order, None)
                if values is None:
                    return
                self._looked.append(self._at(values))
            point = self._looked[self._distinct]
            self._distinct += 1
            if point is not None:
                self._drawn.setdefault(point.network.key, point)

    def _ordered(self) -> Iterator[Values]:
        source = random.Random(digest_int(self._seed, "pool"))
        if self._listed:
            settings = list(self._space.settings())
            source.shuffle(settings)
            yield from settings
        while not self._listed:
            yield self._space.fill(lambda parameter: parameter.sample(source))

    def _at(self, values: Values) -> Point | None:
        name = json.dumps(values)
        if name not in self._known:
            network = self._look(values)
            self._known[name] = None if network is None else Point(values, network)
        return self._known[name]

    def _neighbours(self, member: Point) -> list[Point]:
        """Points that differ from a member in a hole or two, of those that have a value."""
        key = member.network.key
        if key not in self._near:
            source = random.Random(digest_int(self._seed, "near", key))
            moves = [
                (parameter.name, value)
                for parameter in self._space.parameters
                if parameter.name in member.values
                for value in _others(parameter, member.values[parameter.name], source)
            ]
            source.shuffle(moves)
            near = []
            for number, (name, value) in enumerate(moves[:NEAR]):
                second = dict(source.sample(moves, 1)) if number % 3 == 2 else {}
                point = self._at(self._moved(member.values, {**second, name: value}, source))
                if point is not None and point.network.key != key:
                    near.append(point)
            self._near[key] = near
        return self._near[key]

    def _moved(self, values: Values, change: Mapping[str, Any], source: random.Random) -> Values:
        """The values with a change; a hole that appears by it is drawn."""

        def chosen(parameter: Parameter) -> Any:
            known = change if parameter.name in change else values
            if parameter.name in known:
                return known[parameter.name]
            return parameter.sample(source)

        return self._space.fill(chosen)


def _turn(front: Sequence[Point], asks: int) -> Iterable[Point]:
    """The members whose turn it is at that ask."""
    if len(front) <= TURN:
        return front
    first = asks * TURN % len(front)
    return islice(cycle(front), first, first + TURN)


def _others(parameter: Parameter, value: Any, source: random.Random) -> list[Any]:
    """Other values of a hole: of few all, of many the next ones and some drawn."""
    count = parameter.count()
    if count is not None and count <= FEW:
        return [other for other in parameter.values() if other != value]
    drawn = [parameter.sample(source) for _ in range(3)]
    if parameter.kind != "categorical" and count is not None:
        place = round((value - parameter.low) / (parameter.step or 1))
        drawn += [parameter.at(next_) for next_ in (place - 1, place + 1) if 0 <= next_ < count]
    return [other for other in dict.fromkeys(drawn) if other != value]
