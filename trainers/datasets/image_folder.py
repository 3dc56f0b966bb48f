"""A folder per class, decoded while training: ImageNet, or any images of one's own."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

from pydantic import Field

from trainers.datasets import DatasetError, Description, Files, Part, folders, missing

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from spaces.config import Dataset

LAYOUT = "train/<class>/*.jpg and, for the confirmation, val/<class>/*.jpg"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
"""Whatever the suffix says: some of Pillow's other readers start programs."""
NOT_IN_KEY = {"workers", "classes", "cache"}


def describe(dataset: Dataset) -> Description:
    """As many classes as train/ has folders, of 3 x 224 x 224 unless told otherwise.

    Where the images are not (yet), as many as `classes` says. Raises DatasetError without either,
    and where the two differ.
    """
    classes = dataset.params.get("classes")
    if classes is None or any((place / "train").is_dir() for place in folders(dataset)):
        found = _classes(dataset, "train")
        if classes not in (None, len(found)):
            said = f"{found[0].parent} has {len(found)} class folders (got {classes})"
            raise DatasetError(f"dataset.classes: {said}")
        classes = len(found)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Description(classes, 3, dataset.image_size or 224, mean, std)


def find(dataset: Dataset, part: Part) -> list[Path]:
    """All image files of the part in order of class and name; "test" is the folder val/.

    Raises DatasetError for a class without any: the others would be numbered past it.
    """
    found: list[Path] = []
    for folder in _classes(dataset, part):
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.name.lower().endswith(SUFFIXES))
        if not names:
            said = f"{folder} holds no image (allowed: 1 or more {', '.join(SUFFIXES)})"
            raise DatasetError(f"dataset.root: {said}")
        found += [folder / name for name in names]
    return found


def dataset(
    files: list[Path],
    part: Part,
    *,
    workers: Annotated[int, Field(ge=0, le=256)] = 8,
    classes: Annotated[int, Field(ge=2, le=1_000_000)] | None = None,
    cache: Annotated[str, Field(pattern="^/.")] | None = None,
) -> Files:
    """Images in train/<class>/ and val/<class>/, as ImageNet's (Russakovsky et al. 2015).

    A search cuts its validation images from train/; val/, which papers report on, is this
    program's test part. Training sees a random resized crop, validation the centre crop.
    `workers` processes decode the files, never more than this training's share of its node's
    cores; the numbers that come out do not depend on it. `classes`, where it is said, is how many
    there must be: with it costs are known before the images are there. `cache` is a folder that
    each node has for itself (its whole path): the first training there copies the images to it,
    every later one reads them from it. What has changed in place at the same size is not noticed:
    remove the copy then.
    """
    import numpy as np

    names = sorted({file.parent.name for file in files})
    number = {name: label for label, name in enumerate(names)}
    labels = np.array([number[file.parent.name] for file in files], dtype=np.int64)
    return Files(tuple(files), labels, load, workers, None if cache is None else Path(cache))


def load(path: Path, size: int, *, train: bool, flip: bool) -> Tensor:
    """One image file as `decode` has it. Raises DatasetError."""
    return decode(path, str(path), size, train=train, flip=flip)


def decode(opened: Path | IO[bytes], where: str, size: int, *, train: bool, flip: bool) -> Tensor:
    """One image, (size, size, 3) uint8, as the paper's ImageNet runs see it (section 4.1).

    Training: a random crop of 8 to 100 % of the area at aspect 3/4 to 4/3, resized, then the flip.
    Otherwise the shorter side is resized to 256/224 of the size and the centre cut out. Of an
    animation the first frame is taken, of 16 bits the upper 8. Raises DatasetError that says
    `where` it lies.
    """
    from torchvision.transforms.v2.functional import pil_to_tensor

    pixels: Tensor = pil_to_tensor(_transform(size, train, flip)(rgb(opened, where)))
    return pixels.permute(1, 2, 0)


def rgb(opened: Path | IO[bytes], where: str) -> Image:
    """One image file in three channels of 8 bits. Raises DatasetError that says `where` it lies."""
    from PIL.Image import DecompressionBombError, DecompressionBombWarning, open

    try:
        with open(opened, formats=FORMATS) as found:
            return _colour(found)
    except (OSError, SyntaxError, DecompressionBombError, DecompressionBombWarning) as error:
        raise DatasetError(f"dataset.root: {where} cannot be decoded ({error})") from error


def _colour(image: Image) -> Image:
    """As RGB; Pillow alone would make all but the darkest grey of 16 bits white."""
    if image.mode.startswith("I"):
        import numpy as np
        from PIL.Image import fromarray

        image = fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


@lru_cache
def _transform(size: int, train: bool, flip: bool) -> Any:
    from torchvision.transforms import v2

    if train:
        steps = [v2.RandomResizedCrop(size, antialias=True), *[v2.RandomHorizontalFlip()] * flip]
    else:
        steps = [v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size)]
    return v2.Compose(steps)


def _classes(dataset: Dataset, part: Part) -> tuple[Path, ...]:
    """The class folders of a part, sorted by name."""
    places = folders(dataset)
    inside = "train" if part == "train" else "val"
    for place in places:
        folder = place / inside
        if folder.is_dir():
            found = _subfolders(folder, folder.stat().st_mtime_ns)
            if len(found) >= 2:
                return found
            raise DatasetError(
                f"dataset.root: {folder} has {len(found)} class folders (allowed: 2 or more)"
            )
    raise missing(dataset, places, LAYOUT)


@lru_cache(maxsize=16)
def _subfolders(folder: Path, changed: int) -> tuple[Path, ...]:
    """What lies in `folder`, remembered until the time of its last change is another."""
    with os.scandir(folder) as entries:
        return tuple(folder / name for name in sorted(e.name for e in entries if e.is_dir()))
