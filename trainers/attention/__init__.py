"""Channel attention, one kind a file: `attention(channels[, kernel_size], *, ...) -> nn.Module`.

Each docstring says what its kind costs on maps (C, H, W) as Python would compute it: `k` is the
kernel size, a parameter goes by its name, and 1 MAC is one multiply-add of a convolution or matrix
product; pooling, gates and products element by element count nothing. A file may define `LATER`,
the parameters that it got after networks had been trained without them, each with the value that
changes nothing: at that value they are no part of a network's identity.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from spaces.gates import Gate, Pool

EPSILON = 1e-5
"""What a variance is raised by: the root of 0 has no slope."""


def average(x: torch.Tensor) -> torch.Tensor:
    """Each map's mean: (N, C, H, W) -> (N, C)."""
    return x.mean((2, 3))


def maximum(x: torch.Tensor) -> torch.Tensor:
    """Each map's greatest value: (N, C, H, W) -> (N, C)."""
    return x.amax((2, 3))


def average_and_maximum(x: torch.Tensor) -> torch.Tensor:
    """Halfway between mean and greatest value (timm's `add_maxpool`)."""
    return 0.5 * average(x) + 0.5 * maximum(x)


def deviation(x: torch.Tensor) -> torch.Tensor:
    """Each map's standard deviation, the root of variance + EPSILON.

    The style pooling of SRM (Lee et al., ICCV 2019) has it beside the mean.
    """
    centred = x - x.mean((2, 3), keepdim=True)
    return (centred.square().mean((2, 3)) + EPSILON).sqrt()


def double_sigmoid(y: torch.Tensor) -> torch.Tensor:
    """2 sigmoid(y): 1 where y is 0, so that a new gate neither damps nor amplifies.

    The `attn_gain` of timm's NFNets.
    """
    return 2 * torch.sigmoid(y)


GATES: dict[Gate, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": F.hardsigmoid,
    "tanh": torch.tanh,
    "double_sigmoid": double_sigmoid,
}
POOLS: dict[Pool, Callable[[torch.Tensor], torch.Tensor]] = {
    "avg": average,
    "max": maximum,
    "avg_max": average_and_maximum,
    "std": deviation,
}


class ChannelGate(nn.Module):
    """Pools each map to one number y (N, C) and scales it by gate(logits(y)).

    A kind of attention says in `logits` how the channels interact; here each is its own logit.
    """

    def __init__(self, gate: Gate, pool: Pool) -> None:
        super().__init__()
        self.gate = GATES[gate]
        self.pool = POOLS[pool]

    def logits(self, y: torch.Tensor) -> torch.Tensor:
        """What the gate is given, for pooled maps: (N, C) -> (N, C)."""
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, C, H, W), each scaled by one number."""
        w = self.gate(self.logits(self.pool(x)))
        return x * w[:, :, None, None]


def reach(kernel_size: int) -> int:
    """Neighbours that a kernel sees on either side, (k-1)/2.

    Raises ValueError for a kernel size that is even (the output would lose a channel) or below 1.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be a positive odd number (got {kernel_size})")
    return (kernel_size - 1) // 2
