"""COCO's figures: those of pycocotools, of boxes and masks on the image as it lies on disk."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from trainers.outlines import decoded, encoded, runs
from trainers.tasks.average_precision import FIGURES, AveragePrecision, Seen, precisions
from trainers.team import ALONE

CLASSES = 80


@pytest.fixture(scope="module")
def tiny(data: Path) -> list[dict[str, Any]]:
    """What is known of 30 images of coco-tiny's val2017, the labels those of COCO's order."""
    with zipfile.ZipFile(data / "coco-tiny/coco-tiny.zip") as opened:
        told = json.loads(opened.read("annotations/instances_val2017.json"))
    labels = {each["id"]: place for place, each in enumerate(told["categories"], start=1)}
    known = []
    for image in told["images"][:30]:
        size = (image["height"], image["width"])
        objects = [
            {
                "bbox": each["bbox"],
                "category_id": labels[each["category_id"]],
                "area": each["area"],
                "iscrowd": each["iscrowd"],
                "segmentation": runs(each["segmentation"], *size),
            }
            for each in told["annotations"]
            if each["image_id"] == image["id"]
        ]
        known.append({"id": image["id"], "size": size, "objects": objects})
    return known


def guessed(known: dict[str, Any], random: np.random.Generator) -> Seen:
    """Answers to an image that are right, nearly right, of another label, or made up."""
    height, width = known["size"]
    boxes, labels, masks = [], [], []
    for each in known["objects"]:
        for _ in range(random.integers(0, 3)):
            moved = random.normal(0, 3, 2).round().astype(int)
            boxes.append(np.add(each["bbox"], [*moved, *random.normal(0, 2, 2)]))
            boxes[-1][2:] = np.maximum(boxes[-1][2:], 1)
            mask = decoded([each["segmentation"]], height, width)[0]
            masks.append(np.roll(mask, moved[::-1], (0, 1)))
            right = random.random() < 0.8
            labels.append(each["category_id"] if right else random.integers(1, CLASSES + 1))
    scores = random.random(len(labels)).round(2)  # some are equal
    return Seen(
        known,
        np.array(boxes).reshape(-1, 4),
        np.array(labels, np.int64),
        scores,
        encoded(np.stack(masks)) if masks else [],
    )


def theirs(seen: list[Seen], kind: str) -> dict[str, float]:
    """The figures of pycocotools, of its own reading of truth and answers."""
    truth = [{**each, "image_id": one.known["id"]} for one in seen for each in one.known["objects"]]
    known = COCO()
    known.dataset = {
        "images": [
            {"id": one.known["id"], "height": one.known["size"][0], "width": one.known["size"][1]}
            for one in seen
        ],
        "annotations": [{**each, "id": place} for place, each in enumerate(truth, start=1)],
        "categories": [{"id": label} for label in range(1, CLASSES + 1)],
    }
    found = [
        {
            "image_id": one.known["id"],
            "category_id": int(one.labels[place]),
            "score": float(one.scores[place]),
            **(
                {"bbox": one.boxes[place].tolist()}
                if kind == "box"
                else {"segmentation": one.masks[place]}
            ),
        }
        for one in seen
        for place in range(len(one.labels))
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(found), {"box": "bbox", "mask": "segm"}[kind])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = zip(FIGURES, evaluation.stats.tolist(), strict=False)
    return {f"{kind}_{name}": value for name, value in values if value > -1}


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_figures_are_those_of_pycocotools(tiny: list[dict[str, Any]], kind: str) -> None:
    """Thirty real images, crowds among them, and answers of every quality."""
    random = np.random.default_rng(0)
    seen = [guessed(known, random) for known in tiny]
    ours = precisions(seen[::-1], kind, CLASSES)
    assert set(ours) == {f"{kind}_{name}" for name in FIGURES}
    assert 0.05 < ours[f"{kind}_ap"] < 0.95
    # both average float64; the order of sums may differ
    assert ours == pytest.approx(theirs(seen, kind), rel=1e-9)


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_finding_nothing_scores_nothing(tiny: list[dict[str, Any]], kind: str) -> None:
    """No answer at all is an average precision of zero, not none."""
    nothing = (np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), [])
    told = precisions([Seen(known, *nothing) for known in tiny], kind, CLASSES)
    assert told == {f"{kind}_{name}": 0.0 for name in FIGURES}


def test_a_size_that_no_object_has_is_left_out(tiny: list[dict[str, Any]]) -> None:
    """Whatever was found; COCO says -1 there."""
    random = np.random.default_rng(0)
    seen = []
    for known in tiny:
        found = guessed(known, random)
        large = [each for each in known["objects"] if each["area"] > 96**2]
        seen.append(Seen({**known, "objects": large}, *list(vars(found).values())[1:]))
    told = precisions(seen, "box", CLASSES)
    assert set(told) == {"box_ap", "box_ap50", "box_ap75", "box_ap_large"}
    assert told == pytest.approx(theirs(seen, "box"), rel=1e-9)


class Knowing(nn.Module):
    """A network that is told the truth of each image that it sees, in that image's pixels."""

    def __init__(self, known: list[dict[str, Any]], masks: bool) -> None:
        super().__init__()
        self.known: Iterator[dict[str, Any]] = iter(known)
        self.masks = masks

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        (image,) = images
        known = next(self.known)
        height, width = known["size"]
        scale = torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2)
        objects = [each for each in known["objects"] if not each["iscrowd"]]
        boxes = torch.tensor([each["bbox"] for each in objects]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = {
            "boxes": boxes * scale,
            "labels": torch.tensor([each["category_id"] for each in objects]),
            "scores": torch.ones(len(objects)),
        }
        if self.masks:
            found["masks"] = torch.stack(
                [self._inside(each, boxes[n], height, width) for n, each in enumerate(objects)]
            )
        return [found]

    def _inside(
        self, each: dict[str, Any], box: torch.Tensor, height: int, width: int
    ) -> torch.Tensor:
        """What a mask head is taught: the mask inside its box, 28 x 28."""
        from torchvision.ops import roi_align

        mask = torch.from_numpy(decoded([each["segmentation"]], height, width))[None].float()
        return roi_align(mask, [box[None]], 28, aligned=True)[0]


def test_what_is_found_is_scaled_back(tiny: list[dict[str, Any]]) -> None:
    """Answers in the pixels of what the network saw: those that are right score one."""
    judging = AveragePrecision(CLASSES, ("box",), ALONE)
    network = Knowing(tiny, masks=False)
    for known, shape in zip(tiny, [(3, 100, 150), (3, 333, 200), (3, 640, 480)] * 10, strict=True):
        judging.see(network, [torch.zeros(shape)], [{"known": known}])
    assert judging.metrics() == {f"box_{name}": pytest.approx(1.0) for name in FIGURES}


def test_masks_are_pasted_into_the_original_image(tiny: list[dict[str, Any]]) -> None:
    """28 x 28 of a small photograph are enough for what 28 x 28 can say."""
    some = [each for each in tiny if any(not one["iscrowd"] for one in each["objects"])]
    judging = AveragePrecision(CLASSES, ("mask", "box"), ALONE)
    network = Knowing(some, masks=True)
    for known in some:
        judging.see(network, [torch.zeros(3, 96, 128)], [{"known": known}])
    told = judging.metrics()
    assert next(iter(told)) == "mask_ap"
    assert told["box_ap"] == pytest.approx(1.0)
    assert told["mask_ap50"] > 0.97
    assert told["mask_ap"] > 0.75
