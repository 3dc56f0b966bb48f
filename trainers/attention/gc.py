"""Global context: pixels are weighed, not averaged, and the context is added to every pixel."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from trainers.attention import GATES


class GC(nn.Module):
    """The module that `attention` builds: one attention map over pixels, a bottleneck, a fusion."""

    def __init__(self, channels: int, hidden: int, fusion: str) -> None:
        super().__init__()
        self.gate = next((gate for name, gate in GATES.items() if name == fusion), None)
        self.key = nn.Conv2d(channels, 1, 1)
        self.down = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.up = nn.Linear(hidden, channels)
        if self.gate is None:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, C, H, W) with what the whole image says of each channel."""
        weights = self.key(x).flatten(2).softmax(2)  # (N, 1, H * W)
        context = (x.flatten(2) @ weights.transpose(1, 2)).squeeze(2)  # (N, C)
        y: torch.Tensor = self.up(torch.relu(self.norm(self.down(context))))
        y = y[:, :, None, None]
        return x + y if self.gate is None else x * self.gate(y)


def attention(
    channels: int,
    *,
    reduction: PositiveInt = 16,
    fusion: Literal["add", "sigmoid", "hard_sigmoid", "tanh", "double_sigmoid"] = "add",
) -> nn.Module:
    """Global context block: a sum of pixels by learnt weights goes to every pixel alike.

    c = sum over pixels j of softmax_j(Wk x_j) x_j;  x + W2 relu(LN(W1 c)), W1 of shape (h, C)
    (Cao et al., GCNet, ICCV workshops 2019, eq. 6; timm's GlobalContext)

    fusion: `add` is the paper's and starts as the identity, W2 being zero. Any other is a gate:
      x * gate(W2 relu(LN(W1 c))), of which timm takes the sigmoid.

    All layers have a bias, as in the authors' code; that of Wk changes nothing, as softmax does not
    see it.

    Shape (N, C, H, W) -> (N, C, H, W). Cost: `2 * C * h + 2 * C + 3 * h + 1` parameters,
    `2 * C * H * W + 2 * C * h` MACs, where `h = max(4, C // reduction)`: the norm
    of one number is always 0, and no block at 16 channels would ever learn.
    """
    return GC(channels, max(4, channels // reduction), fusion)
