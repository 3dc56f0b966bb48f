"""The ECA-Net paper's complexities as printed, beside ours, and by which convention they agree.

Tables of Wang et al., CVPR 2020 (table 3; its detectors are in `paper_coco`), and of their poster
there (ResNet-18 and -34).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from search.text import MACS, columns

SE = {"name": "se"}
ECA = {"name": "eca"}
THREES = {"mapping": {"name": "constant", "kernel_size": 3}}
IMAGENET = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenetv2")
RELEASED = {
    "resnet18": [3, 5, 7, 7],
    "resnet34": [3, 3, 5, 7],
    "resnet50": [3, 5, 5, 7],
    "resnet101": [3, 3, 5, 7],
    "resnet152": [3, 3, 5, 7],
    "mobilenetv2": [1, 1, 1, 1, 3, 3, 3],
}
"""Kernel sizes by stage of the authors' checkpoints (BangguWu/ECANet @b332f6b)."""
TABLE_2: dict[str, dict[str, Any]] = {
    "SE-Var1": {"name": "se_var1"},
    "SE-Var2": {"name": "se_var2"},
    "SE-Var3": {"name": "se_var3"},
    "SE-GC1": {"name": "se_group", "groups": 16},
    "SE-GC2": {"name": "se_group", "groups": "C/16"},
    "SE-GC3": {"name": "se_group", "groups": "C/8"},
    "ECA-NS": {"name": "eca_ns", **THREES},
    "ECA, k = 3": {"name": "eca", **THREES},
    "circular ECA, k = 3": {"name": "ceca", **THREES},
}
"""The channel attention that the paper compares on ResNet-50, and timm's."""


@dataclass(frozen=True, slots=True)
class Printed:
    """A cell pair of a table: parameters and "FLOPs" as they are printed there."""

    source: str
    params: str
    flops: str


T3, POSTER, GCNET = "table 3", "poster", "table 3, copied from GCNet"
TOOLS = {T3: "0.0.22", POSTER: "0.0.30"}
"""The version of thop that counted a source's rows; those copied from others it did not."""
PRINTED = {
    ("resnet18", "none"): Printed(POSTER, "11.148M", "1.699G"),
    ("resnet18", "SE"): Printed(POSTER, "11.231M", "1.700G"),
    ("resnet18", "ECA as released"): Printed(POSTER, "11.148M", "1.700G"),
    ("resnet34", "none"): Printed(POSTER, "20.788M", "3.427G"),
    ("resnet34", "SE"): Printed(POSTER, "20.938M", "3.428G"),
    ("resnet34", "CBAM with biases"): Printed(POSTER, "20.943M", "3.428G"),
    ("resnet34", "ECA as released"): Printed(POSTER, "20.788M", "3.428G"),
    ("resnet50", "none"): Printed(T3, "24.37M", "3.86G"),
    ("resnet50", "SE"): Printed(T3, "26.77M", "3.87G"),
    ("resnet50", "CBAM"): Printed(T3, "26.77M", "3.87G"),
    ("resnet50", "GC"): Printed(GCNET, "28.08M", "3.87G"),
    ("resnet50", "ECA as released"): Printed(T3, "24.37M", "3.86G"),
    ("resnet101", "none"): Printed(T3, "42.49M", "7.34G"),
    ("resnet101", "SE"): Printed(T3, "47.01M", "7.35G"),
    ("resnet101", "CBAM"): Printed(T3, "47.01M", "7.35G"),
    ("resnet101", "ECA as released"): Printed(T3, "42.49M", "7.35G"),
    ("resnet152", "none"): Printed(T3, "57.40M", "10.82G"),
    ("resnet152", "SE"): Printed(T3, "63.68M", "10.85G"),
    ("resnet152", "ECA as released"): Printed(T3, "57.40M", "10.83G"),
    ("mobilenetv2", "none"): Printed(T3, "3.34M", "319.4M"),
    ("mobilenetv2", "SE"): Printed(T3, "3.40M", "320.1M"),
    ("mobilenetv2", "ECA as released"): Printed(T3, "3.34M", "319.9M"),
}
UNRECONCILED = {
    ("mobilenetv2", "SE", "flops"): "320.0 by thop 0.0.22 in 2^20: one unit of the last digit off",
    ("resnet101", "CBAM", "flops"): "7.36 by thop 0.0.22 in 2^30: one unit of the last digit off",
    (
        "resnet50",
        "GC",
        "params",
    ): "28.11 in 10^6, the unit of GCNet's own tables, and 26.80 in 2^20",
    (
        "resnet50",
        "GC",
        "flops",
    ): "4.10 in 10^9 and 3.82 in 2^30; how GCNet counted is not known here",
}
"""What is ours where no convention gives the printed digits."""
ELSEWHERE = (
    ("resnet50", "A2-Net", Printed(T3, "33.00M", "6.50G")),
    ("resnet50", "GSoP-Net1", Printed(T3, "28.05M", "6.18G")),
    ("resnet50", "AA-Net", Printed(T3, "25.80M", "4.15G")),
    ("resnet101", "AA-Net", Printed(T3, "45.40M", "8.05G")),
)
"""Rows of networks that are not here; the paper copied them from their authors."""
CLAIMS = (
    "80 parameters on ResNet-50 (abstract): those of the released kernels 3-5-5-7; gamma = 2, b = 1"
    " by figure 3 is 5-5-5-7, 86 parameters",
    "4.7e-4 GFLOPs on ResNet-50 (abstract): not reconciled; the convolutions are 8.6e-5 GMACs, with"
    " the pooling of the paper's own tables 5.6e-3",
    "3.86 GFLOPs of ResNet-50: also the MACs of version 1 (stride on the 1x1) in 10^9, 3.858; but"
    " its ResNet-101 and -152 have 7.570 and 11.282 there, and 7.34 and 10.82 are printed",
)
"""Figures of the text, and what becomes of them."""


