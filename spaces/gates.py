"""What an attention module may gate with, and how it may pool: the names, for its parameters."""

from __future__ import annotations

from typing import Literal

Gate = Literal["sigmoid", "hard_sigmoid", "tanh", "double_sigmoid"]
Pool = Literal["avg", "max", "avg_max", "std"]
