"""SE-Var1 of the ECA paper: a gate without parameters."""

from __future__ import annotations

from torch import nn

from spaces.gates import Gate, Pool
from trainers.attention import ChannelGate


def attention(channels: int, *, gate: Gate = "sigmoid", pool: Pool = "avg") -> nn.Module:
    """SE-Var1: each channel is gated by its own mean, and nothing is learnt.

    x * sigmoid(GAP(x))    (Wang et al., ECA-Net, CVPR 2020, section 3.1 and table 2)

    What it gains over the plain network is the gate's doing, not that of any interaction.

    Shape (N, C, H, W) -> (N, C, H, W). Cost: `0` parameters, `0` MACs.
    """
    return ChannelGate(gate, pool)
