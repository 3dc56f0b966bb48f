"""Outlines of objects as COCO writes them, as masks, and masks as run lengths.

The library that knows them, faster-coco-eval, is imported only where outlines are looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CORNERS = 3
"""The least of a polygon: of fewer the library makes something else, a box say."""

Runs = dict[str, Any]  # {"size": [height, width], "counts": bytes}


def runs(outline: Any, height: int, width: int) -> Runs:
    """The run lengths of an outline in an image of that size.

    It is a list of polygons [x1, y1, x2, y2, ...] in pixels, which add up, or run lengths, as they
    are or packed. Polygons of less than three corners enclose nothing. Raises ValueError for
    anything else, and RuntimeError, the library's, for packed ones that cannot be read.
    """
    from faster_coco_eval import mask

    if isinstance(outline, list):
        try:
            corners = [list(map(float, polygon)) for polygon in outline]
        except (TypeError, ValueError, OverflowError):
            raise ValueError("an outline is polygons, lists of numbers, or run lengths") from None
        polygons = [polygon for polygon in corners if len(polygon) >= 2 * CORNERS]
        if any(len(polygon) % 2 for polygon in polygons):
            raise ValueError("a polygon has an odd number of coordinates")
        if not polygons:
            return encoded(np.zeros((1, height, width), np.uint8))[0]
        merged: Runs = mask.merge(mask.frPyObjects(polygons, height, width))
        return merged
    if not isinstance(outline, dict) or {"size", "counts"} - outline.keys():
        raise ValueError("an outline is polygons, lists of numbers, or run lengths")
    if list(outline["size"]) != [height, width]:
        told = " x ".join(map(str, outline["size"]))
        raise ValueError(f"run lengths of {told} in an image of {height} x {width}")
    counts = outline["counts"]
    if isinstance(counts, list):
        if not all(isinstance(count, int) for count in counts):
            raise ValueError("run lengths that are no whole numbers")
        if sum(counts) != height * width or min(counts, default=0) < 0:
            raise ValueError(f"run lengths that do not add up to {height} x {width}")
        plain: Runs = mask.frPyObjects(outline, height, width)
        return plain
    if not isinstance(counts, str):
        raise ValueError("run lengths are a list of whole numbers, or packed into a text")
    packed: Runs = {"size": [height, width], "counts": counts.encode()}
    mask.decode(packed)  # raises here, where it is known whose they are
    return packed


def decoded(found: list[Runs], height: int, width: int) -> NDArray[np.uint8]:
    """The masks of so many run lengths, (N, height, width), 1 inside."""
    from faster_coco_eval import mask

    if not found:
        return np.zeros((0, height, width), np.uint8)
    masks: NDArray[np.uint8] = mask.decode(found)
    return np.ascontiguousarray(masks.transpose(2, 0, 1))


def encoded(masks: NDArray[np.uint8]) -> list[Runs]:
    """The run lengths of masks (N, height, width)."""
    from faster_coco_eval import mask

    if not len(masks):
        return []
    found: list[Runs] = mask.encode(np.asfortranarray(masks.transpose(1, 2, 0)))
    return found
