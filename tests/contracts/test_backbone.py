"""Every backbone there is, at every depth, stem and width, answers the same questions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from spaces import catalogue
from spaces.config import Attention, Component
from spaces.site import POSITIONS, Site
from trainers import variants
from trainers.complexity import count
from trainers.datasets import Description
from trainers.network import assemble, bare, skeleton
from trainers.tasks.classification import Classifier

CIFAR = Description(classes=10, channels=3, image_size=32)
IMAGENET = Description(classes=1000, channels=3, image_size=224)
GREY = Description(classes=7, channels=1, image_size=28)
NONE = Attention(name="none")


def backbones() -> list[dict[str, Any]]:
    """Every backbone at every depth that its BLOCKS lists."""
    found = []
    for name in variants.names("backbone"):
        for depth in variants.module("backbone", name).BLOCKS:
            found.append({"name": name} if depth is None else {"name": name, "depth": depth})
    return found


def sizes() -> list[dict[str, Any]]:
    """Every backbone, of those with a depth the least and the greatest that are quick to run, and
    ResNet's relatives.
    """
    resnet = {"name": "resnet"}
    return [
        *(b for b in backbones() if b.get("depth") in (None, 8, 20, 18, 50)),
        {**resnet, "depth": 50, "groups": 32, "base_width": 4, "stride": "1x1"},
        {**resnet, "depth": 18, "stem": "deep", "shortcut": "pooled"},
    ]


def component(parts: dict[str, Any], **more: Any) -> Component:
    """A backbone with its defaults filled in."""
    return Component(**catalogue.check("backbone", {**parts, **more}))


def label(parts: dict[str, Any]) -> str:
    """`resnet20` for a test's name, and whatever else is not its default."""
    more = [str(value) for name, value in parts.items() if name not in ("name", "depth")]
    return "-".join([f"{parts['name']}{parts.get('depth', '')}", *more])


def plain(site: Site) -> nn.Module:
    """The answer of a config without attention."""
    return nn.Identity()


def counted(backbone: Component, data: Description) -> tuple[int, int]:
    """Params and MACs as numel and torch's FlopCounterMode give them for the network itself."""
    with torch.device("meta"):
        net = assemble(backbone, data, plain).eval()
        x = torch.empty(1, data.channels, data.image_size, data.image_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x)
    return sum(p.numel() for p in net.parameters()), counter.get_total_flops() // 2


