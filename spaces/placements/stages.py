"""Attention in whole stages."""

from __future__ import annotations

from pydantic import PositiveInt

from spaces.site import Site


def placement(site: Site, *, stages: list[PositiveInt]) -> bool:
    """Attention in every block of some stages.

    stages: their numbers, the first residual stage being 1; MobileNetV2's stages are its seven
      settings. An empty list is the network without attention.
    """
    return site.stage in stages
