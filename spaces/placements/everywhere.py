"""Attention in every block."""

from __future__ import annotations

from spaces.site import Site


def placement(site: Site) -> bool:
    """Attention in every block, as in the ECA-Net paper."""
    return True
