"""Objects in photographs, with boxes and outlines: COCO, or anything written down as COCO is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trainers.datasets import DatasetError, Description, Part, folders, missing
from trainers.datasets.annotations import read
from trainers.datasets.image_folder import SUFFIXES, rgb
from trainers.datasets.scenes import Scenes
from trainers.datasets.zipped import unpacked

if TYPE_CHECKING:
    from PIL.Image import Image

    from spaces.config import Dataset

TARGETS = {"boxes", "masks"}
NOT_IN_KEY = {"workers", "cache", "annotations", "images"}
"""The digest of the annotation file and of the images' sizes stands for the latter two."""
ANNOTATIONS, IMAGES = "annotations/instances_{part}2017.json", "{part}2017"
PARTS = {"train": "train", "test": "val"}


def describe(dataset: Dataset) -> Description:
    """3 channels, 800 pixels unless told otherwise, and as many classes as the space says."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Description(dataset.params.get("classes", 80), 3, dataset.image_size or 800, mean, std)


def find(dataset: Dataset, part: Part) -> list[Path]:
    """The part's annotation file, then all image files of its folder by name.

    "test" is COCO's val2017. Raises DatasetError for an annotation file without images beside it.
    """
    places = folders(dataset)
    for place in places:
        annotations = _named(dataset.params.get("annotations", ANNOTATIONS), part)
        inside = place if (place / annotations).is_file() else unpacked(place, annotations)
        if inside is None:
            continue
        folder = inside / _named(dataset.params.get("images", IMAGES), part)
        names: list[str] = []
        if folder.is_dir():
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if e.name.lower().endswith(SUFFIXES))
        if not names:
            raise DatasetError(
                f"dataset.root: {inside / annotations} is there, no image {folder}/*"
            )
        return [inside / annotations, *(folder / name for name in names)]
    annotations = dataset.params.get("annotations", ANNOTATIONS)
    images = dataset.params.get("images", IMAGES)
    for place in places:
        if (folder := place / _named(images, part)).is_dir():
            lacking = place / _named(annotations, part)
            raise DatasetError(f"dataset.root: {folder} is there, but no {lacking}")
    wanted = f"{annotations} and {images}/*.jpg, part train or val, or one zip with them"
    raise missing(dataset, places, wanted)


def dataset(
    files: list[Path],
    part: Part,
    *,
    classes: Annotated[int, Field(ge=1, le=100_000)] = 80,
    annotations: Annotated[
        str, Field(pattern=r"^([^/].*)?\{part\}.*json$")
    ] = "annotations/instances_{part}2017.json",
    images: Annotated[str, Field(pattern="^[^/]")] = "{part}2017",
    workers: Annotated[int, Field(ge=0, le=256)] = 8,
    cache: Annotated[str, Field(pattern="^/.")] | None = None,
) -> Scenes:
    """Photographs with objects in them, in COCO's format (Lin et al., ECCV 2014, 2017's split).

    A search cuts its validation images from train2017; val2017, which papers report on, is this
    program's test part. `image_size` is the shorter side of what the network sees; the longer is at
    most 5/3 of it, as 1333 of 800. `classes` is how many categories the annotation files must have
    (80 are COCO's); labels are these in order of their id. `annotations` and `images` say where in
    the root, or in one zip there, the file and the folder of a part lie; {part} is train or val.
    The parts may share a folder, never an annotation file: test images are not to be trained on.

    Training images without an object wider and higher than a pixel are left out, as torchvision's
    reference does (COCO's 117,266 of 118,287 stay); the test part keeps all. Groups (`iscrowd`) and
    boxes without an area are not taught, and judged as COCO judges them. `workers` processes decode
    the images, and outlines where they are asked for; numbers do not depend on how many. `cache` is
    a folder that each node has for itself, as in `image_folder`. Which data these are is told by
    the bytes of the annotation file, and by name and size of each image.

    Raises DatasetError for a file that is no such annotations, speaks of images or categories that
    are not there, or has another number of categories.
    """
    return read(
        files[0],
        {file.name: file for file in files[1:]},
        classes=classes,
        taught=part == "train",
        load=load,
        workers=workers,
        cache=None if cache is None else Path(cache),
    )


def load(path: Path) -> Image:
    """One photograph. Raises DatasetError."""
    return rgb(path, str(path))


def _named(pattern: str, part: Part) -> str:
    """The path of a part in the root."""
    return pattern.replace("{part}", PARTS[part])
