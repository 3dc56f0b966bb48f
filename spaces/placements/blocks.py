"""Attention in single blocks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spaces.site import Site


def placement(
    site: Site,
    *,
    blocks: list[Annotated[str, Field(pattern=r"^stage[1-9][0-9]*\.block[1-9][0-9]*$")]],
) -> bool:
    """Attention in some blocks.

    blocks: their names, such as ``stage1.block1``, counted from 1. An empty list is the network
      without attention.
    """
    return site.name in blocks
