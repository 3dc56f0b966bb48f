"""Candidates: different networks within the limits that a sampler may choose among.

A small space is listed. Of a large one the pool is a number of random points, more with every ask,
and the neighbours of the networks on the front: which these are depends on the seed and the front
alone, so a resumed search has the same pool.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search.trial import Candidate, Trial, digest_int
from spaces import Space
from spaces.parameters import Parameter

Values = dict[str, Any]
LISTED = 4_000
"""A space of at most so many settings is a pool as a whole, in the end."""
FIRST = 192
"""Random points at the first ask."""
EACH = 8
"""More with every further one, while there are fewer than `MOST`."""
MOST = 600
NEAR = 24
"""Neighbours of a network of the front."""


@dataclass(frozen=True, slots=True)
class Point:
    """A network and values that make it."""

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
        self._points: dict[str, Point | None] = {}  # by values
        self._near: dict[str, list[Point]] = {}  # by run key
        self._drawn: list[Point] = []
        self._source = self._order()
        self._begun = 0
        size = space.size()
        self.listed = size is not None and size <= LISTED

    def candidates(self, asks: int, front: Iterable[Point]) -> list[Point]:
        """What may be chosen at that ask, each network once, whatever was tried before."""
        most = LISTED if self.listed else MOST
        self._draw(min(FIRST + EACH * asks, most))
        found: dict[str, Point] = {}
        for point in self._drawn:
            found.setdefault(point.network.key, point)
        if not self.listed:
            for member in front:
                for point in self._neighbours(member):
                    found.setdefault(point.network.key, point)
        return list(found.values())

    def rest(self, tried: Container[str]) -> Iterator[Point]:
        """Every other point, of a space that is listed; of another, `MOST` more random ones."""
        for _ in range(MOST if not self.listed else LISTED):
            before = self._begun
            self._draw(before + 1)
            if self._begun == before:
                return
            if self._drawn and self._drawn[-1].network.key not in tried:
                yield self._drawn[-1]

    def _draw(self, count: int) -> None:
        """Look at points until so many were, whether or not they came to anything."""
        while self._begun < count:
            values = next(self._source, None)
            if values is None:
                return
            self._begun += 1
            point = self._at(values)
            if point is not None:
                self._drawn.append(point)

    def _order(self) -> Iterator[Values]:
        size = self._space.size()
        source = random.Random(digest_int(self._seed, "pool"))
        if size is not None and size <= LISTED:
            settings = list(self._space.settings())
            source.shuffle(settings)
            yield from settings
        else:
            while True:
                yield self._space.fill(lambda parameter: parameter.sample(source))

    def _at(self, values: Values) -> Point | None:
        name = json.dumps(values)
        if name not in self._points:
            network = self._look(values)
            self._points[name] = None if network is None else Point(values, network)
        return self._points[name]

    def _neighbours(self, member: Point) -> list[Point]:
        """Points that differ from a member in one or two holes, of those that are given a value."""
        key = member.network.key
        if key not in self._near:
            source = random.Random(digest_int(self._seed, "near", key))
            moves = [
                (parameter, value)
                for parameter in self._space.parameters
                if parameter.name in member.values
                for value in _others(parameter, member.values[parameter.name], source)
            ]
            source.shuffle(moves)
            near = []
            for number, (parameter, value) in enumerate(moves[:NEAR]):
                change = {parameter.name: value}
                if number >= 2 * NEAR // 3:
                    change |= dict([(p.name, v) for p, v in source.sample(moves, 1)])
                point = self._at(self._moved(member.values, change, source))
                if point is not None and point.network.key != key:
                    near.append(point)
            self._near[key] = near
        return self._near[key]

    def _moved(self, values: Values, change: Mapping[str, Any], source: random.Random) -> Values:
        def chosen(parameter: Parameter) -> Any:
            if parameter.name in change:
                return change[parameter.name]
            if parameter.name in values:
                return values[parameter.name]
            return parameter.sample(source)

        return self._space.fill(chosen)


def _others(parameter: Parameter, value: Any, source: random.Random) -> list[Any]:
    """Some other values: of a few all, of a number the next ones and one further away."""
    count = parameter.count()
    if count is not None and count <= 5:
        return [other for other in parameter.values() if other != value]
    if parameter.kind == "categorical":
        return [other for other in source.sample(parameter.choices, 5) if other != value]
    return [other for _ in range(3) if (other := parameter.sample(source)) != value]
