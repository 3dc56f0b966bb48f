"""Mask R-CNN: Faster R-CNN that also draws each object's outline."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from torch import nn
from torchvision.models.detection import mask_rcnn as torchvision

from trainers.backbones import Backbone
from trainers.detectors import Pass
from trainers.detectors.faster_rcnn import FasterRCNN, finest
from trainers.detectors.pyramid import Pyramid, in_full, pooling
from trainers.weights import First

LOSSES = (
    "loss_classifier",
    "loss_box_reg",
    "loss_mask",
    "loss_objectness",
    "loss_rpn_box_reg",
)
REGION = 14
"""Pixels that a region's features are high and wide; its mask is twice that."""
RELU = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")


class MaskRCNN(FasterRCNN):
    """Faster R-CNN with a second head on the regions, torchvision's."""

    first: Mapping[str, First] = {**FasterRCNN.first, "roi_heads.mask_predictor": First(RELU)}

    def __init__(
        self, classes: int, pyramid: Pyramid, structure: Mapping[str, Any], *samples: int
    ) -> None:
        super().__init__(classes, pyramid, structure, *samples)
        channels, inside = structure["channels"], structure["mask_channels"]
        heads = self.roi_heads
        heads.mask_roi_pool = pooling(pyramid, REGION)
        heads.mask_head = torchvision.MaskRCNNHeads(channels, (inside,) * 4, 1)
        heads.mask_predictor = torchvision.MaskRCNNPredictor(inside, inside, classes + 1)
        in_full(heads.mask_predictor)

    def passes(self) -> list[Pass]:
        """Faster R-CNN's, and each of the detections."""
        heads = self.roi_heads
        region = (self.structure["channels"], REGION, REGION)
        masks = nn.Sequential(heads.mask_head, heads.mask_predictor)
        return [*super().passes(), Pass(masks, region, self.structure["detections"])]


def detector(
    body: Backbone,
    classes: int,
    *,
    channels: PositiveInt = 256,
    box_features: PositiveInt = 1024,
    mask_channels: PositiveInt = 256,
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
    """Mask R-CNN (He et al., ICCV 2017): `faster_rcnn`, and a mask of 28 x 28 for each detection.

    mask_channels: of the four convolutions and the deconvolution that see a region, 14 x 14 of the
      pyramid.

    The others are those of `faster_rcnn`; answers have `masks` besides, (n, 1, 28, 28) in 0..1,
    each over its box.
    """
    pyramid = finest(body, channels, frozen_stages, norms)
    structure = {
        "detector": "mask_rcnn",
        "channels": channels,
        "box_features": box_features,
        "mask_channels": mask_channels,
        "anchor_scale": anchor_scale,
        "proposals": proposals,
        "detections": detections,
        "score_threshold": score_threshold,
    }
    return MaskRCNN(classes, pyramid, structure, train_proposals, rpn_samples, box_samples)
