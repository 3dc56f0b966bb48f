"""Residual networks, for CIFAR and for ImageNet."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn
from torch.nn import functional as F  # noqa: N812

from spaces.errors import VariantError
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
    """1x1, 3x3, 1x1 (figure 5 right).

    The stride is on the 3x3, the v1.5 of torchvision and of ECA-Net, or on the 1x1 before it
    (`early`), as in the paper. The 3x3 has `width` channels in `groups` groups: more than one make
    a ResNeXt (Xie et al., Aggregated Residual Transformations, CVPR 2017, figure 3c).
    """

    expansion = 4

    def __init__(
        self,
        ask: Ask,
        channels_in: int,
        planes: int,
        stride: int,
        shortcut: str,
        *,
        base_width: int = 64,
        groups: int = 1,
        early: bool = False,
    ) -> None:
        super().__init__()
        channels = planes * self.expansion
        width = max(1, planes * base_width // 64) * groups
        first, second = (stride, 1) if early else (1, stride)
        self.pre = ask("pre", channels_in)
        self.conv1 = conv(channels_in, width, 1, first)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, second, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.mid = ask("mid", width)
        self.conv3 = conv(width, channels, 1)
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
    if shortcut == "pooled":
        pool = (
            nn.Identity()
            if stride == 1
            else nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
        )
        return nn.Sequential(pool, conv(channels_in, channels, 1), nn.BatchNorm2d(channels))
    return nn.Sequential(conv(channels_in, channels, 1, stride), nn.BatchNorm2d(channels))


def backbone(
    attend: Attend,
    channels_in: int,
    image_size: int,
    *,
    depth: Literal[8, 14, 20, 32, 44, 56, 110, 18, 34, 50, 101, 152],
    width: Width | Annotated[list[Width], Field(min_length=3, max_length=4)] = 1.0,
    stem: Literal["auto", "cifar", "imagenet", "deep"] = "auto",
    shortcut: Literal["projection", "identity", "pooled"] = "projection",
    stride: Literal["3x3", "1x1"] = "3x3",
    groups: PositiveInt = 1,
    base_width: PositiveInt = 64,
) -> Backbone:
    """Residual network (He et al., Deep Residual Learning for Image Recognition, CVPR 2016).

    depth: 8, 14, 20, 32, 44, 56, 110 are the paper's CIFAR networks (section 4.2: three stages of
      16, 32, 64 channels); 18 and 34, and with bottlenecks 50, 101, 152, its ImageNet networks
      (table 1: four stages of 64, 128, 256, 512 channels, times 4 after a bottleneck).
    width: multiplies those channels, in all stages or one number for each; the stem takes the
      first stage's. Rounded to a multiple of 8 (imagenet stem) or 4 (cifar stem).
    stem: `cifar` is a 3x3 convolution; `imagenet` a 7x7 of stride 2 and a 3x3 max-pooling of
      stride 2, `deep` the same out of three 3x3, the first two of half the channels; `auto` is
      cifar up to 64 pixels. Each goes with any depth.
    shortcut: where a block changes the shape, `projection` is a 1x1 convolution and its norm,
      `identity` the parameter-free subsampling with zero channels (the paper's option A), `pooled`
      a 2x2 average pooling and a 1x1 convolution of stride 1.
    stride: which convolution of a bottleneck halves the map: `3x3` as in torchvision and ECA-Net
      (v1.5), `1x1` as published (v1). Basic blocks have but one place for it.
    groups, base_width: of the 3x3 of a bottleneck: its groups, and the channels of one of them in
      the first stage at width 1. 32 and 4 are ResNeXt-50 (32x4d).

    ResNet-D (He et al., Bag of Tricks, CVPR 2019, figure 2) is `stem: deep, shortcut: pooled`.

    Images (N, channels_in, image_size, image_size) -> features (N, channels, h, w). Attention may
    stand at: `pre` first on the branch, `mid` after the first 3x3's norm and activation, `final`
    after the last norm before the add, `shortcut` on the shortcut after its projection, `post`
    after the add and the last activation; every block has all five.

    Raises ValueError for a list of widths that is not as long as the network has stages, and for
    groups or a base_width where there is no bottleneck.
    """
    blocks = BLOCKS[depth]
    narrow, early = len(blocks) == 4 and depth >= 50, stride == "1x1"
    if not narrow:
        for key, value, only in (("groups", groups, 1), ("base_width", base_width, 64)):
            if value != only:
                said = f"depth {depth} has no bottlenecks (got {value}; allowed: {only})"
                raise VariantError((key, said))
    expansion = (Bottleneck if narrow else Basic).expansion
    start = resolve(stem, image_size)
    planes = scaled([out // expansion for out in CHANNELS[depth]], width, start)

    def block(ask: Ask, channels_in: int, planes: int, stride: int) -> nn.Module:
        if not narrow:
            return Basic(ask, channels_in, planes, stride, shortcut)
        own = {"base_width": base_width, "groups": groups}
        return Bottleneck(ask, channels_in, planes, stride, shortcut, early=early, **own)

    channels, smaller = planes[0], 1 if start == "cifar" else 4

    stages, levels = [], []
    for stage, repeats in enumerate(blocks, 1):
        members = []
        for number in range(1, repeats + 1):
            halving = 2 if stage > 1 and number == 1 else 1
            ask = asking(attend, stage, number)
            members.append(block(ask, channels, planes[stage - 1], halving))
            channels = planes[stage - 1] * expansion
            smaller *= halving
        stages.append(nn.Sequential(*members))
        levels.append((smaller, channels))

    structure: dict[str, Any] = {
        "depth": depth,
        "channels": planes,
        "stem": start,
        "shortcut": shortcut,
    }
    # what came later is said only where it changes something: identities stay as they were
    if narrow and early:
        structure["stride"] = stride
    if (groups, base_width) != (1, 64):
        structure |= {"groups": groups, "base_width": base_width}
    stem_of = beginning(channels_in, planes[0], start)
    return Backbone(stem_of, stages, channels, structure, levels=levels)


def beginning(channels_in: int, channels: int, stem: str) -> nn.Sequential:
    """The stem: images (N, channels_in, H, W) to maps of so many channels, of which only a cifar
    stem's are not a quarter as high and wide.
    """
    after = [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    if stem == "cifar":
        return nn.Sequential(conv(channels_in, channels, 3), *after)
    if stem == "imagenet":
        first: nn.Module = conv(channels_in, channels, 7, 2)
    else:
        half = max(1, channels // 2)
        first = nn.Sequential(
            *(conv(channels_in, half, 3, 2), nn.BatchNorm2d(half), nn.ReLU(inplace=True)),
            *(conv(half, half, 3), nn.BatchNorm2d(half), nn.ReLU(inplace=True)),
            conv(half, channels, 3),
        )
    return nn.Sequential(first, *after, nn.MaxPool2d(3, 2, 1))


def renamed(name: str) -> str:
    """Our name of a parameter for torchvision's, which the authors of ECA-Net have kept.

    So has timm, whose blocks call any attention `se`.
    """
    name = re.sub(r"^conv1\.", "backbone.stem.0.", name)
    name = re.sub(r"^bn1\.", "backbone.stem.1.", name)
    inside = re.fullmatch(r"layer([1-9])\.(\d+)\.(\w+)\.(.+)", name)
    if not inside:
        return name
    stage, block, part, rest = inside.groups()
    part = {"downsample": "path", "eca": "final", "se": "final"}.get(part, part)
    return f"backbone.stages.{int(stage) - 1}.{block}.{part}.{rest}"
