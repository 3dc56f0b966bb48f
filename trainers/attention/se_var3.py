"""SE-Var3 of the ECA paper: one full matrix, no bottleneck."""

from __future__ import annotations

from torch import nn

from spaces.gates import Gate, Pool
from trainers.attention.se_group import Grouped


def attention(channels: int, *, gate: Gate = "sigmoid", pool: Pool = "avg") -> nn.Module:
    """SE-Var3: every channel's gate sees every channel, through one matrix.

    x * sigmoid(W GAP(x)), W of shape (C, C)    (Wang et al., ECA-Net, CVPR 2020, section 3.1 and
    table 2)

    Weights start as U(-1/sqrt(C), 1/sqrt(C)), PyTorch's default.

    Shape (N, C, H, W) -> (N, C, H, W). Cost: `C * C` parameters, `C * C` MACs.
    """
    return Grouped(channels, 1, gate, pool)
