"""Circular efficient channel attention: the last channel's neighbour is the first."""

from __future__ import annotations

import torch
from torch import nn

from spaces.gates import Gate, Pool
from trainers.attention import ChannelGate, reach


class CECA(ChannelGate):
    """The module that `attention` builds: a convolution over a ring of channels."""

    def __init__(self, kernel_size: int, gate: Gate, pool: Pool) -> None:
        super().__init__(gate, pool)
        self.around = reach(kernel_size)
        self.conv = nn.Conv1d(1, 1, kernel_size, bias=False)

    def logits(self, y: torch.Tensor) -> torch.Tensor:
        """Each channel's k neighbours on the ring: (N, C) -> (N, C)."""
        if self.around:
            y = torch.cat([y[:, -self.around :], y, y[:, : self.around]], 1)
        logits: torch.Tensor = self.conv(y.unsqueeze(1))
        return logits.squeeze(1)


def attention(
    channels: int, kernel_size: int, *, gate: Gate = "sigmoid", pool: Pool = "avg"
) -> nn.Module:
    """Circular ECA: as `eca`, but the channels close to a ring, so that none lacks a neighbour.

    y = GAP(x); x * sigmoid(C1D_k(y padded by its own other end))    (timm's CecaModule, C. Ha 2020)

    Channels have no order of their own: zero padding starves the first and the last of them for no
    reason. Shifting the channels around the ring shifts the gates.

    Shape (N, C, H, W) -> (N, C, H, W). Cost: `k` parameters, `k * C` MACs.

    Raises ValueError for a kernel size that is even or below 1, or that reaches more than once
    around: (k-1)/2 may be C at most.
    """
    if reach(kernel_size) > channels:
        most = 2 * channels + 1
        raise ValueError(
            f"kernel_size reaches more than once around {channels} channels "
            f"(got {kernel_size}; allowed: up to {most})"
        )
    return CECA(kernel_size, gate, pool)
