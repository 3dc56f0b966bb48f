"""Boxes around objects, and what is in them: COCO's average precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spaces.errors import VariantError
from trainers import variants
from trainers.tasks.average_precision import AveragePrecision

if TYPE_CHECKING:
    from trainers.backbones import Backbone
    from trainers.datasets import Description
    from trainers.team import Team

METRICS = {
    "box_ap": "max",
    "box_ap50": "max",
    "box_ap75": "max",
    "box_ap_small": "max",
    "box_ap_medium": "max",
    "box_ap_large": "max",
}
TARGETS = "boxes"
NEEDS = {"faster_coco_eval": "detection"}
DETECTORS = ("faster_rcnn", "retinanet")


class Detection:
    """The task that `task` makes; `kinds` are what is compared, the first what it is judged by."""

    chance = 0.0

    def __init__(self, classes: int, detector: dict[str, Any], kinds: Sequence[str]) -> None:
        self.classes = classes
        self.name = detector["name"]
        self.params = {key: value for key, value in detector.items() if key != "name"}
        self.kinds = kinds
        self.metric = f"{kinds[0]}_ap"
        # of a detector that does not say what its losses are, the sum alone is told
        self.losses: tuple[str, ...] = getattr(variants.module("detector", self.name), "LOSSES", ())

    def network(self, body: Backbone, data: Description) -> nn.Module:
        """The detector over the backbone."""
        found: nn.Module = variants.load("detector", self.name)(body, data.classes, **self.params)
        return found

    def learn(
        self, network: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """The sum of the detector's losses; each of them and the sum, times images, and images.

        Those that are means over regions count each part of a batch, and each process of a team, by
        its images, though they may not have as many regions.
        """
        losses = network(images, targets)
        loss: Tensor = torch.stack([value.float() for value in losses.values()]).sum()
        told = (
            torch.stack([*(losses[name].float() for name in self.losses), loss]).detach().double()
        )
        return loss, torch.cat([told, torch.ones_like(told[:1])]) * len(images)

    def metrics(self, totals: Sequence[float]) -> dict[str, float]:
        """`loss`, a mean over images, and its parts, `loss_...`."""
        *sums, total, images = totals
        names = (f"loss_{name.removeprefix('loss_')}" for name in self.losses)
        parts = zip(names, sums, strict=True)
        return {"loss": total / images, **{name: value / images for name, value in parts}}

    def judge(self, team: Team) -> AveragePrecision:
        """COCO's figures, 0..1; there is no loss among them."""
        return AveragePrecision(self.classes, self.kinds, team)


def task(classes: int, label_smoothing: float, detector: dict[str, Any]) -> Detection:
    """Object detection: boxes with labels, judged by COCO's average precision (Lin et al. 2014).

    Raises VariantError for label smoothing, which the detectors' losses do not have.
    """
    refuse(label_smoothing)
    return Detection(classes, detector, ("box",))


def refuse(label_smoothing: float) -> None:
    """Raise VariantError for any label smoothing."""
    if label_smoothing:
        said = f"detectors have none (got {label_smoothing:g}; allowed 0)"
        raise VariantError(("training.label_smoothing", said))
