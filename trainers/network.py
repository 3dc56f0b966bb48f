"""A config's network before attention: put together, and as a skeleton that knows its cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from spaces.config import Component, Config
from spaces.site import Site
from trainers import variants
from trainers.backbones import Attend, Backbone
from trainers.counting import count_macs, count_params
from trainers.datasets import Description
from trainers.tasks.classification import Classifier


@dataclass(frozen=True, slots=True)
class Place:
    """A site and the map that passes it for one image: channels x height x width."""

    site: Site
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What a network without attention costs (batch of one, inference) and where it asks."""

    params: int
    macs: int
    places: tuple[Place, ...]
    structure: str
    """The backbone's `structure` as canonical JSON."""


def describe(config: Config) -> Description:
    """Classes and image shape of a config's dataset, known without reading an image."""
    data: Description = variants.module("dataset", config.dataset.name).describe(config.dataset)
    return data


def assemble(backbone: Component, data: Description, attend: Attend) -> Classifier:
    """The backbone, asking `attend` at every position of every block, under its head."""
    make = variants.load("backbone", backbone.name)
    body = make(attend, data.channels, data.image_size, **backbone.params)
    return Classifier(body, data.classes)


def skeleton(backbone: Component, data: Description) -> Skeleton:
    """The network on the meta device, without attention; remembered, as it costs some 100 ms."""
    make = variants.load("backbone", backbone.name)
    params = json.dumps(backbone.params, sort_keys=True)
    return _skeleton(make, params, data.channels, data.image_size, data.classes)


@lru_cache(maxsize=4096)
def _skeleton(
    make: Callable[..., Backbone], params: str, channels: int, image_size: int, classes: int
) -> Skeleton:
    asked: list[tuple[Site, nn.Module]] = []

    def attend(site: Site) -> nn.Module:
        asked.append((site, nn.Identity()))
        return asked[-1][1]

    with variants.blamed("backbone"), torch.device("meta"):
        net = Classifier(make(attend, channels, image_size, **json.loads(params)), classes)
    sizes: dict[nn.Module, tuple[int, int]] = {}

    def note(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        sizes[module] = (output.shape[2], output.shape[3])

    for _, module in asked:
        module.register_forward_hook(note)
    with variants.blamed("backbone"):
        macs = count_macs(net, channels, image_size, image_size)
    places = tuple(Place(site, *sizes[module]) for site, module in asked)
    structure = json.dumps(net.backbone.structure, sort_keys=True)
    return Skeleton(count_params(net), macs, places, structure)