@pytest.mark.parametrize("stem", ["auto", "cifar", "imagenet"])
@pytest.mark.parametrize("data", [CIFAR, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("parts", sizes(), ids=label)
def test_logits_for_either_stem(parts, data, stem):
    """A batch of images gives a batch of logits, with either stem, in colour and in grey."""
    net = assemble(component(parts, width=0.25, stem=stem), data, plain)

    logits = net(torch.randn(2, data.channels, data.image_size, data.image_size))

    assert logits.shape == (2, data.classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("parts", sizes(), ids=label)
def test_its_blocks_are_called_one_after_another(parts):
    """What `training.compile` compiles: parts that a pass calls once each, none inside another."""
    body = bare(component(parts, width=0.25), CIFAR, plain)
    blocks, called = body.blocks(), []
    for block in blocks:
        block.register_forward_hook(lambda part, *_: called.append(part))

    body(torch.randn(2, 3, 32, 32))

    assert len(blocks) == sum(catalogue.blocks(parts))
    assert called == blocks


@pytest.mark.parametrize("parts", backbones(), ids=label)
def test_every_position_of_every_block_is_asked(parts):
    """Blocks are asked in order, counted from 1, in every position once; only a block that adds
    nothing has no shortcut.
    """
    bare = skeleton(component(parts), CIFAR)
    blocks = catalogue.blocks(parts)

    sites = [place.site for place in bare.places]
    names = [f"stage{s}.block{b}" for s, n in enumerate(blocks, 1) for b in range(1, n + 1)]
    assert list(dict.fromkeys(site.name for site in sites)) == names
    assert len(set(sites)) == len(sites)
    asked = Counter(site.position for site in sites)
    assert set(asked) == set(POSITIONS)
    for position in ("final", "mid", "pre", "post"):
        assert asked[position] == len(names)
    # MobileNetV2 adds where a stage repeats (Sandler et al., table 2): 17 blocks, 7 settings.
    shortcuts = len(names) if parts["name"] == "resnet" else len(names) - len(blocks)
    if parts["name"] in ("resnet", "mobilenetv2"):
        assert asked["shortcut"] == shortcuts


@pytest.mark.parametrize("parts", backbones(), ids=label)
def test_channels_are_those_that_attention_sees(parts):
    """The literal CHANNELS is what the built network asks with at `final`, stage by stage."""
    asked = [place.site for place in skeleton(component(parts), CIFAR).places]

    seen = {(site.stage, site.channels) for site in asked if site.position == "final"}
    assert seen == set(enumerate(catalogue.channels(parts), 1))


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("parts", backbones(), ids=label)
def test_levels_are_those_of_the_maps(parts, stem):
    """Strides and channels of the stages, as a detector asks for them, are those of its maps."""
    body = assemble(component(parts, width=0.25, stem=stem), CIFAR, plain).eval().backbone

    with torch.no_grad():
        maps = body.maps(torch.randn(1, 3, 64, 128))

    assert [(64 // y.shape[2], y.shape[1]) for y in maps] == list(body.levels)


@pytest.mark.parametrize("parts", sizes(), ids=label)
def test_sites_say_the_map_that_passes(parts):
    """A site's channels, and the size that the skeleton notes, are those of the map that the
    module there gets; a module that is put there is used once in every forward pass.
    """
    seen: dict[Site, torch.Size] = {}

    class Probe(nn.Module):
        def __init__(self, site: Site) -> None:
            super().__init__()
            self.site = site

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert self.site not in seen
            seen[self.site] = x.shape
            return x

    backbone = component(parts, width=0.5)
    assemble(backbone, CIFAR, Probe).eval()(torch.randn(1, 3, 32, 32))

    places = skeleton(backbone, CIFAR).places
    assert {place.site for place in places} == set(seen)
    for place in places:
        assert seen[place.site] == (1, place.site.channels, place.height, place.width)


@pytest.mark.parametrize("data", [CIFAR, IMAGENET], ids=["32", "224"])
@pytest.mark.parametrize("parts", [*backbones(), *sizes()[-2:]], ids=label)
def test_cost_is_torchs_own_count(parts, data):
    """Params and MACs are exactly numel and FlopCounterMode / 2 of the network itself."""
    backbone = component(parts)

    cost = count(backbone, NONE, data)

    assert (cost.params, cost.macs) == counted(backbone, data)


@pytest.mark.parametrize("parts", sizes(), ids=label)
def test_widths_are_one_number_or_one_for_each_stage(parts):
    """A list that repeats one number builds what the number builds; another list does not."""
    stages = len(catalogue.blocks(parts))

    same = skeleton(component(parts, width=[0.5] * stages), CIFAR)
    other = skeleton(component(parts, width=[0.5] * (stages - 1) + [0.75]), CIFAR)

    assert same == skeleton(component(parts, width=0.5), CIFAR)
    assert other.structure != same.structure
    assert other.params > same.params


@pytest.mark.parametrize("parts", sizes(), ids=label)
def test_widths_that_do_not_fit_are_refused(parts):
    """A list of widths must have one for each stage; the error says how many that are."""
    make = variants.load("backbone", parts["name"])
    params = component(parts).params
    stages = len(catalogue.blocks(parts))

    with pytest.raises(ValueError, match=f"each of the {stages} stages"):
        make(plain, 3, 32, **{**params, "width": [1.0] * (stages + 1)})


@pytest.mark.parametrize("parts", sizes(), ids=label)
def test_attention_does_not_change_the_backbone(parts):
    """What stands at the sites has no part in the backbone's own parameters: names and shapes."""
    backbone = component(parts, width=0.25)

    bare = assemble(backbone, CIFAR, plain)
    dressed = assemble(backbone, CIFAR, lambda site: nn.Conv2d(site.channels, site.channels, 1))

    own = {name: p.shape for name, p in bare.named_parameters()}
    both = {name: p.shape for name, p in dressed.named_parameters()}
    assert own.items() <= both.items()
    assert len(both) > len(own)


@pytest.mark.parametrize("parts", sizes(), ids=label)
def test_maps_are_the_stages_outputs(parts):
    """`maps` gives one feature map a stage, each no larger than the one before."""
    net = assemble(component(parts, width=0.25, stem="imagenet"), CIFAR, plain)
    assert isinstance(net, Classifier)

    maps = net.backbone.maps(torch.randn(1, 3, 64, 64))

    assert len(maps) == len(catalogue.blocks(parts))
    heights = [m.shape[2] for m in maps]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("parts", sizes(), ids=label)
def test_memory_format_and_autocast(parts):
    """channels_last and bfloat16 autocast run and give finite logits."""
    net = assemble(component(parts, width=0.25), CIFAR, plain).to(memory_format=torch.channels_last)

    with torch.autocast("cpu", torch.bfloat16):
        logits = net(torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last))

    assert logits.isfinite().all()
