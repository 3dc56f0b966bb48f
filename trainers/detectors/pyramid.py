"""What the detectors share: the feature pyramid over a backbone, its anchors, what is frozen."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from functools import partial
from math import log2
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock
from torchvision.ops.poolers import initLevelMapper

from spaces.errors import VariantError
from trainers.backbones import Backbone
from trainers.weights import First

Norms = Literal["auto", "trained", "statistics", "frozen"]
RATIOS = (0.5, 1.0, 2.0)
FEW = partial(nn.init.normal_, std=0.01)
"""How the heads of detectors start (Ren et al. 2015, section 3.1.3; Lin et al. 2017, 4.1)."""


class Pyramid(nn.Module):
    """A backbone's maps, all brought to `channels` channels (Lin et al., FPN, CVPR 2017).

    Images (N, 3, H, W) -> maps by name, finest first: "0", "1", ... at `strides`, the last stage of
    each, then those of `extra` at `beyond`. Of the body's strides the last `most` are taken: an
    imagenet ResNet or MobileNetV2 has 4, 8, 16, 32, a network of three stages 4, 8, 16, and with a
    cifar stem 1, 2, 4. What the body has for classifiers alone, its `top`, is left out.

    `frozen_stages` and `norms` say what `hold` freezes.
    """

    def __init__(
        self,
        body: Backbone,
        channels: int,
        *,
        most: int,
        extra: ExtraFPNBlock | None,
        beyond: int,
        frozen_stages: int | None,
        norms: Norms,
    ) -> None:
        super().__init__()
        if frozen_stages is not None and frozen_stages > len(body.levels):
            allowed = f"0 to {len(body.levels)}"
            said = f"the backbone has no such stage (got {frozen_stages}; allowed: {allowed})"
            raise VariantError(("frozen_stages", said))
        last = {stride: stage for stage, (stride, _) in enumerate(body.levels)}
        self.taken = [last[stride] for stride in sorted(last)[-most:]]
        self.strides = [body.levels[stage][0] for stage in self.taken]
        self.all_strides = [
            *self.strides,
            *(self.strides[-1] * 2 ** (n + 1) for n in range(beyond)),
        ]
        body.top = nn.Identity()
        self.body = body
        self.fpn = FeaturePyramidNetwork(
            [body.levels[stage][1] for stage in self.taken], channels, extra
        )
        self.out_channels = channels
        self.frozen_stages = frozen_stages
        self.norms = norms
        self.still: frozenset[str] = frozenset()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The pyramid of images x (N, 3, H, W)."""
        maps = self.body.maps(x)
        chosen = OrderedDict((str(n), maps[stage]) for n, stage in enumerate(self.taken))
        pyramid: dict[str, Tensor] = self.fpn(chosen)
        return pyramid

    def hold(self, loaded: Collection[str]) -> None:
        """Freeze those parameters and norms that are to be frozen, and whose weights are `loaded`.

        Nothing is frozen at a first random value. Left open, `frozen_stages` is 1 and `norms` are
        `statistics` where anything is loaded: what MMDetection and so the ECA-Net paper do.
        """
        if not loaded:
            return
        body, stages = self.body, 1 if self.frozen_stages is None else self.frozen_stages
        first = {id(part) for module in body.beginning(stages) for part in module.modules()}
        norms = "statistics" if self.norms == "auto" else self.norms
        still = set()
        for name, module in body.named_modules():
            norm, early = isinstance(module, _BatchNorm), stages > 0 and id(module) in first
            if norm and f"{name}.running_mean" in loaded and (early or norms != "trained"):
                still.add(name)
            if early or (norm and norms == "frozen"):
                for own, parameter in module.named_parameters(name, recurse=False):
                    if own in loaded:
                        parameter.requires_grad_(False)
        self.still = frozenset(still)
        self.train(self.training)

    def train(self, mode: bool = True) -> Pyramid:
        """As every module's, but norms that are held stay at their statistics."""
        super().train(mode)
        for name, module in self.body.named_modules():
            if name in self.still:
                module.eval()
        return self


class Padding(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Images to one batch, padded with zeros to a multiple of 32; nothing else is done to them.

    Nor to the answers: boxes are in the padded images' pixels, whose origin is the images', and
    masks stay as the head has drawn them, each inside its box.
    """

    def __init__(self) -> None:
        super().__init__(1, 1, [0.0] * 3, [1.0] * 3)

    def normalize(self, image: Tensor) -> Tensor:
        """The image (3, h, w) as it is."""
        return image

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """The image and its target as they are."""
        return image, target

    def postprocess(
        self, result: list[dict[str, Tensor]], shapes: object, originals: object
    ) -> list[dict[str, Tensor]]:
        """The answers as they are."""
        return result


def in_full(*parts: nn.Module) -> None:
    """Have parts of a detector give float32, in whatever precision their layers compute.

    torchvision makes anchors of the maps' dtype and boxes of the deltas': in bf16 coordinates in an
    image of 1,000 pixels would be multiples of 4, and RetinaNet diverged.
    """
    for part in parts:
        part.register_forward_hook(_whole)


def _whole(part: nn.Module, given: object, found: Any) -> Any:
    """The tensors that a part has found, in float32; they come in lists and dictionaries."""
    if isinstance(found, Tensor):
        return found.float()
    if isinstance(found, dict):
        return {name: _whole(part, given, value) for name, value in found.items()}
    return [_whole(part, given, value) for value in found]


def anchors(pyramid: Pyramid, scale: float, octaves: int) -> AnchorGenerator:
    """Anchors of sides `scale` times the stride, in so many steps of an octave, at three ratios."""
    sizes = tuple(
        tuple(int(scale * stride * 2 ** (step / octaves)) for step in range(octaves))
        for stride in pyramid.all_strides
    )
    return AnchorGenerator(sizes, (RATIOS,) * len(sizes))


def pooling(pyramid: Pyramid, size: int) -> MultiScaleRoIAlign:
    """Regions of the pyramid as (C, size, size), each from the level of its area (FPN, eq. 1)."""
    pool = MultiScaleRoIAlign([str(n) for n in range(len(pyramid.strides))], size, 2)
    # left to itself it would infer them, from the sizes of the first images that it sees
    pool.scales = [1 / stride for stride in pyramid.strides]
    pool.map_levels = initLevelMapper(int(log2(pyramid.strides[0])), int(log2(pyramid.strides[-1])))
    return pool


BESIDE = {"backbone.fpn": First(partial(nn.init.kaiming_uniform_, a=1))}
"""How a pyramid starts, in torchvision."""
