"""What can be wrong with a space, and how it is said: one line a problem, six lines at most."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

LINES = 6
GOT = 60
KEY = 80
MESSAGE = 200


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written: a file with line and column (from 1), or an override."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        where = self.source.encode("unicode_escape").decode("ascii").replace("\\\\", "\\")
        return where if self.line is None else f"{where}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, at which key, and what was got and is allowed."""

    place: Place | None
    key: str
    message: str

    def __str__(self) -> str:
        key = clipped(self.key, KEY)
        message = clipped(self.message, MESSAGE - len(key))
        return ": ".join(str(part) for part in (self.place, key, message) if part)


class SpaceError(ValueError):
    """A space, an override or a set of values that cannot be used.

    ``problems`` holds all of them in the order of the file; ``str()`` is at most six lines, each
    of some 200 characters after its place, without control characters.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems]
        if len(lines) > LINES:
            lines = [*lines[: LINES - 1], f"... and {len(lines) - LINES + 1} more"]
        return "\n".join(lines)


class VariantError(ValueError):
    """Parameters that do not fit a variant, or parts of a config that do not fit each other.

    ``problems`` is one (dotted key, message) or more; ``key`` and ``message`` are the first's.
    """

    def __init__(self, *problems: tuple[str, str]) -> None:
        self.problems = problems
        self.key, self.message = problems[0]
        super().__init__(*problems)

    def __str__(self) -> str:
        return "; ".join(str(Problem(None, key, message)) for key, message in self.problems)


def clipped(text: str, most: int) -> str:
    """``text`` on one line: control characters spelt out, cut in the middle where it is long."""
    line = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
    if len(line) <= most:
        return line
    tail = most // 4  # the end says what would be allowed
    return f"{line[: most - tail - 3]}...{line[-tail:]}"


def shown(value: Any) -> str:
    """A value as a person would write it in YAML, short enough for one line."""
    if isinstance(value, dict):
        return "a mapping" if value else "{}"
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= GOT else f"{text[: GOT - 3]}..."


def nearest(word: object, names: Sequence[str]) -> str:
    """``; did you mean 'gamma'?``, or nothing where no name comes near."""
    near = difflib.get_close_matches(str(word)[:80], names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def counted(number: float, word: str) -> str:
    """``1 network``, ``2 networks``, ``1,000 networks``, ``0.5 GPUs``."""
    written = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{written} {word}{'s'[: number != 1]}"


def listed(names: Iterable[object], most: int = 12) -> str:
    """Names in a row, cut where there are many."""
    words = list(dict.fromkeys(str(name) for name in names))
    return ", ".join(words[:most]) + (f", ... ({len(words)} in all)" if len(words) > most else "")
