"""`backbone: {name: timm}`: the networks of timm under our head, attention behind their stages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import trainers
from spaces import Config, published
from trainers import pretrained
from trainers.portable import program

PLAIN = {"name": "none"}
POST = {"name": "eca", "position": "post"}


def config(
    model: str, attention: dict[str, Any] = PLAIN, start: Path | None = None, size: int = 64
) -> Config:
    """Ten classes of a few pixels."""
    return Config.model_validate(
        {
            "name": "timm",
            "dataset": {"name": "cifar10", "image_size": size},
            "backbone": {
                "name": "timm",
                "model": model,
                "pretrained": None if start is None else str(start),
            },
            "attention": attention,
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )


@pytest.mark.parametrize("model", ["resnet18d", "regnety_002", "densenet121", "seresnet18"])
def test_timms_weights_make_timms_network(model, tmp_path):
    """With weights in timm's file our network answers as timm's."""
    torch.manual_seed(0)
    theirs = timm.create_model(model, num_classes=10).eval()
    for name, tensor in theirs.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.dim() == 1 and tensor.is_floating_point():
            tensor.uniform_(0.3, 0.7)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    chosen = config(model, start=tmp_path / "theirs.pth")
    x = torch.randn(2, 3, 64, 64)

    assert pretrained.check(chosen) == []
    with torch.inference_mode():
        # the same operations but for the order of sums in pooling
        torch.testing.assert_close(
            trainers.build(chosen).eval()(x), theirs(x), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("model", ["resnet18d", "regnety_002", "convnext_atto", "vgg11"])
def test_attention_stands_behind_each_stage(model):
    """A site for each size of map from a quarter down, counted from 1; its cost is what torch
    counts, and every parameter learns.
    """
    point, plain = config(model, POST), config(model)
    sites = trainers.sites(point)

    assert [site.name for site in sites] == [f"stage{s}.block1" for s in range(1, len(sites) + 1)]
    assert {site.position for site in sites} == {"post"}
    assert len(trainers.kernels(point)) == len(sites) >= 4
    added = trainers.measure(point).params - trainers.measure(plain).params
    assert added == sum(trainers.kernels(point).values())
    net = trainers.build(point)
    net(torch.randn(4, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.randn(1, 3, 64, 64))
    assert trainers.measure(point).macs == counter.get_total_flops() // 2
    maps = net.backbone.maps(torch.randn(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == [site.channels for site in sites]


def test_it_is_portable_and_knows_grey():
    """torch.export writes it down; images may have one channel."""
    point = config("resnet18d", POST, size=32)
    digits = point.model_dump(mode="json") | {"dataset": {"name": "digits", "image_size": 32}}
    grey = Config.model_validate(digits)

    assert program(trainers.build(grey).eval(), grey)
    assert trainers.identity(point) not in (
        trainers.identity(config("resnet18d", size=32)),
        trainers.identity(config("resnet26d", POST, size=32)),
    )


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("resnet27d", "backbone.model: timm has no such network"),
        ("vit_tiny_patch16_224", "backbone.model: timm does not cut"),
        ("swin_tiny_patch4_window7_224", "backbone.model: timm does not cut"),
        ("efficientnet_b0", "backbone.model: timm does not cut"),
        ("resnet18.a1_in1k", "model: not allowed here"),
        ("hf-hub:someone/something", "model: not allowed here"),
    ],
)
def test_what_is_no_such_network_is_told(model, said):
    """By key, whether it is found by its text or by timm; nothing is fetched."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is what is looked at
        trainers.measure(config(model))
    assert said in str(caught.value)


def test_without_timm_it_is_told(monkeypatch):
    """Where timm is not installed the error says how to get it."""
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(ValueError, match=r"pip install 'eca-search\[timm\]'"):
        trainers.measure(config("resnet34d"))


def test_it_has_no_published_size():
    """It is none of the backbones that go by name and depth, as it needs a model's name."""
    assert "timm" not in published.names()
    assert isinstance(trainers.build(config("resnet18d")), nn.Module)


def test_a_network_of_timms_carries_a_detector(tmp_path):
    """Its cuts are the pyramid's maps, attention stands behind them; what is frozen is all that
    comes before the first cut, unless the file lacks it.
    """
    theirs = timm.create_model("resnet18d", num_classes=10)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    base = config("resnet18d", POST, tmp_path / "theirs.pth").model_dump(mode="json")
    base["task"] = {"name": "detection", "detector": {"name": "faster_rcnn", "channels": 16}}
    base["dataset"] = {"name": "coco", "image_size": 64}
    chosen = Config.model_validate(base)

    with pytest.warns(UserWarning, match="starts anew"):
        net = trainers.build(chosen)

    assert net.backbone.strides == [4, 8, 16, 32]
    assert trainers.measure(chosen).params == sum(p.numel() for p in net.parameters())
    kept = {name.split(".")[1] for name, p in net.body.named_parameters() if not p.requires_grad}
    assert kept == {"conv1", "bn1", "layer1"}
    assert all(p.requires_grad for p in net.body.posts.parameters())
    torch.manual_seed(0)
    with torch.no_grad():
        (answer,) = net.eval()([torch.rand(3, 64, 80)])
    assert answer["boxes"].shape[1] == 4
