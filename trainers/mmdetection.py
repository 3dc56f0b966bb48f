"""What MMDetection would have said: the parameters and "FLOPs" that its tool of 2019 counted.

Table 5 of the ECA-Net paper holds these, of an image of 800 x 1280, in 10^6 and 10^9.
Parameters are those that are trained: the stem and the first stage are frozen, attention in it too.
FLOPs are neither FLOPs nor MACs: a convolution counts one operation for each multiply-add and one
for each bias, a deconvolution as many as a convolution of its output's size would have, a linear
layer its multiply-adds, a norm two and an activation one for each element, pooling one for each
element that it sees. What is no module there counts nothing: the addition in the pyramid and its
upsampling, the activation of the region proposal head, sigmoids and the product with the gate.
Source: mmdet/utils/flops_counter.py and the detectors' `forward_dummy` of version 1, which looks at
1000 regions, and at 100 of them for masks.
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
from trainers.backbones.resnet import Basic, Bottleneck
from trainers.build import kernel, module, stands
from trainers.datasets import Description
from trainers.detectors import detects
from trainers.network import assemble, passes

FUNCTION = "rpn.head.conv.0.1"
"""An activation that is a module in torchvision and none in MMDetection."""
HIDDEN = "roi_heads.box_head"
"""Two layers whose activations are modules in MMDetection and none in torchvision."""

Count = Callable[[Any, torch.Tensor, torch.Tensor], int]


def counted(
    backbone: Component, attention: Attention, data: Description, task: Component
) -> tuple[int, int]:
    """Trained parameters and operations of a detector over a ResNet, as that tool gives them.

    Exact for attention of `ChannelGate`; of other kinds convolutions, linear layers and norms are
    counted.
    """
    make = variants.load("attention", attention.name)

    def attend(site: Site) -> nn.Module:
        if not stands(attention, site):
            return nn.Identity()
        return module(make, attention.params, site.channels, kernel(attention, site))

    total, times = 0, 1

    def counter(count: Count) -> Any:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            nonlocal total
            total += times * count(layer, inputs[0], output)

        return hook

    with torch.device("meta"), torch.no_grad():
        net = assemble(backbone, data, attend, task).eval()
        assert detects(net)
        net.hold(net.body.state_dict())
        for name, layer in net.named_modules():
            for kind, count in COUNTS.items():
                if isinstance(layer, kind) and name != FUNCTION:
                    layer.register_forward_hook(counter(count))
            if name == HIDDEN:
                layer.register_forward_hook(counter(_twice))
        for part, shape, times in passes(net, data, task):  # noqa: B007 (the hooks read it)
            part(torch.empty(1, *shape))
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    return trained, total


def _convolution(layer: nn.Conv2d, x: torch.Tensor, y: torch.Tensor) -> int:
    inputs = math.prod(layer.kernel_size) * layer.in_channels // layer.groups
    return y.numel() * (inputs + (layer.bias is not None))


def _linear(layer: nn.Linear, x: torch.Tensor, y: torch.Tensor) -> int:
    return y.numel() * layer.in_features


def _norm(layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> int:
    return 2 * x.numel()


def _output(layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> int:
    return y.numel()


def _input(layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> int:
    return x.numel()


def _twice(layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> int:
    """Two activations of the output's size."""
    return 2 * y.numel()


def _bottleneck(block: Bottleneck, x: torch.Tensor, y: torch.Tensor) -> int:
    """Its three activations; the stride is on the 3x3."""
    inside = block.conv1.out_channels
    before = x[0, 0].numel() // math.prod(block.conv1.stride)
    return inside * (before + y[0, 0].numel()) + y.numel()


def _hidden(layer: SE, x: torch.Tensor, y: torch.Tensor) -> int:
    """The activation of its hidden layer."""
    return layer.down.out_features


COUNTS: dict[type[nn.Module], Count] = {
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _convolution,
    nn.Linear: _linear,
    nn.BatchNorm2d: _norm,
    nn.ReLU: _output,
    nn.MaxPool2d: _input,
    ChannelGate: _input,
    SE: _hidden,
    Basic: _twice,
    Bottleneck: _bottleneck,
}
