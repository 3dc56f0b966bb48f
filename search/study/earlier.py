"""Spaces in the journals of earlier releases: what they say nothing of, they still mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spaces import Space

SECONDS = "search.checkpoints.every=600"
"""What a study is given whose release counted epochs there, not seconds."""
ALL = "search.checkpoints.of=all"
"""And one whose release kept every trial's checkpoints: what it has, it keeps."""
_CHECKPOINTS = re.compile(
    r"\bcheckpoints:.*?\bevery: (?P<every>[\d.e+-]+)(?P<of>,?\s+of:)?", re.DOTALL
)


def overrides(written: str, space: Space | None = None) -> list[str]:
    """With what the space that a driver has `written` down means what it meant to that driver.

    With a `space` that was read from its file since: where that says no more than was written.
    """
    found = re.search(_CHECKPOINTS, written)
    if found is None:
        return []
    epochs = found["every"].isdecimal()  # seconds are written with a dot
    if space is None:
        return [SECONDS] * epochs + [ALL] * (found["of"] is None)
    said = (space.written.plain() or {}).get("checkpoints") or {}
    same = space.search.checkpoints.every == float(found["every"])
    return [SECONDS] * (epochs and same) + [ALL] * (found["of"] is None and "of" not in said)
