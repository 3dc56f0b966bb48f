"""Average precision as COCO defines it, of boxes and of masks, over all processes of a team.

What is found in an image is scaled back to the image as it lies on disk. The figures are those of
faster-coco-eval, which pycocotools would give (tests/trainers/test_average_precision.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from trainers.outlines import Runs, encoded
from trainers.team import Team

KINDS = {"box": "bbox", "mask": "segm"}
"""Our names of what is compared, and COCO's."""
FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
"""The first six of COCO's figures; small is below 32 x 32 pixels, large above 96 x 96."""


@dataclass(frozen=True)
class Seen:
    """An image: what is known of it (`trainers.uneven`), and what was found in it."""

    known: dict[str, Any]
    boxes: np.ndarray  # (n, 4) float64: left, top, width, height
    labels: np.ndarray  # (n,) int64
    scores: np.ndarray  # (n,) float64
    masks: list[Runs]


class AveragePrecision:
    """A judgement of a detector by what it finds in each image, of which `kinds` are compared."""

    def __init__(self, classes: int, kinds: Sequence[str], team: Team) -> None:
        self.classes = classes
        self.kinds = kinds
        self.team = team
        self.seen: list[Seen] = []

    def see(self, network: nn.Module, images: list[Tensor], targets: list[dict[str, Any]]) -> None:
        """What is found in each image by itself."""
        for image, target in zip(images, targets, strict=True):
            known = target["known"]
            height, width = known["size"]
            (found,) = network([image])
            boxes = found["boxes"].double().cpu()
            boxes *= boxes.new_tensor([width / image.shape[2], height / image.shape[1]] * 2)
            masks = []
            if "mask" in self.kinds:
                masks = _pasted(found["masks"].float().cpu(), boxes, height, width)
            boxes[:, 2:] -= boxes[:, :2]
            labels, scores = found["labels"].cpu(), found["scores"].double().cpu()
            self.seen.append(Seen(known, boxes.numpy(), labels.numpy(), scores.numpy(), masks))

    def metrics(self) -> dict[str, float]:
        """`box_ap`, `box_ap50`, ..., 0..1, over the team's images; one process works them out.

        A size that no object among them has is left out, epoch after epoch: there is no figure.
        """
        everything = [seen for some in self.team.gathered(self.seen) for seen in some]
        figures: dict[str, float] = {}
        if self.team.rank == 0:
            for kind in self.kinds:
                figures |= precisions(everything, kind, self.classes)
        told: dict[str, float] = self.team.gathered(figures)[0]
        return told


def precisions(seen: Sequence[Seen], kind: str, classes: int) -> dict[str, float]:
    """COCO's figures of `kind`, `box` or `mask`, under our names; one not defined is left out."""
    from faster_coco_eval import COCOeval_faster

    known, found = _known(seen, classes), _found(seen, kind)
    evaluation = COCOeval_faster(known, known.loadRes(found), KINDS[kind])
    evaluation.run()
    values = zip(FIGURES, evaluation.stats, strict=False)
    return {f"{kind}_{name}": float(value) for name, value in values if value >= 0}


def _known(seen: Sequence[Seen], classes: int) -> Any:
    """What is right, as the library's index."""
    from faster_coco_eval import COCO

    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for each in sorted(seen, key=lambda one: one.known["id"]):
        (height, width), number = each.known["size"], each.known["id"]
        images.append({"id": number, "height": height, "width": width})
        for known in each.known["objects"]:
            # an object numbered 0 could not be told from none
            objects.append({**known, "image_id": number, "id": len(objects) + 1})
    categories = [{"id": label, "name": str(label)} for label in range(1, classes + 1)]
    return COCO({"images": images, "annotations": objects, "categories": categories})


def _found(seen: Sequence[Seen], kind: str) -> list[dict[str, Any]]:
    """What was found, as COCO writes results; the size of a mask is its own, not its box's."""
    return [
        {
            "image_id": each.known["id"],
            "category_id": int(each.labels[place]),
            "score": float(each.scores[place]),
            **(
                {"bbox": each.boxes[place].tolist()}
                if kind == "box"
                else {"segmentation": each.masks[place]}
            ),
        }
        for each in seen
        for place in range(len(each.labels))
    ]


def _pasted(masks: Tensor, boxes: Tensor, height: int, width: int) -> list[Runs]:
    """Masks (n, 1, m, m), each inside its box, in an image of that size; at 0.5 they end."""
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    if not len(masks):
        return []
    whole = paste_masks_in_image(masks, boxes.float(), (height, width))
    return encoded((whole[:, 0] > 0.5).byte().numpy())
