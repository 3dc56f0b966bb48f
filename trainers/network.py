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
from spaces.errors import VariantError
from spaces.site import Site
from trainers import variants
from trainers.backbones import Attend, Backbone
from trainers.counting import count_macs, count_params
from trainers.datasets import Description
from trainers.detectors import WIDER, detects, padded

CLASSIFICATION = Component(name="classification")


@dataclass(frozen=True, slots=True)
class Place:
    """A site and the map that passes it for one image: channels x height x width."""

    site: Site
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What a network without attention costs (one image, inference) and where it asks."""

    params: int
    macs: int
    places: tuple[Place, ...]
    structure: str
    """The backbone's `structure` as canonical JSON."""
    head: str | None = None
    """What stands around the backbone, in the same way; None for a classifier's linear layer."""
    blocks: int = 0
    """How many blocks the backbone says it has."""


def describe(config: Config) -> Description:
    """Classes and image shape of a config's dataset, known without reading an image."""
    data: Description = variants.module("dataset", config.dataset.name).describe(config.dataset)
    return data


def assemble(
    backbone: Component, data: Description, attend: Attend, task: Component = CLASSIFICATION
) -> nn.Module:
    """The backbone, asking `attend` at every position of every block, under its task's head."""
    return _headed(bare(backbone, data, attend, task), data, task)


def bare(
    backbone: Component, data: Description, attend: Attend, task: Component = CLASSIFICATION
) -> Backbone:
    """The backbone alone. For a detector `stem: auto` is imagenet, whatever the image's size."""
    make = variants.load("backbone", backbone.name)
    params = backbone.params
    if _detects(task) and params.get("stem") == "auto":
        params["stem"] = "imagenet"  # its strides are what the anchors' sizes come from
    body: Backbone = make(attend, data.channels, data.image_size, **params)
    if _detects(task) and not body.levels:
        said = "no backbone for a detector: it does not say its `levels`, strides and channels"
        raise VariantError(("name", f"{said} (got {backbone.name})"))
    return body


def _headed(body: Backbone, data: Description, task: Component) -> nn.Module:
    make = variants.load("task", task.name)
    with variants.blamed("task.detector" if _detects(task) else "task"):
        network: nn.Module = make(data.classes, 0.0, **task.params).network(body, data)
        if _detects(task) and not detects(network):
            wanted = "structure, first, body, passes and hold (trainers/detectors)"
            raise VariantError(("name", f"what it makes is no detector: that has {wanted}"))
    return network


def _detects(task: Component) -> bool:
    return "detector" in task.params


def image_of(data: Description, task: Component) -> tuple[int, int, int]:
    """The shape (C, H, W) of the image that a network's cost is counted at.

    A square for a classifier. A detector's has the shorter side `image_size` and a longer one 1.6
    times that, both padded to a multiple of 32: 800 x 1280 for 800, as in the tables of
    MMDetection and of the ECA-Net paper.
    """
    size = data.image_size
    if not _detects(task):
        return data.channels, size, size
    return data.channels, padded(size), padded(round(WIDER * size))


def passes(
    network: nn.Module, data: Description, task: Component
) -> list[tuple[nn.Module, tuple[int, ...], int]]:
    """The parts that compute on one image: each with the shape it sees, and how many times."""
    image = image_of(data, task)
    if not detects(network):
        return [(network, image, 1)]
    return [(part.module, part.shape or image, part.times) for part in network.passes()]


def skeleton(backbone: Component, data: Description, task: Component = CLASSIFICATION) -> Skeleton:
    """The network without memory of its own, without attention; remembered: it costs 0.1 s."""
    known = Description(data.classes, data.channels, data.image_size)
    chosen = [(c.name, json.dumps(c.params, sort_keys=True)) for c in (backbone, task)]
    own = [variants.load("backbone", backbone.name), variants.load("task", task.name)]
    if _detects(task):
        own.append(variants.load("detector", task.params["detector"]["name"]))
    return _skeleton(*chosen, known, tuple(own))


@lru_cache(maxsize=4096)
def _skeleton(
    backbone: tuple[str, str],
    task: tuple[str, str],
    data: Description,
    _own: tuple[Callable[..., Any], ...],
) -> Skeleton:
    """Remembered for functions besides: of one name a plugin may bring another."""
    asked: list[tuple[Site, nn.Module]] = []

    def attend(site: Site) -> nn.Module:
        asked.append((site, nn.Identity()))
        return asked[-1][1]

    chosen, aim = (Component(name=name, **json.loads(own)) for name, own in (backbone, task))
    with torch.device("meta"):
        with variants.blamed("backbone"):
            body = bare(chosen, data, attend, aim)
        net = _headed(body, data, aim)
    structure = json.dumps(body.structure, sort_keys=True)
    sizes: dict[nn.Module, tuple[int, int]] = {}

    def note(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        sizes[module] = (output.shape[2], output.shape[3])

    for _, module in asked:
        module.register_forward_hook(note)
    with variants.blamed("backbone"):
        macs = sum(
            times * count_macs(part, *shape) for part, shape, times in passes(net, data, aim)
        )
    places = tuple(Place(site, *sizes[module]) for site, module in asked)
    head = json.dumps(net.structure, sort_keys=True) if detects(net) else None
    return Skeleton(count_params(net), macs, places, structure, head, len(body.blocks()))
