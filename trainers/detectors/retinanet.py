"""RetinaNet: every anchor of every map is classified and refined at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import log
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torchvision.models.detection import retinanet as torchvision
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from trainers.backbones import Backbone
from trainers.detectors import Pass
from trainers.detectors.pyramid import BESIDE, FEW, Padding, Pyramid, anchors, in_full
from trainers.weights import First

LOSSES = ("classification", "bbox_regression")
PRIOR = 0.01
"""What every anchor is said to be at first: an object with this probability (section 4.1)."""
HEADS = "head.classification_head"


class Seeing(nn.Module):
    """All that RetinaNet computes: the pyramid, and both heads on each of its maps."""

    def __init__(self, pyramid: Pyramid, head: torchvision.RetinaNetHead) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.head = head

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Logits and box deltas, level by level, of images x (N, 3, H, W)."""
        classes, boxes = self.head.classification_head, self.head.regression_head
        return [
            (classes.cls_logits(classes.conv(y)), boxes.bbox_reg(boxes.conv(y)))
            for y in self.pyramid(x).values()
        ]


class RetinaNet(torchvision.RetinaNet):  # type: ignore[misc]
    """torchvision's detector, as the rest of the program knows detectors; labels count from 1."""

    first: Mapping[str, First] = {
        **BESIDE,
        f"{HEADS}.cls_logits": First(FEW, -log((1 - PRIOR) / PRIOR)),
        "head": First(FEW),
    }

    def __init__(self, pyramid: Pyramid, classes: int, structure: Mapping[str, Any]) -> None:
        super().__init__(
            pyramid,
            classes,
            anchor_generator=anchors(pyramid, structure["anchor_scale"], 3),
            detections_per_img=structure["detections"],
            score_thresh=structure["score_threshold"],
        )
        self.transform = Padding()
        self.structure = structure
        in_full(self.backbone, self.head)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Losses by name in training, else each image's boxes, labels and scores."""
        if targets is not None:  # torchvision's counts classes from 0 here
            targets = [{**target, "labels": target["labels"] - 1} for target in targets]
        found = super().forward(images, targets)
        if not self.training:
            for answer in found:
                answer["labels"] = answer["labels"] + 1
        return found

    @property
    def body(self) -> Backbone:
        """The backbone below the pyramid."""
        body: Backbone = self.backbone.body
        return body

    def passes(self) -> list[Pass]:
        """The image."""
        return [Pass(Seeing(self.backbone, self.head))]

    def hold(self, loaded: Collection[str]) -> None:
        """Freeze what is to be frozen of the body, whose entries `loaded` are from a file."""
        self.backbone.hold(loaded)


def detector(
    body: Backbone,
    classes: int,
    *,
    channels: PositiveInt = 256,
    anchor_scale: Annotated[float, Field(ge=1, le=64)] = 4.0,
    p6: Literal["c5", "p5"] = "c5",
    detections: PositiveInt = 100,
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05,
    frozen_stages: NonNegativeInt | None = None,
    norms: Literal["auto", "trained", "statistics", "frozen"] = "auto",
) -> nn.Module:
    """RetinaNet (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017).

    channels: of every map of the pyramid, and of both heads' four convolutions.
    anchor_scale: sides of the anchors in strides, the least of three in an octave: 4 makes 32 to 50
      pixels at stride 8, 512 to 812 at 128, each at the ratios 1:2, 1:1 and 2:1.
    p6: what the map at stride 64 is computed from: the backbone's last (`c5`, the paper's and
      MMDetection's), or the pyramid's (`p5`, torchvision's first version).
    detections: boxes that an image is answered with, at most, of a score above score_threshold.
    frozen_stages, norms: as in `faster_rcnn`.

    Raises ValueError for more frozen stages than there are.
    """
    last = body.levels[-1][1] if p6 == "c5" else channels
    pyramid = Pyramid(
        body,
        channels,
        most=3,
        extra=LastLevelP6P7(last, channels),
        beyond=2,
        frozen_stages=frozen_stages,
        norms=norms,
    )
    structure = {
        "detector": "retinanet",
        "channels": channels,
        "anchor_scale": anchor_scale,
        "p6": p6,
        "detections": detections,
        "score_threshold": score_threshold,
    }
    return RetinaNet(pyramid, classes, structure)
