"""CIFAR-10: 50,000 + 10,000 colour 32x32 images in ten classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainers.datasets import Description, Images, Part, cache, folders, missing

if TYPE_CHECKING:
    from spaces.config import Dataset

WANTED = "cifar-10-batches-py/, or train/<class>/*.jpg and test/<class>/*.jpg, or these as zips"


def describe(dataset: Dataset) -> Description:
    """10 classes of 3 x 32 x 32."""
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return Description(10, 3, dataset.image_size or 32, mean, std)


def find(dataset: Dataset, part: Part) -> list[Path]:
    """The pickled batches, class folders or zip of a part; downloaded where nothing lies yet."""
    from trainers.datasets import jpegs, originals

    places = folders(dataset)
    for place in places:
        if found := _batches(place, part) or jpegs.find(place, part):
            return found
    failed = "" if dataset.root else originals.fetch(cache() / dataset.name, "CIFAR10")
    if dataset.root or failed:
        raise missing(dataset, places, WANTED, failed)
    return _batches(cache() / dataset.name, part)


def dataset(files: list[Path], part: Part) -> Images:
    """CIFAR-10 (Krizhevsky 2009), the authors' pickles or the images as JPEG files.

    JPEG files were encoded anew and cost a little accuracy: the two are different data and have
    different digests.
    """
    from trainers.datasets import jpegs, originals

    if files[0].suffix in (".zip", ".jpg", ".jpeg"):
        return jpegs.read(files, part, classes=10, size=32)
    return originals.read(files, "CIFAR10", part)


def _batches(root: Path, part: Part) -> list[Path]:
    """The authors' pickled batches under `root`; empty where one is missing."""
    training = [f"data_batch_{number}" for number in range(1, 6)]
    names = training if part == "train" else ["test_batch"]
    files = [root / "cifar-10-batches-py" / name for name in names]
    return files if all(file.is_file() for file in files) else []
