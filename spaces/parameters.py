"""Parameter: one name that a sampler sees, and the values it may give it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any, Literal

from spaces.errors import listed, nearest, shown
from spaces.scalars import Scalar

# The choices that must have been taken, as (parameter's name, option's label), outermost first.
Condition = tuple[tuple[str, str], ...]


class Missing(Enum):
    """The type of MISSING, which says that there is no default (null may be one)."""

    MISSING = "missing"


MISSING = Missing.MISSING


@dataclass(frozen=True, slots=True)
class Parameter:
    """One open value of a space.

    ``kind`` is "categorical" with ``choices``, or "int" or "float" with ``low`` to ``high``, both
    included, every ``step``-th value where there is a step, and even in the logarithm with
    ``log``. ``condition`` holds where the parameter is active; outside it has no value at all.
    """

    name: str
    kind: Literal["categorical", "int", "float"]
    choices: tuple[Scalar, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    default: Any = MISSING
    condition: Condition = ()

    @classmethod
    def categorical(
        cls, name: str, choices: tuple[Scalar, ...], default: Any, condition: Condition
    ) -> Parameter:
        """A parameter that is one of ``choices``."""
        return cls(name, "categorical", choices, default=default, condition=condition)

    def active(self, values: dict[str, Any]) -> bool:
        """Whether ``values``, which hold all parameters before this one, take its option."""
        return all(values.get(name) == label for name, label in self.condition)

    def count(self) -> int | None:
        """How many values there are; None where a float without step is free."""
        if self.kind == "categorical":
            return len(self.choices)
        if self.low == self.high:
            return 1
        if self.step is None:
            return None
        return math.floor((_exact(self.high) - _exact(self.low)) / _exact(self.step)) + 1

    def at(self, place: int) -> Any:
        """The value number ``place``, from 0; in exact decimals, so that 3 * 0.1 is 0.3."""
        if self.kind == "categorical":
            return self.choices[place]
        value = _exact(self.low) + place * _exact(self.step or 0)
        return int(value) if self.kind == "int" else float(value)

    def values(self) -> Iterator[Any]:
        """All values in order. Raises ValueError where they are not finite."""
        count = self.count()
        if count is None:
            raise ValueError(f"{self.name} is a float without step: its values are not countable")
        return (self.at(place) for place in range(count))

    def ends(self) -> tuple[Any, ...]:
        """Every choice, or the interval's ends."""
        return self.choices if self.kind == "categorical" else (self.low, self.high)

    def probes(self, most: int) -> tuple[Any, ...]:
        """What has to be legal for all values to be: every choice, or every value up to ``most``.

        Of more values an even spread, of values that cannot be counted the ends.
        """
        count = self.count()
        if self.kind == "categorical" or count is None:
            return self.ends()
        last = count - 1
        places = range(count) if count <= most else (i * last // (most - 1) for i in range(most))
        return tuple(self.at(place) for place in places)

    def first(self) -> Any:
        """The default, or the value that comes first."""
        return self.ends()[0] if self.default is MISSING else self.default

    def sample(self, random: random.Random) -> Any:
        """A value drawn evenly, or log-evenly."""
        count = self.count()
        if self.log and self.low < self.high:
            low, high = math.log(self.low), math.log(self.high)
            if self.kind == "float":
                return min(max(math.exp(random.uniform(low, high)), self.low), self.high)
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            drawn = round(math.exp(random.uniform(low, high)))
            return min(max(drawn, int(self.low)), int(self.high))
        if count is None:
            return random.uniform(self.low, self.high)
        return self.at(random.randrange(count))

    def legal(self, value: Any) -> Any:
        """``value`` as this parameter's own; floats within rounding of a step are put on it.

        Raises ValueError for a value that it cannot have, naming what it can.
        """
        if self.kind == "categorical":
            for choice in self.choices:
                if value == choice and isinstance(value, bool) == isinstance(choice, bool):
                    return choice
        elif isinstance(value, int if self.kind == "int" else int | float) and not isinstance(
            value, bool
        ):
            on_grid = self._on_grid(value)
            if on_grid is not None:
                return on_grid
        allowed = listed(map(shown, self.choices)) if self.kind == "categorical" else self._range()
        near = nearest(value, [str(choice) for choice in self.choices])
        raise ValueError(
            f"not a value of this parameter{near} (got {shown(value)}; allowed: {allowed})"
        )

    def _on_grid(self, value: float) -> Any:
        """The legal value that ``value`` is, up to rounding; None where there is none."""
        if not self.low <= value <= self.high or math.isnan(value):
            return None
        if self.step is None or self.low == self.high:
            return float(value)
        place = round((_exact(value) - _exact(self.low)) / _exact(self.step))
        nearby = self.at(place)
        return nearby if abs(nearby - value) <= 1e-9 * self.step else None

    def _range(self) -> str:
        step = "" if self.step in (None, 1) else f" in steps of {self.step}"
        return f"{self.low} to {self.high}{step}"


def every(parameters: Sequence[Parameter]) -> Iterator[dict[str, Any]]:
    """All settings of parameters that are finite, each a dict of values, in document order.

    Without recursion, as a space may have more parameters than Python has stack frames.
    """
    values: dict[str, Any] = {}
    begun: list[tuple[int, Iterator[Any]]] = []
    after = -1
    while True:
        for place in range(after + 1, len(parameters)):
            if parameters[place].active(values):
                rest = parameters[place].values()
                values[parameters[place].name] = next(rest)
                begun.append((place, rest))
        yield dict(values)
        while begun:  # the last parameter that has another value takes it
            after, rest = begun.pop()
            del values[parameters[after].name]
            more = next(rest, MISSING)
            if more is not MISSING:
                values[parameters[after].name] = more
                begun.append((after, rest))
                break
        else:
            return


def _exact(number: float) -> Fraction:
    """The number as it is written in decimals: 0.1 is one tenth."""
    return Fraction(str(number))
