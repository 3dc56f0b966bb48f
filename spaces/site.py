"""A place where attention may stand."""

from __future__ import annotations

from dataclasses import dataclass

POSITIONS = ("final", "mid", "pre", "post", "shortcut")


@dataclass(frozen=True, slots=True)
class Site:
    """One position in one block of a backbone.

    ``stage`` and ``block`` count from 1, ``position`` is one of ``POSITIONS``, ``channels`` is how
    many channels (already scaled by the width) the module would see.
    """

    stage: int
    block: int
    position: str
    channels: int

    @property
    def name(self) -> str:
        """``stage1.block1``: how placements, results and MLflow name the block."""
        return f"stage{self.stage}.block{self.block}"


def in_order(name: str) -> tuple[int, ...]:
    """By what the names of sites are sorted: ``stage10.block2`` comes after ``stage9.block1``."""
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in name.split("."))
