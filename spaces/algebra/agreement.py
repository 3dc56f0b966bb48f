"""Where two rules agree and where they differ: over all channel counts of a range, or at stages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from spaces.algebra.rules import Answer, Rule
from spaces.published import Stage


@dataclass(frozen=True, slots=True)
class Run:
    """Channel counts ``first`` to ``last``, both included, or those of one ``stage``.

    ``a`` and ``b`` are what the two rules answer to all of them.
    """

    first: int
    last: int
    a: Answer
    b: Answer
    stage: Stage | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """Two rules' answers to everything they were compared at; they agree where none differs."""

    a: Rule
    b: Rule
    runs: tuple[Run, ...]

    @property
    def differing(self) -> tuple[Run, ...]:
        """The runs in which the rules differ."""
        return tuple(run for run in self.runs if run.a != run.b)


def at(a: Rule, b: Rule, stages: Sequence[Stage]) -> Proof:
    """Two rules compared at the stages of a backbone: all there is of it."""
    return Proof(
        a,
        b,
        tuple(
            Run(s.channels, s.channels, a(s.channels, s.number), b(s.channels, s.number), s)
            for s in stages
        ),
    )


def over(a: Rule, b: Rule, low: int, high: int) -> Proof:
    """Two rules compared at all channel counts from ``low`` to ``high``, in as few runs as can be.

    Each step is found by bisection, as every mapping of channels alone grows with them and so
    never comes back to an answer.
    """
    runs = []
    first = low
    while first <= high:
        last = min(_last(a, first, high), _last(b, first, high))
        runs.append(Run(first, last, a(first), b(first)))
        first = last + 1
    return Proof(a, b, tuple(runs))


def _last(rule: Rule, first: int, high: int) -> int:
    """The last channel count up to ``high`` with the same answer as ``first``."""
    answer = rule(first)
    beyond = range(first, high + 1)
    return first - 1 + bisect_right(beyond, False, key=lambda channels: rule(channels) != answer)
