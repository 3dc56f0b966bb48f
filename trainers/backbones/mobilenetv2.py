"""MobileNetV2: inverted residuals with linear bottlenecks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from spaces.width import Width
from trainers.backbones import Ask, Attend, Backbone, asking, conv, multiple, resolve, scaled

# Blocks per stage; a stage is one of the paper's settings. There is but one depth.
BLOCKS = {None: (1, 2, 3, 4, 3, 3, 1)}
# Channels that the stages put out at width 1.
CHANNELS = {None: (16, 24, 32, 64, 96, 160, 320)}


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project (Sandler et al., MobileNetV2, CVPR 2018, figure 3b).

    The projection has no activation. The input is added only where it has the output's shape.
    """

    def __init__(
        self, ask: Ask, channels_in: int, channels: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.adds = stride == 1 and channels_in == channels
        self.pre = ask("pre", channels_in)
        self.expand = nn.Identity() if expansion == 1 else layer(channels_in, hidden, 1)
        self.depthwise = layer(hidden, hidden, 3, stride, groups=hidden)
        self.mid = ask("mid", hidden)
        self.project = nn.Sequential(conv(hidden, channels, 1), nn.BatchNorm2d(channels))
        self.final = ask("final", channels)
        if self.adds:
            self.shortcut = ask("shortcut", channels)
        self.post = ask("post", channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, channels_in, H, W) -> (N, channels, H / stride, W / stride)."""
        y = self.mid(self.depthwise(self.expand(self.pre(x))))
        y = self.final(self.project(y))
        if self.adds:
            y = y + self.shortcut(x)
        out: torch.Tensor = self.post(y)
        return out


def layer(
    channels_in: int, channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, norm and ReLU6."""
    return nn.Sequential(
        conv(channels_in, channels, kernel_size, stride, groups),
        nn.BatchNorm2d(channels),
        nn.ReLU6(inplace=True),
    )


def backbone(
    attend: Attend,
    channels_in: int,
    image_size: int,
    *,
    width: Width | Annotated[list[Width], Field(min_length=7, max_length=7)] = 1.0,
    stem: Literal["auto", "cifar", "imagenet"] = "auto",
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
) -> Backbone:
    """MobileNetV2 (Sandler et al., Inverted Residuals and Linear Bottlenecks, CVPR 2018, table 2).

    width: multiplies the channels of the seven stages, all of them or one number for each; the
      stem takes the first stage's, the last 1x1 convolution the last stage's where above 1.
      Rounded to a multiple of 8 (imagenet stem) or 4 (cifar stem).
    stem: `imagenet` as published, 32 times smaller maps at the end; `cifar` has stride 1 in the
      stem and in the second stage, 8 times smaller maps; `auto` is cifar up to 64 pixels.
    dropout: of the pooled features before the classifier: torchvision's 0.2; the authors of
      ECA-Net train with 0.25.

    Images (N, channels_in, image_size, image_size) -> features (N, channels, h, w). Attention may
    stand at: `pre` first on the branch, before the expansion, `mid` after the depthwise
    convolution's norm and activation, `final` after the projection's norm, `post` after the add
    (there is no activation), and in blocks that add their input `shortcut`, on it.

    Raises ValueError for a list of widths that is not seven long.
    """
    start = resolve(stem, image_size)
    expansions = (1, 6, 6, 6, 6, 6, 6)
    strides = (1, 2, 2, 2, 1, 2, 1) if start == "imagenet" else (1, 1, 2, 2, 1, 2, 1)
    outputs = scaled(CHANNELS[None], width, start)
    widths = list(width) if isinstance(width, Sequence) else [width] * len(outputs)
    divisor = 8 if start == "imagenet" else 4
    last = multiple(1280 * max(1.0, widths[-1]), divisor)

    channels = multiple(32 * widths[0], divisor)
    beginning = layer(channels_in, channels, 3, stride=2 if start == "imagenet" else 1)
    structure = {"channels": [channels, *outputs, last], "stem": start, "dropout": dropout}

    stages, levels, smaller = [], [], 2 if start == "imagenet" else 1
    for stage, repeats in enumerate(BLOCKS[None], 1):
        members = []
        for number in range(1, repeats + 1):
            stride = strides[stage - 1] if number == 1 else 1
            ask = asking(attend, stage, number)
            expansion = expansions[stage - 1]
            members.append(InvertedResidual(ask, channels, outputs[stage - 1], stride, expansion))
            channels = outputs[stage - 1]
            smaller *= stride
        stages.append(nn.Sequential(*members))
        levels.append((smaller, channels))

    top = layer(channels, last, 1)
    return Backbone(beginning, stages, last, structure, top=top, dropout=dropout, levels=levels)


def renamed(name: str) -> str:
    """Our name of a parameter for torchvision's, which the authors of ECA-Net have kept.

    There the blocks are numbered through, and the attention is the last part of a block.
    """
    name = re.sub(r"^classifier\.1\.", "fc.", name)
    outside = re.fullmatch(r"features\.(\d+)\.(\d.+)", name)
    if outside:
        end = {0: "stem", sum(BLOCKS[None]) + 1: "top"}.get(int(outside[1]))
        return f"backbone.{end}.{outside[2]}" if end else name
    inside = re.fullmatch(r"features\.(\d+)\.conv\.(\d)\.(.+)", name)
    places = [(s, b) for s, repeats in enumerate(BLOCKS[None]) for b in range(repeats)]
    if not inside or not 1 <= int(inside[1]) <= len(places):
        return name
    stage, block = places[int(inside[1]) - 1]
    parts = ["expand"] * (stage > 0) + ["depthwise", "project.0", "project.1", "final"]
    part = parts[int(inside[2])] if int(inside[2]) < len(parts) else inside[2]
    return f"backbone.stages.{stage}.{block}.{part}.{inside[3]}"
