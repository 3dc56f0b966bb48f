"""COCO's annotation files: what one says of which image, checked and packed into arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.errors import counted
from trainers.datasets import DatasetError
from trainers.datasets.scenes import Objects, Scenes, Texts

LARGEST = 2**63
"""Ids and sizes are kept as int64."""
AREAS = (0, 1e10)
"""What COCO's judge looks at, in square pixels: it ignores objects smaller or larger."""


def read(
    file: Path,
    images: Mapping[str, Path],
    *,
    classes: int,
    taught: bool,
    **beside: Any,
) -> Scenes:
    """The images that an annotation file lists, in order of their ids, with their objects.

    `images` are those that are there, by name. Where they are `taught`, images without an object
    wider and higher than a pixel are left out: torchvision's rule. `beside` is what else `Scenes`
    are made of. Raises DatasetError.
    """
    try:
        raw = file.read_bytes()
        found = json.loads(raw)
    except OSError as error:
        raise DatasetError(f"dataset.root: {file} cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"dataset.root: {file} is no JSON ({error})") from None
    try:
        categories, numbers = _categories(_list(found, "categories"), classes)
        listed = _images(_list(found, "images"), images)
        owners, objects = _objects(_list(found, "annotations"), listed, numbers)
    except _Wrong as error:
        raise DatasetError(f"{error.key}: {file}: {error}") from None
    ids = np.fromiter(listed, np.int64, len(listed))
    keep = np.ones(len(ids), bool)
    if taught:
        keep = np.isin(ids, owners[(objects.boxes[:, 2:] > 1).all(1)])
    order = np.argsort(owners, kind="stable")
    owners = owners[order]
    if not keep.any():
        raise DatasetError(f"dataset.root: {file} has no image with an object in it")
    first = np.searchsorted(owners, ids)
    last = np.searchsorted(owners, ids, side="right")
    rows = np.concatenate([np.arange(*ends) for ends in zip(first[keep], last[keep], strict=True)])
    kept = [listed[number] for number in ids[keep].tolist()]
    facts = [(path.name, path.stat().st_size) for path, _ in listed.values()]
    return Scenes(
        paths=tuple(path for path, _ in kept),
        ids=ids[keep],
        sizes=np.array([size for _, size in kept], np.int64),
        first=np.concatenate([[0], np.cumsum((last - first)[keep])]),
        objects=objects.taken(order[rows]),
        categories=categories,
        manifest=(("annotations", hashlib.sha256(raw).hexdigest()), *facts),
        **beside,
    )


class _Wrong(ValueError):
    """What is wrong with a file, and the key of the config that is to blame."""

    def __init__(self, said: str, key: str = "dataset.root") -> None:
        super().__init__(said)
        self.key = key


def _list(found: Any, name: str) -> list[Any]:
    """The list of that name at the top of the file."""
    listed = found.get(name) if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise _Wrong(f"no annotations as COCO's: no list of {name} in it")
    return listed


def _fields(
    entries: list[dict[str, Any]], what: str, name: str, kind: type | tuple[type, ...]
) -> list[Any]:
    """What each entry says under a name. Raises where one says nothing, or something else."""
    values = [entry.get(name) for entry in entries]
    for place, value in enumerate(values):
        endless = isinstance(value, int) and not -LARGEST <= value < LARGEST
        if not isinstance(value, kind) or isinstance(value, bool) or endless:
            got = json.dumps(value)[:40]
            raise _Wrong(f"{what}[{place}] has no {name}, or none that can be (got {got})")
    return values


def _categories(
    entries: list[dict[str, Any]], classes: int
) -> tuple[tuple[str, ...], dict[int, int]]:
    """The names of labels 1, 2, ..., and the label of each category's id."""
    names = dict(
        zip(
            _fields(entries, "categories", "id", int),
            _fields(entries, "categories", "name", str),
            strict=True,
        )
    )
    if len(names) != len(entries):
        raise _Wrong("two categories have one id")
    if len(names) != classes:
        raise _Wrong(f"it has {len(names)} categories (got {classes})", "dataset.classes")
    ids = sorted(names)
    return tuple(names[id] for id in ids), {id: label for label, id in enumerate(ids, start=1)}


def _images(
    entries: list[dict[str, Any]], there: Mapping[str, Path]
) -> dict[int, tuple[Path, tuple[int, int]]]:
    """Id -> file, height and width of every image, in order of the ids."""
    ids, names, heights, widths = (
        _fields(entries, "images", name, kind)
        for name, kind in (("id", int), ("file_name", str), ("height", int), ("width", int))
    )
    if len(set(ids)) != len(ids):
        raise _Wrong("two images have one id")
    lacking = [name for name in names if name not in there]
    if lacking:
        many = f", and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
        raise _Wrong(f"its image {lacking[0][:100]!r} is not in the folder of images{many}")
    if min([*heights, *widths], default=1) < 1:
        raise _Wrong("an image has no height or no width")
    found = {
        i: (there[name], (h, w)) for i, name, h, w in zip(ids, names, heights, widths, strict=True)
    }
    return dict(sorted(found.items()))


def _objects(
    entries: list[dict[str, Any]],
    images: Mapping[int, tuple[Path, tuple[int, int]]],
    numbers: Mapping[int, int],
) -> tuple[NDArray[np.int64], Objects]:
    """The image of every object, and the objects, in the file's order."""
    owners = _fields(entries, "annotations", "image_id", int)
    kinds = _fields(entries, "annotations", "category_id", int)
    for place, (owner, kind) in enumerate(zip(owners, kinds, strict=True)):
        if owner not in images:
            raise _Wrong(f"annotations[{place}] is of image {owner}, which is none of its images")
        if kind not in numbers:
            raise _Wrong(
                f"annotations[{place}] is of category {kind}, which is none of its categories"
            )
    boxes = _numbers(entries, "bbox", _fields(entries, "annotations", "bbox", list), 4)
    extents = boxes[:, 2:].prod(1).tolist()
    stated = [entry.get("area", own) for entry, own in zip(entries, extents, strict=True)]
    areas = _numbers(entries, "area", [[area] for area in stated], 1)[:, 0]
    for place in np.flatnonzero((areas < AREAS[0]) | (areas > AREAS[1])).tolist():
        said = f"annotations[{place}] has an area that is never judged"
        raise _Wrong(f"{said} (got {areas[place]:g}; allowed {AREAS[0]}..{AREAS[1]:g})")
    crowds = [entry.get("iscrowd", 0) for entry in entries]
    for place, crowd in enumerate(crowds):
        if not isinstance(crowd, int) or crowd not in (0, 1):
            got = json.dumps(crowd)[:40]
            raise _Wrong(f"annotations[{place}] has a wrong iscrowd (got {got}; allowed 0, 1)")
    objects = Objects(
        boxes,
        np.array([numbers[kind] for kind in kinds], np.int64),
        areas,
        np.array(crowds, bool),
        Texts.of([entry.get("segmentation") or [] for entry in entries]),
    )
    return np.array(owners, np.int64), objects


def _numbers(
    entries: list[dict[str, Any]], name: str, rows: list[list[Any]], width: int
) -> NDArray[np.float64]:
    """(M, width) of what each annotation says under a name: finite numbers, so many."""
    try:
        if all(len(row) == width for row in rows):
            found = np.array(rows, np.float64).reshape(-1, width)
            if np.isfinite(found).all():
                return found
    except (TypeError, ValueError, OverflowError):
        pass
    for place, row in enumerate(rows):
        numbers = [x for x in row if isinstance(x, int | float) and abs(x) < 1e300]
        if len(numbers) != width or len(row) != width:
            got = json.dumps(entries[place].get(name))[:40]
            said = f"annotations[{place}] has no {name} of {counted(width, 'number')} (got {got})"
            raise _Wrong(said)
    raise _Wrong(f"an annotation has no {name} of {counted(width, 'number')}")
