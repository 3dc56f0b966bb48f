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
