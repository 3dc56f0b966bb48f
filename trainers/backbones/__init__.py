"""Backbones, one a file: `backbone(attend, channels_in, image_size, *, ...) -> Backbone`.

A backbone asks `attend(Site(...))` at every position of every block and puts the answer there; it
knows no kind of attention. Blocks and stages count from 1. Beside its function each file lists
`BLOCKS`, the residual blocks per stage, and `CHANNELS`, the channels that each stage puts out at
width 1, for every depth (None where there is but one). They are literals, so that they can be read
without importing torch. It may define `renamed(name) -> str`: our name of a parameter for the one
in weights that others have published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spaces.errors import VariantError
from spaces.site import Site

Attend = Callable[[Site], nn.Module]
Ask = Callable[[str, int], nn.Module]


class Backbone(nn.Module):
    """A convolutional network without its head: stem, stages, top.

    `forward` gives what a classifier pools, (N, channels, h, w); `maps` gives the output of every
    stage, what a detector builds its pyramid on. `structure` says in JSON what was built, all
    choices resolved: two backbones of one file with equal structure, fed alike, are the same
    network. `dropout` is the rate at which the network's authors drop the pooled features.
    `levels` are the stages' strides and channels: by how much each one's map is smaller than the
    image, and its channels. A backbone without them cannot carry a detector.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        channels: int,
        structure: Mapping[str, Any],
        *,
        top: nn.Module | None = None,
        dropout: float = 0.0,
        levels: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.top = nn.Identity() if top is None else top
        self.channels = channels
        self.structure = structure
        self.dropout = dropout
        self.levels = tuple(levels)

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The feature maps after each stage, first to last, for images x (N, C, H, W)."""
        x = self.stem(x)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def blocks(self) -> list[nn.Module]:
        """The parts that stages repeat, first to last: what `training.compile` compiles.

        A stage that is not a sequence is one block.
        """
        return members(self.stages)

    def beginning(self, stages: int) -> list[nn.Module]:
        """The stem and the first so many stages, as modules."""
        return [self.stem, *self.stages[:stages]]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The features of images x: (N, channels, h, w)."""
        features: torch.Tensor = self.top(self.maps(x)[-1])
        return features


def members(parts: Iterable[nn.Module]) -> list[nn.Module]:
    """Parts in their order, a plain sequence among them as what it is a sequence of."""
    sequences = (part if type(part) is nn.Sequential else [part] for part in parts)
    return [member for sequence in sequences for member in sequence]


def asking(attend: Attend, stage: int, block: int) -> Ask:
    """The question of one block: position and channels in, the module to put there out."""
    return lambda position, channels: attend(Site(stage, block, position, channels))


def resolve(stem: str, image_size: int) -> str:
    """The stem that `auto` means: `cifar`, without early strides, up to 64 pixels."""
    if stem != "auto":
        return stem
    return "cifar" if image_size <= 64 else "imagenet"


def scaled(channels: Sequence[int], width: float | Sequence[float], stem: str) -> list[int]:
    """Channels per stage at a width multiplier, one for all stages or one for each.

    A multiple of 4 (cifar stem) or 8 (any other), rounded half up, never less than 0.9 of the
    exact product (the rounding of MobileNet's authors). Raises ValueError for a list of widths
    that does not fit the stages.
    """
    widths = list(width) if isinstance(width, Sequence) else [width] * len(channels)
    if len(widths) != len(channels):
        said = f"one number for each of the {len(channels)} stages (got {len(widths)})"
        raise VariantError(("width", said))
    divisor = 4 if stem == "cifar" else 8
    return [multiple(c * w, divisor) for c, w in zip(channels, widths, strict=True)]


def multiple(exact: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `exact`, at least `divisor` and 0.9 of `exact`."""
    rounded = max(divisor, int(exact + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * exact else rounded


def conv(
    channels_in: int, channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution that keeps the map's size at stride 1; no bias, as a norm follows."""
    padding = (kernel_size - 1) // 2
    return nn.Conv2d(channels_in, channels, kernel_size, stride, padding, groups=groups, bias=False)
