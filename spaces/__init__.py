"""What may be chosen: search spaces in YAML, read, checked and sampled without torch."""

from __future__ import annotations

from spaces.config import Config
from spaces.errors import SpaceError
from spaces.space import Space, load

__all__ = ["Config", "Space", "SpaceError", "load"]
