"""Handwritten digits of scikit-learn: 1,797 real 8x8 grey images, nothing to download."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.datasets import DatasetError, Description, Images, Part

if TYPE_CHECKING:
    from spaces.config import Dataset

TEST_EVERY = 5


def describe(dataset: Dataset) -> Description:
    """10 classes of 1 x 8 x 8."""
    size = dataset.image_size or 8
    return Description(10, 1, size, mean=(0.3053,), std=(0.3760,), images=1442)


def find(dataset: Dataset, part: Part) -> list[Path]:
    """The file inside scikit-learn; both parts are cut from it."""
    if dataset.root is not None:
        raise DatasetError(
            f"dataset.root: digits comes with scikit-learn (got {dataset.root}; allowed: no root)"
        )
    return [
        Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")))
    ]


def dataset(files: list[Path], part: Part) -> Images:
    """Real 8x8 digits (UCI Optical Recognition of Handwritten Digits, its test half).

    Every fifth image of each class, in the file's order, is a test image: 355 of 1,797, fixed for
    ever and the same share of every class. The grey levels 0..16 become 0..255.
    """
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    within = np.empty_like(labels)
    for label in np.unique(labels):
        members = labels == label
        within[members] = np.arange(members.sum())
    chosen = (within % TEST_EVERY == TEST_EVERY - 1) == (part == "test")
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return Images(pixels[chosen, :, :, None], labels[chosen])
