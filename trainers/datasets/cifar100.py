"""CIFAR-100: 50,000 + 10,000 colour 32x32 images in a hundred classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainers.datasets import Description, Images, Part, cache, folders, missing

if TYPE_CHECKING:
    from spaces.config import Dataset


def describe(dataset: Dataset) -> Description:
    """100 classes of 3 x 32 x 32."""
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    return Description(100, 3, dataset.image_size or 32, mean, std)


def find(dataset: Dataset, part: Part) -> list[Path]:
    """The pickled file of a part; downloaded where nothing lies yet."""
    from trainers.datasets import originals

    places = folders(dataset)
    for place in places:
        if found := _batches(place, part):
            return found
    failed = "" if dataset.root else originals.fetch(cache() / dataset.name, "CIFAR100")
    if dataset.root or failed:
        raise missing(dataset, places, "cifar-100-python/", failed)
    return _batches(cache() / dataset.name, part)


def dataset(files: list[Path], part: Part) -> Images:
    """CIFAR-100 (Krizhevsky 2009) with its hundred fine labels, from the authors' pickles."""
    from trainers.datasets import originals

    return originals.read(files, "CIFAR100", part)


def _batches(root: Path, part: Part) -> list[Path]:
    """The authors' pickled file under `root`; empty where it is missing."""
    file = root / "cifar-100-python" / part
    return [file] if file.is_file() else []
