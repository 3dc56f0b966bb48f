"""CBAM: a gate for each channel, then one for each pixel."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn

from spaces.gates import Gate
from spaces.kernels import KernelSize
from trainers.attention import GATES, average, maximum


class CBAM(nn.Module):
    """The module that `attention` builds: a bottleneck seen twice, then a convolution."""

    def __init__(self, channels: int, hidden: int, bias: bool, spatial: int, gate: Gate) -> None:
        super().__init__()
        self.gate = GATES[gate]
        self.down = nn.Linear(channels, hidden, bias=bias)
        self.up = nn.Linear(hidden, channels, bias=bias)
        self.conv = nn.Conv2d(2, 1, spatial, padding=(spatial - 1) // 2, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def channel(self, y: torch.Tensor) -> torch.Tensor:
        """All channels through the bottleneck: (N, C) -> (N, C)."""
        logits: torch.Tensor = self.up(torch.relu(self.down(y)))
        return logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, C, H, W), scaled channel by channel, then pixel by pixel."""
        w = self.gate(self.channel(average(x)) + self.channel(maximum(x)))
        x = x * w[:, :, None, None]
        pixels = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        out: torch.Tensor = x * self.gate(self.norm(self.conv(pixels)))
        return out


def attention(
    channels: int,
    *,
    reduction: PositiveInt = 16,
    bias: bool = False,
    spatial: KernelSize = 7,
    gate: Gate = "sigmoid",
) -> nn.Module:
    """CBAM: a gate per channel from means and maxima, then a gate per pixel from those of channels.

    x' = x * sigmoid(M(GAP(x)) + M(GMP(x))), M = W2 relu W1, W1 of shape (h, C);
    x'' = x' * sigmoid(BN(conv_s[mean over channels of x'; maximum over channels of x']))
    (Woo et al., CBAM, ECCV 2018, eq. 1 to 3; the norm is that of the authors' code and of timm's
    CbamModule)

    bias: of W1 and W2. The authors' code has it; timm has not, nor has the ECA paper's ResNet-50.
    spatial: the side of the convolution over pixels, in pixels.

    The norm's statistics are over the whole batch, so in training images see each other, and a
    batch needs more than one pixel in all.

    Shape (N, C, H, W) -> (N, C, H, W). Cost:
    `2 * C * h + bias * (C + h) + 2 * spatial**2 + 2` parameters,
    `4 * C * h + 2 * spatial**2 * H * W` MACs, where `h = max(1, C // reduction)`.
    """
    return CBAM(channels, max(1, channels // reduction), bias, spatial, gate)