def table() -> dict[str, Any]:
    """Every backbone with every attention at the paper's settings, and what the paper has printed.

    JSON data: `models`, each with exact `params` and `macs`, thop's counts, and under `paper` the
    printed cells, each with the conventions that give its very digits; where none does, what is
    ours stands under `unreconciled`. `detectors` are those of table 5 in the same way,
    `elsewhere` rows of networks that are not here, `claims` figures of the text.
    """
    from search.commands import paper_coco

    away = [{"name": name, "attention": label, **_cells(cells)} for name, label, cells in ELSEWHERE]
    return {
        "models": [_model(name, label, it) for name, label, it in settings()],
        "detectors": paper_coco.models(),
        "elsewhere": [*away, *paper_coco.ELSEWHERE],
        "claims": list(CLAIMS),
    }


def settings() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Backbone, what the attention is called there, and the attention as a space file has it."""
    from spaces import published

    for name in published.names():
        yield name, "none", {"name": "none"}
        if name not in IMAGENET:
            yield name, "SE", SE
            yield name, "ECA", ECA
            continue
        yield name, "SE", SE | {"reduction": 8} if name == "mobilenetv2" else SE
        yield name, "CBAM", {"name": "cbam"}
        if name == "resnet34":
            yield name, "CBAM with biases", {"name": "cbam", "bias": True}
        yield name, "GC", {"name": "gc"}
        kernels = {"name": "per_stage", "kernel_sizes": RELEASED[name]}
        yield name, "ECA as released", ECA | {"mapping": kernels}
        yield name, "ECA, gamma = 2, b = 1", ECA
        if name == "resnet50":
            yield from ((name, label, attention) for label, attention in TABLE_2.items())


def _model(name: str, label: str, attention: dict[str, Any]) -> dict[str, Any]:
    from search.commands.networks import published
    from trainers.complexity import count
    from trainers.datasets import Description
    from trainers.thop import VERSIONS, operations

    config, size, classes = published(name, attention)
    data = Description(classes, 3, size)
    cost = count(config.backbone, config.attention, data)
    told = {
        "name": name,
        "attention": label,
        "setting": attention,
        "image_size": size,
        "params": cost.params,
        "macs": cost.macs,
    }
    printed = PRINTED.get((name, label))
    if printed is None:
        return told
    thop = {v: operations(config.backbone, config.attention, data, v) for v in VERSIONS}
    tool = TOOLS.get(printed.source)
    counts = {"MACs": cost.macs} if tool is None else {f"thop {tool}": thop[tool]}
    by = {
        "params_by": list(agreeing(printed.params, {"": cost.params})),
        "flops_by": list(agreeing(printed.flops, counts)),
    }
    missing = {
        cell: UNRECONCILED[name, label, cell]
        for cell in ("params", "flops")
        if not by[f"{cell}_by"]
    }
    return {**told, "thop": thop, "paper": {**_cells(printed), **by, "unreconciled": missing}}


def _cells(printed: Printed) -> dict[str, Any]:
    return {"source": printed.source, "params": printed.params, "flops": printed.flops}


def agreeing(printed: str, counts: dict[str, int]) -> Iterator[str]:
    """The counts and units that give the digits that are printed: `thop 0.0.22 / 2^30`."""
    digits, suffix = printed[:-1], printed[-1]
    decimals = len(digits.partition(".")[2])
    binary, decimal = {"M": (20, 6), "G": (30, 9)}[suffix]
    for name, count in counts.items():
        for unit, said in ((2**binary, f"2^{binary}"), (10**decimal, f"10^{decimal}")):
            if f"{count / unit:.{decimals}f}" == digits:
                yield f"{name} / {said}".removeprefix(" / ")


def text(found: dict[str, Any]) -> str:
    """The table for people: the paper's figures with the convention they are in."""
    heading = ["name", "attention", "params", "macs", "printed", "in", "printed FLOPs", "are"]
    rows = []
    models = [*found["models"], *found["detectors"]]
    for model in models:
        paper = model.get("paper")
        cells = (
            ["", "", "", ""] if paper is None else [*_pair(paper, "params"), *_pair(paper, "flops")]
        )
        exact = [f"{model['params']:,}", f"{model['macs']:,}"]
        rows.append([model["name"], model["attention"], *exact, *cells])
    for row in found["elsewhere"]:
        there = [row["params"], "not here", row["flops"], "not here"]
        rows.append([row["name"], row["attention"], "", "", *there])
    notes = [
        MACS,
        "detectors: of an image of 800 x 1280, 1000 regions of it, and 100 of them for masks",
        "thop, MMDetection: what versions of 2019 counted, neither MACs nor FLOPs"
        " (trainers/thop.py, mmdetection.py)",
    ]
    notes += (
        f"not reconciled: {cell} of {model['attention']} on {model['name']}: {said}"
        for model in models
        for cell, said in model.get("paper", {}).get("unreconciled", {}).items()
    )
    left = [*heading[:2], "in", "are"]
    return "\n".join([columns(heading, rows, left=left), *notes, *found["claims"]])


def _pair(paper: dict[str, Any], cell: str) -> tuple[str, str]:
    """What is printed, and the first convention that gives it."""
    return paper[cell], next(iter(paper[f"{cell}_by"]), "not reconciled")
