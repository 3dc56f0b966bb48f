"""Objects with their outlines, and what they are: COCO's average precision of masks."""

from __future__ import annotations

from typing import Any

from trainers.tasks.detection import Detection, refuse

METRICS = {
    "mask_ap": "max",
    "mask_ap50": "max",
    "mask_ap75": "max",
    "mask_ap_small": "max",
    "mask_ap_medium": "max",
    "mask_ap_large": "max",
    "box_ap": "max",
    "box_ap50": "max",
    "box_ap75": "max",
    "box_ap_small": "max",
    "box_ap_medium": "max",
    "box_ap_large": "max",
}
TARGETS = "masks"
NEEDS = {"faster_coco_eval": "detection"}
DETECTORS = ("mask_rcnn",)


def task(classes: int, label_smoothing: float, detector: dict[str, Any]) -> Detection:
    """Instance segmentation: a mask and a label of each object, and its box beside them.

    Judged by COCO's average precision of masks. Raises VariantError for label smoothing, which the
    detectors' losses do not have.
    """
    refuse(label_smoothing)
    return Detection(classes, detector, ("mask", "box"))
