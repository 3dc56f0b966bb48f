"""Efficient channel attention: one small kernel, shared by all channels."""

from __future__ import annotations

import torch
from torch import nn

from spaces.gates import Gate, Pool
from trainers.attention import ChannelGate, reach

LATER = {"gate": "sigmoid", "pool": "avg"}


class ECA(ChannelGate):
    """The module that `attention` builds: a one-dimensional convolution over the channel axis."""

    def __init__(self, kernel_size: int, gate: Gate, pool: Pool) -> None:
        super().__init__(gate, pool)
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=reach(kernel_size), bias=False)

    def logits(self, y: torch.Tensor) -> torch.Tensor:
        """Each channel's k neighbours, weighted alike for all channels: (N, C) -> (N, C)."""
        logits: torch.Tensor = self.conv(y.unsqueeze(1))
        return logits.squeeze(1)


def attention(
    channels: int, kernel_size: int, *, gate: Gate = "sigmoid", pool: Pool = "avg"
) -> nn.Module:
    """Efficient channel attention: each channel's gate is read from its k neighbours' means.

    y = GAP(x); x * sigmoid(C1D_k(y))    (Wang et al., ECA-Net, CVPR 2020, eq. 6 to 9)

    The convolution runs along the channel axis, zero-padded by (k-1)/2, one kernel shared by all
    channels, without bias; its weights start as PyTorch's default, U(-1/sqrt(k), 1/sqrt(k)), like
    the authors'. `gate` and `pool` stand for the sigmoid and for GAP, the paper's choices.

    Shape (N, C, H, W) -> (N, C, H, W). Cost: `k` parameters, `k * C` MACs.

    Raises ValueError for a kernel size that is even (the output would lose a channel) or below 1.
    """
    return ECA(kernel_size, gate, pool)
