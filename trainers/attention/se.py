"""Squeeze and excitation: two fully connected layers, the widely used control."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn


class SE(nn.Module):
    """The module that `attention` builds: two fully connected layers around a bottleneck."""

    def __init__(self, channels: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.down = nn.Linear(channels, hidden, bias=bias)
        self.up = nn.Linear(hidden, channels, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Gate maps x (N, C, H, W) by their channel means."""
        y = x.mean((2, 3))  # (N, C, H, W) -> (N, C)
        w = torch.sigmoid(self.up(torch.relu(self.down(y))))
        return x * w[:, :, None, None]  # gate (N, C, 1, 1)


def attention(channels: int, *, reduction: PositiveInt = 16, bias: bool = False) -> nn.Module:
    """Squeeze and excitation: a gate per channel from a small network that sees all channels.

    x * sigmoid(W2 relu(W1 GAP(x))), W1 of shape (C/r, C), W2 of shape (C, C/r)
    (Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, eq. 2 to 4). C/r is rounded down and
    at least 1. Without bias by default: those are the parameter counts of the ECA paper's tables.

    Shape (N, C, H, W) -> (N, C, H, W). 2 C (C/r) parameters (and C + C/r with bias),
    2 C (C/r) MACs.
    """
    return SE(channels, max(1, channels // reduction), bias)
