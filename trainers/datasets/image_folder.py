"""A folder per class, decoded while training: ImageNet, or any images of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trainers.datasets import DatasetError, Description, Files, Part, folders, missing

if TYPE_CHECKING:
    from spaces.config import Dataset

LAYOUT = "train/<class>/*.jpg and, for the confirmation, val/<class>/*.jpg"
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def describe(dataset: Dataset) -> Description:
    """As many classes as train/ has folders, of 3 x 224 x 224 unless told otherwise."""
    classes = len(_classes(dataset, "train"))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Description(classes, 3, dataset.image_size or 224, mean, std)


def find(dataset: Dataset, part: Part) -> list[Path]:
    """All image files of the part in order of class and name; "test" is the folder val/."""
    return [
        file
        for folder in _classes(dataset, part)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in SUFFIXES
    ]


def dataset(
    files: list[Path], part: Part, *, workers: Annotated[int, Field(ge=0, le=256)] = 8
) -> Files:
    """Images in train/<class>/ and val/<class>/, as ImageNet's (Russakovsky et al. 2015).

    A search cuts its validation images from train/; val/, which papers report on, is this
    program's test part. Training sees a random resized crop, validation the centre crop.
    `workers` processes decode the files, never more than there are cores; the numbers that
    come out do not depend on it.
    """
    import numpy as np

    names = sorted({file.parent.name for file in files})
    number = {name: label for label, name in enumerate(names)}
    labels = np.array([number[file.parent.name] for file in files], dtype=np.int64)
    return Files(tuple(files), labels, workers)


def _classes(dataset: Dataset, part: Part) -> list[Path]:
    """The class folders of a part, sorted by name."""
    places = folders(dataset)
    inside = "train" if part == "train" else "val"
    for place in places:
        if (place / inside).is_dir():
            found = sorted(f for f in (place / inside).iterdir() if f.is_dir())
            if len(found) >= 2:
                return found
            raise DatasetError(
                f"dataset.root: {place / inside} has {len(found)} class folders "
                "(allowed: 2 or more)"
            )
    raise missing(dataset, places, LAYOUT)
