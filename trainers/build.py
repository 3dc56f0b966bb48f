"""Config -> network: the backbone asks at every position of every block, the config answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from torch import nn

from spaces.config import Attention, Config
from spaces.kernels import MAX_KERNEL_SIZE
from spaces.published import Stage
from spaces.site import Site
from trainers import pretrained, variants
from trainers.datasets import Description
from trainers.detectors import detects
from trainers.network import assemble, describe, skeleton
from trainers.weights import initialise, seeded


def build(config: Config, *, seed: int = 0) -> nn.Module:
    """The network of a config with the first weights of `seed`: images in, the task's answers out.

    Equal seeds give equal weights wherever names and shapes of parameters agree, with or without
    attention. Weights of `backbone.pretrained` take their places then; what that file does not have
    is as it would be without it, and a detector may freeze some of what it has. Raises ValueError
    where the parts do not fit: widths that are not as many as the stages, a kernel size that the
    attention refuses, a file of another network.
    """
    net = drawn(config, seed=seed)
    if config.backbone.pretrained is not None:
        loaded = pretrained.load(net, config.backbone)
        if detects(net):
            net.hold({name.removeprefix("backbone.") for name in loaded})
    return net


def drawn(config: Config, *, seed: int, data: Description | None = None) -> nn.Module:
    """`build` without the weights of any file; for other images and classes where `data` says."""
    make = variants.load("attention", config.attention.name)
    attention: list[nn.Module] = []

    def attend(site: Site) -> nn.Module:
        if not stands(config.attention, site):
            return nn.Identity()
        with seeded(seed, f"{site.name}.{site.position}"):
            size = kernel(config.attention, site)
            attention.append(module(make, config.attention.params, site.channels, size))
        return attention[-1]

    with seeded(seed, "network"):
        net = assemble(config.backbone, data or describe(config), attend, config.task)
    initialise(net, seed, keep=attention)
    return net


def stands(attention: Attention, site: Site) -> bool:
    """Whether attention stands at a site: at the config's position, where the placement has it."""
    if attention.placement is None or site.position != attention.position:
        return False
    placement = variants.load("placement", attention.placement.name)
    with variants.blamed("attention.placement"):
        return bool(placement(site, **attention.placement.params))


def kernel(attention: Attention, site: Site) -> int | None:
    """The kernel size that the mapping gives a site; None for an attention without kernels.

    Raises VariantError where the mapping has none for it, with the parameter that is the reason.
    """
    if attention.mapping is None:
        return None
    mapping = variants.load("mapping", attention.mapping.name)
    with variants.blamed("attention.mapping"):
        return _mapped(mapping, json.dumps(attention.mapping.params), site.channels, site.stage)


@lru_cache(maxsize=65536)
def _mapped(mapping: Callable[..., int], params: str, channels: int, stage: int) -> int:
    """A kernel size, remembered: a search asks for the same few at every site of every config."""
    size = int(mapping(channels, stage, **json.loads(params)))
    if not 1 <= size <= MAX_KERNEL_SIZE:  # of a person's own mapping; ours keep to it themselves
        said = (
            f"a kernel size is 1 to {MAX_KERNEL_SIZE} (got {str(size)[:40]} at {channels} channels)"
        )
        raise ValueError(said)
    return size


def module(
    make: Callable[..., nn.Module],
    params: Mapping[str, Any],
    channels: int,
    kernel_size: int | None,
) -> nn.Module:
    """One attention module for maps of `channels` channels; only some kinds take a kernel size.

    Raises VariantError for whatever the attention, which may be a person's own, raises.
    """
    sized = {} if kernel_size is None else {"kernel_size": kernel_size}
    with variants.blamed("attention"):
        return make(channels, **sized, **params)


def sites(config: Config) -> tuple[Site, ...]:
    """Every site that the config's backbone asks about, in the order in which it asks."""
    bare = skeleton(config.backbone, describe(config), config.task)
    return tuple(place.site for place in bare.places)


def stages(config: Config) -> tuple[Stage, ...]:
    """The channels that attention at the config's position sees, stage by stage, placed or not.

    Without attention that is position `final`. A stage of blocks that differ, as at `pre`, stands
    there once for each channel count.
    """
    position = config.attention.position or "final"
    blocks = Counter((s.stage, s.channels) for s in sites(config) if s.position == position)
    return tuple(Stage(number, channels, many) for (number, channels), many in blocks.items())


def active(config: Config) -> tuple[Site, ...]:
    """The sites where attention stands."""
    return tuple(site for site in sites(config) if stands(config.attention, site))


def kernels(config: Config) -> dict[str, int]:
    """Site name -> kernel size, where attention stands; empty for attention without kernels."""
    answers = {site.name: kernel(config.attention, site) for site in active(config)}
    return {name: size for name, size in answers.items() if size is not None}
