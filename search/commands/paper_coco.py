"""The ECA-Net paper's detectors as printed (table 5), beside ours, and what they are in.

All of them are MMDetection's, whose tool counted trained parameters in 10^6 and operations of its
own kind in 10^9 (`trainers/mmdetection.py`), of an image of 800 x 1280.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SE = {"name": "se"}
GC = {"name": "gc", "placement": {"name": "stages", "stages": [2, 3, 4]}}
"""As GCNet places it: in every block but the first stage's (Cao et al. 2019, table 1d)."""
IMAGE_SIZE, CLASSES = 800, 80
TOOL = "MMDetection"
TABLE_5, GCNET = "table 5", "table 5, copied from GCNet"
RELEASED: dict[tuple[str, int], list[int]] = {
    ("faster_rcnn", 50): [5, 5, 5, 5],
    ("mask_rcnn", 50): [3, 3, 7, 7],
    ("retinanet", 50): [3, 3, 7, 7],
    ("faster_rcnn", 101): [3, 3, 5, 7],
    ("mask_rcnn", 101): [3, 3, 5, 7],
    ("retinanet", 101): [3, 3, 5, 7],
}
"""Kernel sizes by stage, from the names of the authors' checkpoints."""
PRINTED = {
    ("faster_rcnn", 50): (("41.53M", "207.07G"), ("44.02M", "207.18G"), ("41.53M", "207.18G")),
    ("faster_rcnn", 101): (("60.52M", "283.14G"), ("65.24M", "283.33G"), ("60.52M", "283.32G")),
    ("mask_rcnn", 50): (("44.18M", "275.58G"), ("46.67M", "275.69G"), ("44.18M", "275.69G")),
    ("mask_rcnn", 101): (("63.17M", "351.65G"), ("67.89M", "351.84G"), ("63.17M", "351.83G")),
    ("retinanet", 50): (("37.74M", "239.32G"), ("40.23M", "239.43G"), ("37.74M", "239.43G")),
    ("retinanet", 101): (("56.74M", "315.39G"), ("61.45M", "315.58G"), ("56.74M", "315.57G")),
}
"""Parameters and FLOPs: plain, with SE, with ECA."""
COPIED = ("46.90M", "279.60G")
"""Of Mask R-CNN with ResNet-50 and GC."""
UNRECONCILED = {
    ("mask_rcnn_resnet50", "GC", "params"): "46.92 of all parameters in 10^6, 46.70 of the trained"
    " ones",
    ("mask_rcnn_resnet50", "GC", "flops"): "275.64 by MMDetection in 10^9; how GCNet counted is not"
    " known here",
}
"""What is ours where no convention gives the printed digits."""
ELSEWHERE = (
    {
        "name": "mask_rcnn_resnet50",
        "attention": "1 NL",
        "source": GCNET,
        "params": "46.50M",
        "flops": "288.70G",
    },
)


def models() -> list[dict[str, Any]]:
    """Each detector with each attention: our exact counts, MMDetection's, and the printed cells."""
    return [_model(*it) for it in settings()]


def settings() -> Iterator[tuple[str, int, str, dict[str, Any], str, tuple[str, str]]]:
    """Detector, depth of the ResNet, attention by label and as a space file has it; what is printed
    of it, and where.
    """
    for (detector, depth), (plain, se, eca) in PRINTED.items():
        kernels = {"name": "per_stage", "kernel_sizes": RELEASED[detector, depth]}
        yield detector, depth, "none", {"name": "none"}, TABLE_5, plain
        yield detector, depth, "SE", SE, TABLE_5, se
        own = {"name": "eca", "mapping": kernels}
        yield detector, depth, "ECA as released", own, TABLE_5, eca
        if (detector, depth) == ("mask_rcnn", 50):
            yield detector, depth, "GC", GC, GCNET, COPIED


def _model(
    detector: str, depth: int, label: str, attention: dict[str, Any], source: str, cells: Any
) -> dict[str, Any]:
    from search.commands.networks import published
    from search.commands.paper import agreeing
    from trainers.complexity import count
    from trainers.datasets import Description
    from trainers.mmdetection import counted

    name = f"{detector}_resnet{depth}"
    config, size, classes = published(name, attention)
    network = (config.backbone, config.attention, Description(classes, 3, size), config.task)
    cost, (trained, operations) = count(*network), counted(*network)
    params = list(agreeing(cells[0], {"trained": trained, "all": cost.params}))
    flops = list(agreeing(cells[1], {TOOL: operations, "MACs": cost.macs}))
    missing = {
        cell: UNRECONCILED[name, label, cell]
        for cell, by in (("params", params), ("flops", flops))
        if not by
    }
    return {
        "name": name,
        "attention": label,
        "setting": attention,
        "image_size": size,
        "params": cost.params,
        "macs": cost.macs,
        "mmdetection": {"params": trained, "flops": operations},
        "paper": {
            "source": source,
            "params": cells[0],
            "flops": cells[1],
            "params_by": params,
            "flops_by": flops,
            "unreconciled": missing,
        },
    }
