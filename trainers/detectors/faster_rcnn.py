"""Faster R-CNN: regions are proposed, then each is classified and its box refined."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torchvision.models.detection import faster_rcnn as torchvision
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from trainers.backbones import Backbone
from trainers.detectors import Pass
from trainers.detectors.pyramid import (
    BESIDE,
    FEW,
    Norms,
    Padding,
    Pyramid,
    anchors,
    in_full,
    pooling,
)
from trainers.weights import First

LOSSES = ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")
REGION = 7
"""Pixels that a region's features are high and wide."""


class Proposing(nn.Module):
    """What Faster R-CNN computes on the whole image: the pyramid and the head that proposes."""

    def __init__(self, pyramid: Pyramid, head: nn.Module) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.head = head

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness and box deltas, level by level, of images x (N, 3, H, W)."""
        found: tuple[list[Tensor], list[Tensor]] = self.head(list(self.pyramid(x).values()))
        return found


class FasterRCNN(torchvision.FasterRCNN):  # type: ignore[misc]
    """torchvision's detector, as the rest of the program knows detectors."""

    first: Mapping[str, First] = {**BESIDE, "rpn.head": First(FEW)}

    def __init__(
        self,
        classes: int,
        pyramid: Pyramid,
        structure: Mapping[str, Any],
        train_proposals: int,
        rpn_samples: int,
        box_samples: int,
    ) -> None:
        channels, features = structure["channels"], structure["box_features"]
        super().__init__(
            pyramid,
            rpn_anchor_generator=anchors(pyramid, structure["anchor_scale"], 1),
            rpn_pre_nms_top_n_train=train_proposals,
            rpn_post_nms_top_n_train=train_proposals,
            rpn_pre_nms_top_n_test=structure["proposals"],
            rpn_post_nms_top_n_test=structure["proposals"],
            rpn_batch_size_per_image=rpn_samples,
            box_roi_pool=pooling(pyramid, REGION),
            box_head=torchvision.TwoMLPHead(channels * REGION**2, features),
            box_predictor=torchvision.FastRCNNPredictor(features, classes + 1),
            box_batch_size_per_image=box_samples,
            box_detections_per_img=structure["detections"],
            box_score_thresh=structure["score_threshold"],
        )
        self.transform = Padding()
        self.structure = structure
        in_full(self.backbone, self.rpn.head, self.roi_heads.box_predictor)

    @property
    def body(self) -> Backbone:
        """The backbone below the pyramid."""
        body: Backbone = self.backbone.body
        return body

    def passes(self) -> list[Pass]:
        """The image, and each of the proposals."""
        heads = self.roi_heads
        region = (self.structure["channels"], REGION, REGION)
        boxes = nn.Sequential(heads.box_head, heads.box_predictor)
        return [
            Pass(Proposing(self.backbone, self.rpn.head)),
            Pass(boxes, region, self.structure["proposals"]),
        ]

    def hold(self, loaded: Collection[str]) -> None:
        """Freeze what is to be frozen of the body, whose entries `loaded` are from a file."""
        self.backbone.hold(loaded)


def finest(body: Backbone, channels: int, frozen_stages: int | None, norms: Norms) -> Pyramid:
    """The pyramid that regions are cut from: four levels of the body, and one half the last."""
    return Pyramid(
        body,
        channels,
        most=4,
        extra=LastLevelMaxPool(),
        beyond=1,
        frozen_stages=frozen_stages,
        norms=norms,
    )


def detector(
    body: Backbone,
    classes: int,
    *,
    channels: PositiveInt = 256,
    box_features: PositiveInt = 1024,
    anchor_scale: Annotated[float, Field(ge=1, le=64)] = 8.0,
    proposals: PositiveInt = 1000,
    detections: PositiveInt = 100,
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05,
    train_proposals: PositiveInt = 2000,
    rpn_samples: PositiveInt = 256,
    box_samples: PositiveInt = 512,
    frozen_stages: NonNegativeInt | None = None,
    norms: Literal["auto", "trained", "statistics", "frozen"] = "auto",
) -> nn.Module:
    """Faster R-CNN (Ren et al., NeurIPS 2015) on a feature pyramid (Lin et al., CVPR 2017).

    channels: of every map of the pyramid.
    box_features: of the two fully connected layers that see a region, 7 x 7 of the pyramid.
    anchor_scale: sides of the anchors in strides: 8 makes 32 pixels at stride 4 to 512 at 64, each
      at the ratios 1:2, 1:1 and 2:1.
    proposals: regions of an image that are looked at in evaluation, at most.
    detections: boxes that an image is answered with, at most, of a score above score_threshold.
    train_proposals, rpn_samples, box_samples: in training, regions proposed, and the anchors and
      regions of an image that the losses are taken of.
    frozen_stages: the stem and so many stages keep the weights of `backbone.pretrained`. null: 1
      with such a file, as in the ECA-Net paper, and none without.
    norms: the backbone's batch norms: `trained` as in classification, `statistics` keeps mean and
      variance of the file (MMDetection, and so the ECA-Net paper), `frozen` also their weight and
      bias (torchvision). auto: statistics with such a file, trained without. What the file lacks,
      such as attention of another kind, is never frozen.

    Raises ValueError for more frozen stages than there are.
    """
    pyramid = finest(body, channels, frozen_stages, norms)
    structure = {
        "detector": "faster_rcnn",
        "channels": channels,
        "box_features": box_features,
        "anchor_scale": anchor_scale,
        "proposals": proposals,
        "detections": detections,
        "score_threshold": score_threshold,
    }
    return FasterRCNN(classes, pyramid, structure, train_proposals, rpn_samples, box_samples)
