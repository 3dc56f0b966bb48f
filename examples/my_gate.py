"""A channel attention of one's own: `eca-search run space.yaml --plugin my_gate.py`.

In a space file it is `attention: {name: my_gate, temperature: 2.0}`.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn


def attention(
    channels: int, *, temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
) -> nn.Module:
    """Scale each channel by sigmoid(w x mean / temperature), one weight a channel.

    (N, C, H, W) in and out; C parameters, C multiply-adds beside the pooling. SE-Var2 of the
    ECA-Net paper (table 2) with a temperature.
    """
    return Gate(channels, temperature)


class Gate(nn.Module):
    """The module; its weights begin at 1, so that every channel is scaled by its own mean."""

    def __init__(self, channels: int, temperature: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        """The images, each channel scaled."""
        means = images.mean(dim=(2, 3))
        gate = torch.sigmoid(means * self.weight / self.temperature)
        return images * gate[:, :, None, None]
