"""What attention costs follows a law, and what is measured is what torch counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import trainers
from spaces import catalogue
from spaces.config import Config
from spaces.site import POSITIONS

DEPTHS = [8, 14, 20, 32, 44, 56, 110, 18, 34, 50, 101, 152]
WIDTHS = st.sampled_from([0.25, 0.3, 0.5, 0.75, 1.0, 1.25])

backbones = st.one_of(
    st.fixed_dictionaries(
        {
            "name": st.just("resnet"),
            "depth": st.sampled_from(DEPTHS),
            "width": WIDTHS,
            "stem": st.sampled_from(["auto", "cifar", "imagenet"]),
            "shortcut": st.sampled_from(["projection", "identity"]),
        }
    ),
    st.fixed_dictionaries(
        {
            "name": st.just("mobilenetv2"),
            "width": WIDTHS,
            "stem": st.sampled_from(["auto", "cifar", "imagenet"]),
        }
    ),
)


@st.composite
def sized(draw: st.DrawFn) -> dict[str, Any]:
    """A backbone, some of them with one width for each stage."""
    backbone = draw(backbones)
    stages = len(catalogue.blocks(backbone))
    if draw(st.booleans()):
        backbone["width"] = draw(st.lists(WIDTHS, min_size=stages, max_size=stages))
    return backbone


@st.composite
def placed(draw: st.DrawFn, backbone: dict[str, Any]) -> dict[str, Any]:
    """A position and a placement that fits the backbone."""
    stages = range(1, len(catalogue.blocks(backbone)) + 1)
    placement = draw(
        st.one_of(
            st.just({"name": "everywhere"}),
            st.sets(st.sampled_from(stages)).map(
                lambda chosen: {"name": "stages", "stages": sorted(chosen)}
            ),
            st.sets(st.sampled_from([f"stage{s}.block1" for s in stages])).map(
                lambda chosen: {"name": "blocks", "blocks": sorted(chosen)}
            ),
        )
    )
    return {"position": draw(st.sampled_from(POSITIONS)), "placement": placement}


mappings = st.one_of(
    st.fixed_dictionaries(
        {
            "name": st.just("log2"),
            "gamma": st.sampled_from([1.0, 1.5, 2.0, 3.0, 4.0]),
            "b": st.sampled_from([0.0, 1.0, 2.0, 3.0]),
        }
    ),
    st.fixed_dictionaries(
        {"name": st.just("constant"), "kernel_size": st.sampled_from([1, 3, 5, 7, 9, 31])}
    ),
)


def config(backbone: dict[str, Any], attention: dict[str, Any], dataset: str) -> Config:
    return Config.model_validate(
        {
            "name": "law",
            "dataset": {"name": dataset},
            "backbone": backbone,
            "attention": attention,
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )


@settings(max_examples=40, deadline=None)
@given(data=st.data(), backbone=sized(), dataset=st.sampled_from(["digits", "cifar10"]))
def test_eca_adds_its_kernels(data, backbone, dataset):
    """ECA adds sum(k) params and sum(k * C) MACs over the sites where it stands, nothing else."""
    attention = {"name": "eca", "mapping": data.draw(mappings), **data.draw(placed(backbone))}
    dressed, plain = (
        config(backbone, attention, dataset),
        config(backbone, {"name": "none"}, dataset),
    )

    kernels = trainers.kernels(dressed)
    channels = {site.name: site.channels for site in trainers.active(dressed)}

    assert kernels.keys() == channels.keys()
    before, after = trainers.measure(plain), trainers.measure(dressed)
    assert after.params - before.params == sum(kernels.values())
    assert after.macs - before.macs == sum(k * channels[name] for name, k in kernels.items())


@settings(max_examples=20, deadline=None)
@given(data=st.data(), backbone=sized(), dataset=st.sampled_from(["digits", "cifar10"]))
def test_measure_is_what_torch_counts(data, backbone, dataset):
    """The measured cost is numel and FlopCounterMode / 2 of the network that is built, exactly."""
    kind = data.draw(st.sampled_from(["none", "eca", "se"]))
    attention: dict[str, Any] = {"name": kind}
    if kind != "none":
        attention |= data.draw(placed(backbone))
    if kind == "eca":
        attention["mapping"] = data.draw(mappings)
    if kind == "se":
        attention |= {"reduction": data.draw(st.integers(1, 64)), "bias": data.draw(st.booleans())}
    point = config(backbone, attention, dataset)

    cost = trainers.measure(point)

    channels, size = (1, 8) if dataset == "digits" else (3, 32)
    with torch.device("meta"):
        net = trainers.build(point).eval()
        x = torch.empty(1, channels, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x)
    assert cost.params == sum(p.numel() for p in net.parameters())
    assert cost.flops == counter.get_total_flops()
    assert cost.macs * 2 == cost.flops


@pytest.mark.parametrize("kind", ["none", "eca", "se"])
@pytest.mark.parametrize(
    "depth", [*DEPTHS, None], ids=lambda d: f"resnet{d}" if d else "mobilenetv2"
)
def test_every_backbone_costs_what_torch_counts(depth, kind):
    """Of each published size: params by numel, MACs by FlopCounterMode / 2, at 32 pixels."""
    backbone = {"name": "resnet", "depth": depth} if depth else {"name": "mobilenetv2"}
    point = config(backbone, {"name": kind}, "cifar10")

    with torch.device("meta"):
        net = trainers.build(point).eval()
        x = torch.empty(1, 3, 32, 32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x)

    assert trainers.measure(point) == trainers.Complexity(
        params=sum(p.numel() for p in net.parameters()), macs=counter.get_total_flops() // 2
    )


@settings(max_examples=40, deadline=None)
@given(data=st.data(), backbone=sized())
def test_identity_is_the_network(data, backbone):
    """Two configs have one identity exactly if kernels, sites and position are the same."""
    first, second = (
        config(
            backbone,
            {"name": "eca", "mapping": data.draw(mappings), **data.draw(placed(backbone))},
            "cifar10",
        )
        for _ in range(2)
    )

    built = [
        (trainers.kernels(c), c.attention.position if trainers.active(c) else None)
        for c in (first, second)
    ]

    assert (trainers.identity(first) == trainers.identity(second)) == (built[0] == built[1])
