"""Options of a space that lead nowhere, found before a study exists by building what takes them.

An option that no network can be built with would otherwise vanish from a search without a word:
every proposal that takes it is answered as invalid.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from search.redaction import redacted
from spaces import Space, SpaceError
from spaces.errors import MESSAGE, Problem, VariantError, clipped, shown
from spaces.parameters import Parameter

Values = dict[str, Any]
Check = Callable[[Values], object]
"""Builds a point, or costs it; raises ValueError for one that cannot be built."""

SECTIONS = ("backbone.", "attention", "training.")
"""Where options are looked at: those of a dataset would be read, or downloaded, for it."""
TRIES = 40
"""Points tried for an option in a space too large to try them all."""
ALL = 10_000
"""Settings of a space in which all that take an option are tried before it is refused."""
HEAVY = 100
"""Options of the backbone that are looked at: each may be a network to count, 0.1 seconds."""
DRAWN = 200


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """How many of the points looked at cannot be built, and what is wrong with some of them."""

    looked: int
    failed: int
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        share = f"{self.failed:,} of {self.looked:,}"
        return (
            f"some settings cannot be built, and are never trained ({share} looked at): "
            f"{'; '.join(self.reasons)}"
        )


def refuse_dead(space: Space, check: Check) -> None:
    """Raise SpaceError for the options that nothing can be built with, each at what is to blame.

    An option inside another that is refused is not named again. In a space of more than `ALL`
    settings an option is refused that none of `TRIES` different settings could be built with.
    """
    dead: set[tuple[str, Any]] = set()
    problems: dict[tuple[str, str], Problem] = {}
    for parameter, option in _options(space):
        if dead.intersection(parameter.condition):
            continue
        first: tuple[Values, ValueError] | None = None
        for values in _takers(space, parameter, option):
            try:
                check(values)
            except ValueError as error:
                first = first or (values, error)
            else:
                break
        else:
            assert first is not None
            dead.add((parameter.name, option))
            said = f"no setting with {parameter.name}={_word(option)} can be built: "
            for problem in located(space, first[1], first[0]):
                found = Problem(problem.place, problem.key, said + problem.message)
                problems.setdefault((str(problem.place), problem.key), found)
    if problems:
        raise SpaceError(problems.values())


def drawn(space: Space, check: Check, most: int = DRAWN) -> Unbuilt:
    """What cannot be built among `most` random points."""
    reasons: dict[str, None] = {}
    failed = 0
    for seed in range(most):
        values = space.sample(seed=seed)
        try:
            check(values)
        except ValueError as error:
            failed += 1
            reasons[reason(error)] = None
    return Unbuilt(most, failed, tuple(reasons)[:3])


def located(space: Space, error: ValueError, values: Values) -> list[Problem]:
    """What an error says of the point `values`, at the places of the space's file."""
    if isinstance(error, SpaceError):
        return list(error.problems)
    if isinstance(error, VariantError):
        return [space.problem(key, said, values) for key, said in error.problems]
    return [space.problem("", str(error), values)]


def reason(error: ValueError) -> str:
    """The error's first problem, in few words and without its place."""
    if isinstance(error, SpaceError):
        first = error.problems[0]
        return redacted(str(Problem(None, first.key, first.message)))
    return redacted(clipped(str(error), MESSAGE))


def _options(space: Space) -> Iterator[tuple[Parameter, Any]]:
    """The options of every choice and subset, outer ones before those inside them."""
    heavy = 0
    for parameter in space.parameters:
        if parameter.kind != "categorical" or not parameter.name.startswith(SECTIONS):
            continue
        for option in parameter.choices:
            heavy += parameter.name.startswith("backbone.")
            if heavy <= HEAVY or not parameter.name.startswith("backbone."):
                yield parameter, option


def _takers(space: Space, parameter: Parameter, option: Any) -> Iterator[Values]:
    """Settings that take the option: all where they are few, else defaults, ends and random ones.

    What cannot be built lies beyond a bound as a rule, so that random corners of the space find
    what can be.
    """
    fixed = {**dict(parameter.condition), parameter.name: option}

    def filled(other: Callable[[Parameter], Any]) -> Values:
        return space.fill(lambda p: fixed[p.name] if p.name in fixed else other(p))

    yield filled(Parameter.first)
    yield filled(lambda p: p.ends()[-1])
    for seed in range(TRIES // 2 - 1):
        source = random.Random(seed)
        yield filled(lambda p: source.choice(p.ends()))  # noqa: B023 - asked at once
        yield filled(lambda p: p.sample(source))  # noqa: B023
    size = space.size()
    if size is not None and size <= ALL:
        for values in space.settings():
            if all(values.get(name) == label for name, label in fixed.items()):
                yield values


def _word(option: Any) -> str:
    return option if isinstance(option, str) else shown(option)
