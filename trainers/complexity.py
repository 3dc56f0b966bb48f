"""What a network costs before it is trained, and what makes two configs the same network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from spaces.config import Attention, Component, Config
from trainers import variants
from trainers.build import kernel, module, stands
from trainers.counting import count_macs, count_params
from trainers.datasets import Description
from trainers.network import CLASSIFICATION, describe, skeleton


@dataclass(frozen=True, slots=True)
class Complexity:
    """Parameters and multiply-accumulates of one image in inference (1 MAC = 2 FLOPs).

    MACs are those of convolutions and matrix products, PyTorch's `FlopCounterMode` halved: norms,
    activations, pooling and products element by element count nothing. A detector's image has the
    shape that `network.image_of` says, and it looks at as many regions as its parameters allow.
    """

    params: int
    macs: int

    @property
    def flops(self) -> int:
        """Floating-point operations: 2 * macs."""
        return 2 * self.macs

    def __add__(self, other: Complexity) -> Complexity:
        return Complexity(self.params + other.params, self.macs + other.macs)


def measure(config: Config) -> Complexity:
    """The cost of a config's network, exact, without allocating it.

    The network without attention is counted once on the meta device, each attention module once
    per shape; both are remembered, so that the next config of a search touches no tensor at all.
    Raises ValueError as `trainers.build` does.
    """
    return count(config.backbone, config.attention, describe(config), config.task)


def count(
    backbone: Component,
    attention: Attention,
    data: Description,
    task: Component = CLASSIFICATION,
) -> Complexity:
    """The cost of a backbone with attention, for the images and classes that `data` describes."""
    bare = skeleton(backbone, data, task)
    make = variants.load("attention", attention.name)
    params = json.dumps(attention.params, sort_keys=True)
    total = Complexity(bare.params, bare.macs)
    for place in bare.places:
        site = place.site
        if stands(attention, site):
            size = kernel(attention, site)
            total += _gate(make, params, site.channels, size, place.height, place.width)
    return total


@lru_cache(maxsize=65536)
def _gate(
    make: Callable[..., nn.Module],
    params: str,
    channels: int,
    kernel_size: int | None,
    height: int,
    width: int,
) -> Complexity:
    """The cost of one attention module on one map (1, channels, height, width)."""
    with torch.device("meta"):
        gate = module(make, json.loads(params), channels, kernel_size)
    with variants.blamed("attention"):
        return Complexity(count_params(gate), count_macs(gate, channels, height, width))


def identity(config: Config) -> str:
    """The built network in 16 hex digits: equal for two configs exactly if they build the same.

    It holds the task, the input shape and classes, the backbone as it was built (stem and channels
    resolved), and for every site where attention stands its kernel size, with the position, the
    kind and all its parameters. How the sites and kernels came about is not in it: a placement
    that chooses nothing is no attention, and mappings that agree are the same mapping. A parameter
    that came later (`LATER`, in the attention's file) is not in it either, at the value before it.
    Of a detector it holds all that shapes its answers; what changes its training alone, such as
    samples and frozen stages, is in the run key.
    """
    data = describe(config)
    bare = skeleton(config.backbone, data, config.task)
    attention = config.attention
    standing = {
        place.site.name: kernel(attention, place.site)
        for place in bare.places
        if stands(attention, place.site)
    }
    later = getattr(variants.module("attention", attention.name), "LATER", {})
    params = {
        name: value
        for name, value in attention.params.items()
        if name not in later or later[name] != value
    }
    network = {
        "task": config.task.name,
        "input": [data.channels, data.image_size, data.image_size],
        "classes": data.classes,
        "backbone": [config.backbone.name, bare.structure],
        "attention": [attention.name, params, attention.position] if standing else None,
        "kernels": standing,
        **({} if bare.head is None else {"head": bare.head}),
    }
    return digest(network)


def digest(facts: object) -> str:
    """JSON-able facts in 16 hex digits of SHA-256; the order of keys does not matter."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
