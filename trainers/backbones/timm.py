"""The convolutional networks of timm, by timm's names; needs the extra `timm`."""

from __future__ import annotations

import re
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from spaces.errors import VariantError
from trainers.backbones import Attend, Backbone, asking, members

# No network of timm has a published size of its own here.
BLOCKS: dict[None, tuple[int, ...]] = {}
CUT_INSIDE = re.compile(r"^(features|(?:stem|stages|layers|blocks)(?=\.\d))\.")
"""Parts that timm cuts in turn."""
LEAST = 4
"""A map that is fewer times smaller than the image is the stem's and not a stage's."""


class Levels(Backbone):
    """A network of timm's, cut where its maps have a new size, attention at each cut."""

    def __init__(
        self, net: Any, posts: dict[str, nn.Module], levels: list[tuple[int, int]], model: str
    ) -> None:
        super().__init__(nn.Identity(), [], levels[-1][1], {"model": model}, levels=levels)
        self.net = net
        self.posts = nn.ModuleDict(posts)

    def blocks(self) -> list[nn.Module]:
        """What timm has put in sequences, else a whole stage; no single layers, as VGG's are."""
        return [part for part in members(self.net.values()) if any(part.children())]

    def beginning(self, stages: int) -> list[nn.Module]:
        """What comes before the cut after so many stages, their attention with it."""
        first, parts = list(self.posts)[:stages], list[nn.Module]()
        for name, module in self.net.items():
            if not first:
                break
            parts.append(module)
            if name == first[0]:
                parts.append(self.posts[first.pop(0)])
        return parts

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The map of each stage, first to last, for images x (N, C, H, W)."""
        outputs = []
        for name, module in self.net.items():
            x = module(x)
            if name in self.posts:
                x = self.posts[name](x)
                outputs.append(x)
        return outputs


def backbone(
    attend: Attend,
    channels_in: int,
    image_size: int,
    *,
    model: Annotated[str, Field(pattern="^[a-z0-9_]+$", max_length=80)],
) -> Backbone:
    """A convolutional network of timm's without its head, such as `model: resnet26d`.

    model: timm's name of the architecture, without a tag, which would name weights: none are
      fetched. It is one that timm can cut into maps of sizes 4, 8, 16, ... times smaller than the
      image (`features_only`): ResNets, RegNets, ConvNeXts, DenseNets, VGGs and the like.

    Images (N, channels_in, H, W) -> features (N, channels, h, w). Each size is a stage of one
    block, the whole of which is timm's own: attention may stand at `post`, behind it, alone.
    What timm puts between the last map and the pooling, such as EfficientNet's last convolution,
    is not there.

    Raises ValueError where timm is not installed, has no such network or cannot cut it.
    """
    net = _cut(model, channels_in)
    sizes, widths = net.feature_info.reduction(), net.feature_info.channels()
    cuts = dict(zip(net.return_layers, zip(sizes, widths, strict=True), strict=True))
    chosen = {name: level for name, level in cuts.items() if level[0] >= LEAST}
    posts = {
        name: asking(attend, stage, 1)("post", width)
        for stage, (name, (_, width)) in enumerate(chosen.items(), 1)
    }
    return Levels(net, posts, list(chosen.values()), model)


def _cut(model: str, channels_in: int) -> Any:
    """The network as timm's list of features, which is a dictionary of its parts in their order."""
    try:
        import timm
        from timm.models import FeatureListNet
    except ImportError:
        said = "timm is not installed: pip install 'eca-search[timm]', on every node"
        raise ValueError(said) from None
    if not timm.is_model(model):
        near = [name for name in timm.list_models() if name.startswith(model[:6])][:5]
        said = f"timm has no such network (got {model}; there are {', '.join(near) or 'others'})"
        raise VariantError(("model", said))
    try:
        net = timm.create_model(model, features_only=True, in_chans=channels_in)
    except Exception as error:
        said = f"timm cannot cut {model} into maps ({type(error).__name__}: {error})"
        raise VariantError(("model", said)) from error
    if type(net) is not FeatureListNet or net.output_fmt != "NCHW":
        said = f"timm does not cut {model} into a plain sequence of convolutional parts"
        raise VariantError(("model", said))
    return net


def renamed(name: str) -> str:
    """Our name of a parameter for timm's, of its ResNets, RegNets, DenseNets and VGGs."""
    if name.startswith(("fc.", "backbone.")):
        return name
    head = re.fullmatch(r"(?:head|classifier)\.(?:fc\.)?(weight|bias)", name)
    if head:
        return f"fc.{head[1]}"
    # timm writes `stages.0` as `stages_0` where it cuts inside `stages`
    return "backbone.net." + CUT_INSIDE.sub(r"\1_", name)
