"""SE-Var2 of the ECA paper: a weight for each channel, no interaction."""

from __future__ import annotations

from torch import nn

from spaces.gates import Gate, Pool
from trainers.attention.se_group import Grouped


def attention(channels: int, *, gate: Gate = "sigmoid", pool: Pool = "avg") -> nn.Module:
    """SE-Var2: each channel is gated by its own mean times its own weight.

    x * sigmoid(w GAP(x)), w diagonal    (Wang et al., ECA-Net, CVPR 2020, section 3.1 and table 2)

    Weights start as U(-1, 1), PyTorch's default for one input.

    Shape (N, C, H, W) -> (N, C, H, W). Cost: `C` parameters, `C` MACs.
    """
    return Grouped(channels, channels, gate, pool)
