"""How many of its node's cores this process may use to decode images: its share of them.

Eight trials on a node of 16 cores that each decode with 8 processes would be 64 on 16 cores. Who
starts the trials says how many there are; left to itself a process takes all cores it may run on.
"""

from __future__ import annotations

import os

_allowed: int | None = None


def allow(cores: int | None) -> None:
    """From now on at most so many in this process; None: all that it may run on."""
    global _allowed
    _allowed = cores


def share() -> int:
    """How many it may use, 1 or more."""
    there = len(os.sched_getaffinity(0))
    return there if _allowed is None else max(1, min(_allowed, there))
