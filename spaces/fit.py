"""Whether the parts of a config fit each other: attention's stages and blocks, the backbone's."""

from __future__ import annotations

from typing import Any

from spaces import catalogue
from spaces.errors import listed, nearest, shown

MIN_WIDTH, MAX_WIDTH = 0.01, 64


def misfits(backbone: dict[str, Any], attention: dict[str, Any]) -> list[tuple[str, str]]:
    """(dotted key, message) for each misfit of two completed components."""
    blocks = catalogue.blocks(backbone)
    placement, mapping = attention["placement"] or {}, attention["mapping"] or {}
    found = [*_widths(backbone.get("width", 1.0), blocks), *_clamps(mapping)]
    found += _repeats("attention.placement.stages", placement.get("stages", []))
    found += _repeats("attention.placement.blocks", placement.get("blocks", []))
    if blocks:
        found += _stages(placement.get("stages", []), blocks)
        found += _blocks(placement.get("blocks", []), blocks)
        found += _profile(mapping.get("kernel_sizes"), blocks)
    return found


def _widths(width: Any, blocks: tuple[int, ...] | None) -> list[tuple[str, str]]:
    several = isinstance(width, list)
    if several and blocks and len(width) != len(blocks):
        wanted = f"a number or a list of {len(blocks)}, one for each stage"
        return [("backbone.width", f"wrong length (got {shown(width)}; allowed: {wanted})")]
    return [
        (
            f"backbone.width.{place}" if several else "backbone.width",
            f"out of range (got {shown(factor)}; allowed: {MIN_WIDTH} to {MAX_WIDTH})",
        )
        for place, factor in enumerate(width if several else [width])
        if not MIN_WIDTH <= factor <= MAX_WIDTH
    ]


def _clamps(mapping: dict[str, Any]) -> list[tuple[str, str]]:
    k_min, k_max = mapping.get("k_min"), mapping.get("k_max")
    if k_min is None or k_max is None or k_min <= k_max:
        return []
    return [("attention.mapping.k_max", f"out of range (got {k_max}; allowed: k_min, {k_min}, on)")]


def _repeats(key: str, values: list[Any]) -> list[tuple[str, str]]:
    repeated = sorted({value for value in values if values.count(value) > 1})
    return [(key, f"named twice (got {listed(repeated)}; allowed: each once)")] if repeated else []


def _stages(stages: list[int], blocks: tuple[int, ...]) -> list[tuple[str, str]]:
    beyond = [stage for stage in stages if stage > len(blocks)]
    key, allowed = "attention.placement.stages", f"1 to {len(blocks)}"
    return (
        [(key, f"the backbone has no such stage (got {listed(beyond)}; allowed: {allowed})")]
        if beyond
        else []
    )


def _blocks(names: list[str], blocks: tuple[int, ...]) -> list[tuple[str, str]]:
    there = [f"stage{s}.block{b}" for s, n in enumerate(blocks, 1) for b in range(1, n + 1)]
    beyond = [name for name in names if name not in there]
    if not beyond:
        return []
    allowed = "; ".join(f"stage{s}.block1 to block{n}" for s, n in enumerate(blocks, 1))
    said = f"the backbone has no such block{nearest(beyond[0], there)}"
    return [("attention.placement.blocks", f"{said} (got {listed(beyond)}; allowed: {allowed})")]


def _profile(kernel_sizes: list[int] | None, blocks: tuple[int, ...]) -> list[tuple[str, str]]:
    if kernel_sizes is None or len(kernel_sizes) == len(blocks):
        return []
    allowed = f"{len(blocks)} numbers, one for each stage"
    got = f"{len(kernel_sizes)} of them"
    return [("attention.mapping.kernel_sizes", f"wrong length (got {got}; allowed: {allowed})")]
