"""SE-GC of the ECA paper: a matrix of square blocks, channels interacting within groups."""

from __future__ import annotations

from math import gcd
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from spaces.gates import Gate, Pool
from trainers.attention import ChannelGate


class Grouped(ChannelGate):
    """A block-diagonal matrix over the channels: from one weight each to the full matrix."""

    def __init__(self, channels: int, groups: int, gate: Gate, pool: Pool) -> None:
        super().__init__(gate, pool)
        self.conv = nn.Conv1d(channels, channels, 1, groups=groups, bias=False)

    def logits(self, y: torch.Tensor) -> torch.Tensor:
        """Each channel from those of its group: (N, C) -> (N, C)."""
        logits: torch.Tensor = self.conv(y.unsqueeze(2))
        return logits.squeeze(2)


def size(channels: int, groups: int | str) -> int:
    """Channels of a group: C/16 for 16 groups, 16 for `C/16` groups.

    Where C is no multiple of the number, its greatest common divisor with C stands for it.
    """
    if isinstance(groups, int):
        return channels // gcd(channels, groups)
    return gcd(channels, int(groups.removeprefix("C/")))


def attention(
    channels: int,
    *,
    groups: PositiveInt | Literal["C/16", "C/8"] = 16,
    gate: Gate = "sigmoid",
    pool: Pool = "avg",
) -> nn.Module:
    """SE-GC: each channel's gate sees the channels of its group, through one matrix a group.

    x * sigmoid(W GAP(x)), W block-diagonal    (Wang et al., ECA-Net, CVPR 2020, eq. 5 and table 2)

    groups: 16, `C/16` and `C/8` are the paper's SE-GC1, SE-GC2 and SE-GC3; any other number too. 1
      is `se_var3`, C is `se_var2`. Where C is no multiple of 16 or 8, the greatest common divisor
      with C is meant.

    Weights start as PyTorch's default, U(-1/sqrt(s), 1/sqrt(s)).

    Shape (N, C, H, W) -> (N, C, H, W). Cost: `C * s` parameters, `C * s` MACs, of groups of
    `s = size(C, groups)` channels: C/16, 16 and 8 in the paper's three.
    """
    return Grouped(channels, channels // size(channels, groups), gate, pool)
