"""Efficient channel attention: one small kernel, shared by all channels."""

from __future__ import annotations

import torch
from torch import nn


class ECA(nn.Module):
    """The module that `attention` builds: a one-dimensional convolution over the channel axis."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=(kernel_size - 1) // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Gate maps x (N, C, H, W) by their channel means."""
        y = x.mean((2, 3))  # (N, C, H, W) -> (N, C)
        w = torch.sigmoid(self.conv(y.unsqueeze(1)))  # -> (N, 1, C)
        return x * w.transpose(1, 2).unsqueeze(-1)  # gate (N, C, 1, 1)


def attention(channels: int, kernel_size: int) -> nn.Module:
    """Efficient channel attention: each channel's gate is read from its k neighbours' means.

    y = GAP(x); x * sigmoid(C1D_k(y))    (Wang et al., ECA-Net, CVPR 2020, eq. 6 to 9)

    The convolution runs along the channel axis, zero-padded by (k-1)/2, one kernel shared by all
    channels, without bias; its weights start as PyTorch's default, U(-1/sqrt(k), 1/sqrt(k)), like
    the authors'. Shape (N, C, H, W) -> (N, C, H, W). k parameters, k * C MACs; pooling, sigmoid
    and the product are no multiply-accumulates by our convention.

    Raises ValueError for a kernel size that is even (the output would lose a channel) or below 1.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be a positive odd number (got {kernel_size})")
    return ECA(kernel_size)
