"""Numbers as a command line has them: several in one option, and ranges."""

from __future__ import annotations

import math
import re
from typing import Any

import click

MOST = 500
"""Numbers of one option: of 500 gammas and 500 b there are 250,000 pairs to look at."""
WIDEST = 1_000_000
"""Channels."""


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers from `least` to `most` with commas between them, `1,1.5,2`.

    `once` drops what is said again; `hyphens` may stand for the commas, as in a profile 3-5-5-7.
    """

    name = "numbers"

    def __init__(
        self,
        kind: type[int] | type[float],
        least: float,
        most: float,
        *,
        once: bool = True,
        hyphens: bool = False,
    ) -> None:
        self.kind = kind
        self.least = least
        self.most = most
        self.once = once
        self.hyphens = hyphens

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers; a usage error for what is none, or is out of range."""
        from spaces.errors import clipped

        if isinstance(value, tuple):
            return value
        try:
            parts = re.split("[,-]" if self.hyphens else ",", value)
            numbers = tuple(self.kind(part) for part in parts)
        except ValueError:
            numbers = (math.nan,)
        if not all(map(math.isfinite, numbers)):
            what = "whole numbers" if self.kind is int else "numbers"
            between = f"commas{' or hyphens' * self.hyphens}"
            said = f"{clipped(repr(value), 60)} (allowed: {what} with {between} between them)"
            self.fail(said, param, ctx)
        if len(numbers) > MOST:
            self.fail(f"{len(numbers)} numbers (allowed: {MOST})", param, ctx)
        for number in numbers:
            if not self.least <= number <= self.most:
                got = clipped(f"{number:g}" if self.kind is float else str(number), 40)
                ends = f"{self.least:,} to {self.most:,}"
                self.fail(f"{got} is out of range (allowed: {ends})", param, ctx)
        return tuple(dict.fromkeys(numbers)) if self.once else numbers


class Between(click.FloatRange):
    """A number of a range; NaN, which is never outside of one, is none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; a usage error for what is none, or is out of range."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not in the range {self._describe_range()}.", param, ctx)
        return number


class Range(click.ParamType[tuple[int, int]]):
    """Channel counts from one to another, `8-4096`, both included."""

    name = "range"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Both ends; a usage error for what is no range of channels."""
        found = re.fullmatch(r"([0-9]{1,8})-([0-9]{1,8})", value)
        low, high = (int(end) for end in found.groups()) if found else (0, 0)
        if not 1 <= low <= high <= WIDEST:
            from spaces.errors import clipped

            said = f"{clipped(repr(value), 60)} (allowed: LOW-HIGH within 1-{WIDEST})"
            self.fail(said, param, ctx)
        return low, high
