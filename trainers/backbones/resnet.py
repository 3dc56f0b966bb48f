"""Residual networks, for CIFAR and for ImageNet."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F  # noqa: N812

from spaces.width import Width
from trainers.backbones import Ask, Attend, Backbone, asking, conv, resolve, scaled

# Blocks per stage.
BLOCKS = {
    8: (1, 1, 1),
    14: (2, 2, 2),
    20: (3, 3, 3),
    32: (5, 5, 5),
    44: (7, 7, 7),
    56: (9, 9, 9),
    110: (18, 18, 18),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
# Channels that the stages put out at width 1; a bottleneck's are 4 times those inside it.
CHANNELS = {
    8: (16, 32, 64),
    14: (16, 32, 64),
    20: (16, 32, 64),
    32: (16, 32, 64),
    44: (16, 32, 64),
    56: (16, 32, 64),
    110: (16, 32, 64),
    18: (64, 128, 256, 512),
    34: (64, 128, 256, 512),
    50: (256, 512, 1024, 2048),
    101: (256, 512, 1024, 2048),
    152: (256, 512, 1024, 2048),
}


class Basic(nn.Module):
    """Two 3x3 convolutions (He et al., Deep Residual Learning, CVPR 2016, figure 5 left)."""

    expansion = 1

    def __init__(self, ask: Ask, channels_in: int, planes: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.pre = ask("pre", channels_in)
        self.conv1 = conv(channels_in, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.mid = ask("mid", planes)
        self.conv2 = conv(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.final = ask("final", planes)
        self.path = path(channels_in, planes, stride, shortcut)
        self.shortcut = ask("shortcut", planes)
        self.post = ask("post", planes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, channels_in, H, W) -> (N, channels, H / stride, W / stride)."""
        y = self.mid(F.relu(self.bn1(self.conv1(self.pre(x))), inplace=True))
        y = self.final(self.bn2(self.conv2(y)))
        out: torch.Tensor = self.post(F.relu(y + self.shortcut(self.path(x)), inplace=True))
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 (figure 5 right), with the stride on the 3x3: the v1.5 of torchvision."""

    expansion = 4

    def __init__(self, ask: Ask, channels_in: int, planes: int, stride: int, shortcut: str) -> None:
        super().__init__()
        channels = planes * self.expansion
        self.pre = ask("pre", channels_in)
        self.conv1 = conv(channels_in, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.mid = ask("mid", planes)
        self.conv3 = conv(planes, channels, 1)
        self.bn3 = nn.BatchNorm2d(channels)
        self.final = ask("final", channels)
        self.path = path(channels_in, channels, stride, shortcut)
        self.shortcut = ask("shortcut", channels)
        self.post = ask("post", channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, channels_in, H, W) -> (N, channels, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(self.pre(x))), inplace=True)
        y = self.mid(F.relu(self.bn2(self.conv2(y)), inplace=True))
        y = self.final(self.bn3(self.conv3(y)))
        out: torch.Tensor = self.post(F.relu(y + self.shortcut(self.path(x)), inplace=True))
        return out


class Subsample(nn.Module):
    """The shortcut without parameters (option A): every stride-th pixel, new channels zero."""

    def __init__(self, added: int, stride: int) -> None:
        super().__init__()
        self.added = added
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, C, H, W) -> (N, C + added, H / stride, W / stride)."""
        # Where a narrower stage follows, `added` is negative and the last channels are cut.
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))


def path(channels_in: int, channels: int, stride: int, shortcut: str) -> nn.Module:
    """What the shortcut does to the block's input before it is added to the branch."""
    if stride == 1 and channels_in == channels:
        return nn.Identity()
    if shortcut == "identity":
        return Subsample(channels - channels_in, stride)
    return nn.Sequential(conv(channels_in, channels, 1, stride), nn.BatchNorm2d(channels))


def backbone(
    attend: Attend,
    channels_in: int,
    image_size: int,
    *,
    depth: Literal[8, 14, 20, 32, 44, 56, 110, 18, 34, 50, 101, 152],
    width: Width | Annotated[list[Width], Field(min_length=3, max_length=4)] = 1.0,
    stem: Literal["auto", "cifar", "imagenet"] = "auto",
    shortcut: Literal["projection", "identity"] = "projection",
) -> Backbone:
    """Residual network (He et al., Deep Residual Learning for Image Recognition, CVPR 2016).

    depth: 8, 14, 20, 32, 44, 56, 110 are the paper's CIFAR networks (section 4.2: three stages of
      16, 32, 64 channels); 18 and 34, and with bottlenecks 50, 101, 152, its ImageNet networks
      (table 1: four stages of 64, 128, 256, 512 channels, times 4 after a bottleneck).
    width: multiplies those channels, in all stages or one number for each; the stem takes the
      first stage's. Rounded to a multiple of 8 (imagenet stem) or 4 (cifar stem).
    stem: `cifar` is a 3x3 convolution; `imagenet` a 7x7 of stride 2 and a 3x3 max-pooling of
      stride 2; `auto` is cifar up to 64 pixels. Either goes with any depth.
    shortcut: where a block changes the shape, `projection` is a 1x1 convolution and its norm,
      `identity` the parameter-free subsampling with zero channels (the paper's option A).

    Images (N, channels_in, image_size, image_size) -> features (N, channels, h, w). Attention may
    stand at: `pre` first on the branch, `mid` after the first 3x3's norm and activation, `final`
    after the last norm before the add, `shortcut` on the shortcut after its projection, `post`
    after the add and the last activation; every block has all five.

    Raises ValueError for a list of widths that is not as long as the network has stages.
    """
    blocks = BLOCKS[depth]
    block = Basic if len(blocks) == 3 or depth < 50 else Bottleneck
    start = resolve(stem, image_size)
    planes = scaled([out // block.expansion for out in CHANNELS[depth]], width, start)

    channels = planes[0]
    beginning: list[nn.Module] = [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    if start == "imagenet":
        beginning = [conv(channels_in, channels, 7, 2), *beginning, nn.MaxPool2d(3, 2, 1)]
    else:
        beginning = [conv(channels_in, channels, 3), *beginning]

    stages = []
    for stage, repeats in enumerate(blocks, 1):
        members = []
        for number in range(1, repeats + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            ask = asking(attend, stage, number)
            members.append(block(ask, channels, planes[stage - 1], stride, shortcut))
            channels = planes[stage - 1] * block.expansion
        stages.append(nn.Sequential(*members))

    structure = {"depth": depth, "channels": planes, "stem": start, "shortcut": shortcut}
    return Backbone(nn.Sequential(*beginning), stages, channels, structure)


def renamed(name: str) -> str:
    """Our name of a parameter for torchvision's, which the authors of ECA-Net have kept."""
    name = re.sub(r"^conv1\.", "backbone.stem.0.", name)
    name = re.sub(r"^bn1\.", "backbone.stem.1.", name)
    inside = re.fullmatch(r"layer([1-9])\.(\d+)\.(\w+)\.(.+)", name)
    if not inside:
        return name
    stage, block, part, rest = inside.groups()
    part = {"downsample": "path", "eca": "final"}.get(part, part)
    return f"backbone.stages.{int(stage) - 1}.{block}.{part}.{rest}"
