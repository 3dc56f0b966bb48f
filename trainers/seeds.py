"""Random numbers that depend on what they are for, never on what ran before."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(*parts: int | str) -> int:
    """A seed of 63 bits from what it is for, such as `derive(seed, "order", epoch)`."""
    text = "\0".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(*parts: int | str) -> torch.Generator:
    """A generator of its own on the CPU, seeded by `derive`: equal on every machine and device."""
    import torch

    return torch.Generator().manual_seed(derive(*parts))
