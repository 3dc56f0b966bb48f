"""ResNeXt, ResNet-D and the first ResNet, out of parameters of `resnet`: the networks of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

import trainers
from spaces import Config, catalogue
from spaces.config import Attention, Component
from spaces.errors import VariantError
from trainers import pretrained
from trainers.complexity import count
from trainers.datasets import Description

D = {"stem": "deep", "shortcut": "pooled"}
TIMM_ECA = {"name": "eca", "mapping": {"name": "log2", "k_min": 3}}
PLAIN = {"name": "none"}
slow = pytest.mark.slow


def config(start: Path, attention: dict[str, Any] = PLAIN, **backbone: Any) -> Config:
    """Ten classes of 64 pixels, from a file of weights."""
    parts = {"name": "resnet", "stem": "imagenet", "pretrained": str(start), **backbone}
    return Config.model_validate(
        {
            "name": "relative",
            "dataset": {"name": "cifar10", "image_size": 64},
            "backbone": parts,
            "attention": attention,
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )


def shaken(network: nn.Module) -> nn.Module:
    """The network with all numbers near 1 / sqrt(inputs) or 1, none of them zero, in evaluation."""
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.dim() > 1:
                tensor.mul_(1 + 0.2 * (torch.rand(tensor.shape, generator=draw) - 0.5))
            elif tensor.is_floating_point():
                tensor.copy_(0.5 + 0.2 * torch.rand(tensor.shape, generator=draw))
            assert name
    return network.eval()


def same(theirs: nn.Module, chosen: Config) -> None:
    """With their weights, read from a file under their names, our network answers as theirs."""
    torch.save(shaken(theirs).state_dict(), str(chosen.backbone.pretrained))
    assert pretrained.check(chosen) == []
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, expected = trainers.build(chosen).eval()(images), theirs(images)
    # the same operations; pooling by mean or by AdaptiveAvgPool2d sums in another order
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("resnet18", {"depth": 18}),
        ("resnet34", {"depth": 34}),
        ("resnet50", {"depth": 50}),
        pytest.param("resnet101", {"depth": 101}, marks=slow),
        pytest.param("resnet152", {"depth": 152}, marks=slow),
        ("resnext50_32x4d", {"depth": 50, "groups": 32, "base_width": 4}),
        pytest.param("resnext101_32x8d", {"depth": 101, "groups": 32, "base_width": 8}, marks=slow),
        ("wide_resnet50_2", {"depth": 50, "base_width": 128}),
    ],
)
def test_torchvision(name, backbone, tmp_path):
    """ResNet, ResNeXt and Wide ResNet of torchvision."""
    same(getattr(torchvision.models, name)(num_classes=10), config(tmp_path / "w.pth", **backbone))


@pytest.mark.parametrize(
    ("name", "backbone", "attention"),
    [
        ("resnet18d", {"depth": 18, **D}, PLAIN),
        ("resnet34d", {"depth": 34, **D}, PLAIN),
        ("resnet50d", {"depth": 50, **D}, PLAIN),
        ("ecaresnet50d", {"depth": 50, **D}, TIMM_ECA),
        pytest.param("ecaresnet101d", {"depth": 101, **D}, TIMM_ECA, marks=slow),
    ],
)
def test_timm(name, backbone, attention, tmp_path):
    """ResNet-D of timm, and its ECA networks: the kernels of the paper's mapping, at least 3."""
    same(timm.create_model(name, num_classes=10), config(tmp_path / "w.pth", attention, **backbone))


def cost(**backbone: Any) -> trainers.Complexity:
    """Of a ResNet at 224 pixels and 1000 classes."""
    parts = {"name": "resnet", "stem": "imagenet", **backbone}
    whole = Component(**catalogue.check("backbone", parts))
    return count(whole, Attention(name="none"), Description(1000, 3, 224))


def test_version_1_strides_earlier():
    """Stride on the 1x1: 3,857,973,248 MACs on ResNet-50 against 4,089,184,256, as many params
    (closed form over the shapes).
    """
    published, torchvisions = cost(depth=50, stride="1x1"), cost(depth=50)

    assert (published.macs, torchvisions.macs) == (3_857_973_248, 4_089_184_256)
    assert published.params == torchvisions.params
    assert cost(depth=101, stride="1x1").macs == 7_570_194_432
    assert cost(depth=152, stride="1x1").macs == 11_282_415_616


def test_what_changes_nothing_is_no_other_network(tmp_path):
    """Basic blocks have one place for the stride: v1 is v1.5 there, and so is its identity."""
    one, other = (
        trainers.identity(config(tmp_path, depth=18, stride=where)) for where in ("1x1", "3x3")
    )

    assert one == other
    assert trainers.identity(config(tmp_path, depth=50, stride="1x1")) != trainers.identity(
        config(tmp_path, depth=50)
    )


@pytest.mark.parametrize("change", [{"groups": 32}, {"base_width": 4}])
def test_basic_blocks_have_no_groups(change):
    """Groups of a depth without bottlenecks are refused by name."""
    with pytest.raises(VariantError, match="depth 18 has no bottlenecks"):
        cost(depth=18, **change)
