"""What an old tool would have said: the operations that thop 0.0.22 and 0.0.30 counted.

The FLOPs of the ECA-Net paper's tables are these, in units of 2^30. They are neither FLOPs nor
MACs: a convolution counts one operation for each multiply-add, a linear layer two less one, a norm
four and pooling one for each element. thop hung its counts on modules, so an activation that a
block uses twice or three times was counted once, at its last size; sigmoids and the product with
the gate were not counted at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from spaces.config import Attention, Component
from spaces.site import Site
from trainers import variants
from trainers.attention import ChannelGate
from trainers.attention.se import SE
from trainers.backbones import Backbone
from trainers.backbones.resnet import Basic, Bottleneck
from trainers.build import kernel, module, stands
from trainers.datasets import Description
from trainers.network import assemble

VERSIONS = ("0.0.22", "0.0.30")
"""Of early and of late 2019; the second gave up counting activations and maximum pooling."""

Counts = dict[type[nn.Module], Callable[[Any, torch.Tensor, torch.Tensor], int]]


def operations(backbone: Component, attention: Attention, data: Description, version: str) -> int:
    """What that version of thop would have counted for one image, on the authors' networks.

    Exact, where thop added up in float32 and was off by 512 or less. Of attention other than
    `ChannelGate` only convolutions, linear layers and norms are counted.
    """
    make = variants.load("attention", attention.name)

    def attend(site: Site) -> nn.Module:
        if not stands(attention, site):
            return nn.Identity()
        return module(make, attention.params, site.channels, kernel(attention, site))

    total = 0

    def counter(count: Callable[[Any, torch.Tensor, torch.Tensor], int]) -> Any:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            nonlocal total
            total += count(layer, inputs[0], output)

        return hook

    with torch.device("meta"):
        net = assemble(backbone, data, attend).eval()
        for layer in net.modules():
            for kind, count in COUNTS[version].items():
                if isinstance(layer, kind):
                    layer.register_forward_hook(counter(count))
        with torch.no_grad():
            net(torch.empty(1, data.channels, data.image_size, data.image_size))
    return total


def _convolution(layer: nn.Conv1d | nn.Conv2d, x: torch.Tensor, y: torch.Tensor) -> int:
    return y.numel() * math.prod(layer.kernel_size) * layer.in_channels // layer.groups


def _linear(layer: nn.Linear, x: torch.Tensor, y: torch.Tensor) -> int:
    return y.numel() * (2 * layer.in_features - 1)


def _norm(layer: nn.BatchNorm2d, x: torch.Tensor, y: torch.Tensor) -> int:
    return 4 * y.numel()


def _pooling(layer: ChannelGate, x: torch.Tensor, y: torch.Tensor) -> int:
    return x.numel() + x.shape[1]


def _head(layer: Backbone, x: torch.Tensor, y: torch.Tensor) -> int:
    """The mean over its last map, which the head takes: no module's in the authors' MobileNetV2."""
    return y.numel() + y.shape[1] if isinstance(layer.top, nn.Identity) else 0


def _elements(layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> int:
    return y.numel()


def _maximum(layer: nn.MaxPool2d, x: torch.Tensor, y: torch.Tensor) -> int:
    return 3 * y.numel()  # its side, where its area was meant


def _hidden(layer: SE, x: torch.Tensor, y: torch.Tensor) -> int:
    return layer.down.out_features


IN_BOTH: Counts = {
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Linear: _linear,
    nn.BatchNorm2d: _norm,
    ChannelGate: _pooling,
    Backbone: _head,
}
COUNTS: dict[str, Counts] = {
    "0.0.22": {
        **IN_BOTH,
        nn.ReLU: _elements,
        nn.ReLU6: _elements,
        Basic: _elements,  # a block's last activation
        Bottleneck: _elements,
        SE: _hidden,
        nn.MaxPool2d: _maximum,
    },
    "0.0.30": IN_BOTH,
}
"""What a version counted, by the kind of module."""
