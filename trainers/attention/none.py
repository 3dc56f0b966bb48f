"""No attention."""

from __future__ import annotations

from torch import nn


def attention(channels: int) -> nn.Module:
    """No attention: the plain network, the control of every comparison.

    Shape (N, C, H, W) -> (N, C, H, W), unchanged. Cost: `0` parameters, `0` MACs.
    """
    return nn.Identity()
