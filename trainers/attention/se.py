"""Squeeze and excitation: two fully connected layers, the widely used control."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn

from spaces.gates import Gate, Pool
from trainers.attention import ChannelGate

LATER = {"gate": "sigmoid", "pool": "avg"}


class SE(ChannelGate):
    """The module that `attention` builds: two fully connected layers around a bottleneck."""

    def __init__(self, channels: int, hidden: int, bias: bool, gate: Gate, pool: Pool) -> None:
        super().__init__(gate, pool)
        self.down = nn.Linear(channels, hidden, bias=bias)
        self.up = nn.Linear(hidden, channels, bias=bias)

    def logits(self, y: torch.Tensor) -> torch.Tensor:
        """All channels through the bottleneck: (N, C) -> (N, C)."""
        logits: torch.Tensor = self.up(torch.relu(self.down(y)))
        return logits


def attention(
    channels: int,
    *,
    reduction: PositiveInt = 16,
    bias: bool = False,
    gate: Gate = "sigmoid",
    pool: Pool = "avg",
) -> nn.Module:
    """Squeeze and excitation: a gate per channel from a small network that sees all channels.

    x * sigmoid(W2 relu(W1 GAP(x))), W1 of shape (h, C), W2 of shape (C, h)
    (Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, eq. 2 to 4). Without bias by default:
    those are the parameter counts of the ECA paper's tables. `gate` and `pool` stand for the
    sigmoid and for GAP; the authors found tanh and the maximum worse (ablations, TPAMI version).

    Shape (N, C, H, W) -> (N, C, H, W). Cost: `2 * C * h + bias * (C + h)` parameters,
    `2 * C * h` MACs, where `h = max(1, C // reduction)`.
    """
    return SE(channels, max(1, channels // reduction), bias, gate, pool)
