"""Whether the parts of a config fit each other: attention's stages and blocks, the backbone's."""

from __future__ import annotations

from typing import Any

from spaces import catalogue
from spaces.errors import listed, nearest, shown
from spaces.width import MAX_WIDTH, MIN_WIDTH


def misfits(
    backbone: dict[str, Any], attention: dict[str, Any], task: dict[str, Any]
) -> list[tuple[str, str]]:
    """(dotted key, message) for each misfit of the completed components."""
    blocks = catalogue.blocks(backbone)
    placement = _own("placement", attention["placement"])
    mapping = _own("mapping", attention["mapping"])
    found = [*_length(backbone.get("width"), blocks), *_clamps(mapping), *_frozen(backbone, task)]
    found += _repeats("attention.placement.stages", placement.get("stages", []))
    found += _repeats("attention.placement.blocks", placement.get("blocks", []))
    if blocks:
        found += _stages(placement.get("stages", []), blocks)
        found += _blocks(placement.get("blocks", []), blocks)
        found += _profile(mapping.get("kernel_sizes"), blocks)
    return found


def targets(task: str, dataset: str) -> list[tuple[str, str]]:
    """A task that asks what a dataset does not say of its images."""
    asked, told = catalogue.targets("task", task), catalogue.targets("dataset", dataset)
    if asked <= told:
        return []
    fitting = [name for name in catalogue.names("task") if catalogue.targets("task", name) <= told]
    said = f"{task} asks for {listed(sorted(asked))}, and {dataset} has {listed(sorted(told))}"
    return [("task.name", f"{said} (allowed: {listed(fitting) or 'another dataset'})")]


def widths(width: Any) -> list[tuple[str, str]]:
    """(dotted key in the backbone, message) for each number of ``width`` that is out of range."""
    several = isinstance(width, list)
    return [
        (
            f"width.{place}" if several else "width",
            f"out of range (got {shown(factor)}; allowed: {MIN_WIDTH} to {MAX_WIDTH})",
        )
        for place, factor in enumerate(width if several else [width])
        if type(factor) in (int, float) and not MIN_WIDTH <= factor <= MAX_WIDTH
    ]


def _own(kind: str, component: dict[str, Any] | None) -> dict[str, Any]:
    """The component's parameters where we know what they mean; a plugin's are its own matter."""
    return {} if not component or catalogue.digest(kind, component["name"]) else component


def _length(width: Any, blocks: tuple[int, ...] | None) -> list[tuple[str, str]]:
    if not isinstance(width, list) or not blocks or len(width) == len(blocks):
        return []
    wanted = f"a number or a list of {len(blocks)}, one for each stage"
    return [("backbone.width", f"wrong length (got {shown(width)}; allowed: {wanted})")]


def _clamps(mapping: dict[str, Any]) -> list[tuple[str, str]]:
    k_min, k_max = mapping.get("k_min"), mapping.get("k_max")
    if k_min is None or k_max is None or k_min <= k_max:
        return []
    return [("attention.mapping.k_max", f"out of range (got {k_max}; allowed: k_min, {k_min}, on)")]


def _frozen(backbone: dict[str, Any], task: dict[str, Any]) -> list[tuple[str, str]]:
    """A detector keeps weights of a file, and none that were drawn."""
    detector = _own(catalogue.HEAD, task.get(catalogue.HEAD))
    if backbone.get("pretrained"):
        return []
    said = "nothing to keep without backbone.pretrained"
    idle = {"frozen_stages": (None, 0), "norms": ("auto", "trained")}
    return [
        (f"task.{catalogue.HEAD}.{key}", f"{said} (got {shown(detector[key])}; allowed: {allowed})")
        for key, allowed in (("frozen_stages", "null, 0"), ("norms", "auto, trained"))
        if detector.get(key, idle[key][0]) not in idle[key]
    ]


def _repeats(key: str, values: list[Any]) -> list[tuple[str, str]]:
    repeated = sorted({value for value in values if values.count(value) > 1})
    return [(key, f"named twice (got {listed(repeated)}; allowed: each once)")] if repeated else []


def _stages(stages: list[int], blocks: tuple[int, ...]) -> list[tuple[str, str]]:
    key, allowed = "attention.placement.stages", f"1 to {len(blocks)}"
    return [
        (key, f"the backbone has no such stage (got {stage}; allowed: {allowed})")
        for stage in stages
        if stage > len(blocks)
    ]


def _blocks(names: list[str], blocks: tuple[int, ...]) -> list[tuple[str, str]]:
    there = [f"stage{s}.block{b}" for s, n in enumerate(blocks, 1) for b in range(1, n + 1)]
    beyond = [name for name in names if name not in there]
    allowed = "; ".join(f"stage{s}.block1 to block{n}" for s, n in enumerate(blocks, 1))
    said = "the backbone has no such block"
    return [
        (
            "attention.placement.blocks",
            f"{said}{nearest(name, there)} (got {name}; allowed: {allowed})",
        )
        for name in beyond
    ]


def _profile(kernel_sizes: list[int] | None, blocks: tuple[int, ...]) -> list[tuple[str, str]]:
    if kernel_sizes is None or len(kernel_sizes) == len(blocks):
        return []
    allowed = f"{len(blocks)} numbers, one for each stage"
    got = f"{len(kernel_sizes)} of them"
    return [("attention.mapping.kernel_sizes", f"wrong length (got {got}; allowed: {allowed})")]
