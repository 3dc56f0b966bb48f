"""Fashion-MNIST: 60,000 + 10,000 grey 28x28 images of clothes in ten classes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.datasets import DatasetError, Description, Images, Part, cache, folders, missing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spaces.config import Dataset

DEBIAN = "/usr/share/datasets/fashion-mnist"
STEMS = {"train": "train", "test": "t10k"}
KINDS = ("images-idx3-ubyte", "labels-idx1-ubyte")


def describe(dataset: Dataset) -> Description:
    """10 classes of 1 x 28 x 28."""
    return Description(10, 1, dataset.image_size or 28, mean=(0.2860,), std=(0.3530,))


def find(dataset: Dataset, part: Part) -> list[Path]:
    """The images file and the labels file, plain or gzipped; downloaded where nothing lies yet."""
    from trainers.datasets import originals

    places = folders(dataset, DEBIAN)
    for place in places:
        for folder in (place, place / "FashionMNIST" / "raw"):
            found = [
                next((f for f in (folder / name, folder / f"{name}.gz") if f.is_file()), None)
                for name in (f"{STEMS[part]}-{kind}" for kind in KINDS)
            ]
            if None not in found:
                return [file for file in found if file is not None]
    names = ", ".join(f"{STEMS[part]}-{kind}[.gz]" for kind in KINDS)
    failed = "" if dataset.root else originals.fetch(cache() / dataset.name, "FashionMNIST")
    if dataset.root or failed:
        raise missing(dataset, places, f"{names} (Debian: dataset-fashion-mnist)", failed)
    return find(dataset, part)


def dataset(files: list[Path], part: Part) -> Images:
    """Zalando's clothes (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747) from their IDX files."""
    import numpy as np

    images, labels = (_idx(file) for file in files)
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or labels.max() > 9:
        raise DatasetError(
            f"dataset.root: {files[0].parent} holds no Fashion-MNIST "
            f"(got images {images.shape}, labels {labels.shape} up to {labels.max()})"
        )
    return Images(images[..., None], labels.astype(np.int64))


def _idx(file: Path) -> NDArray[np.uint8]:
    """The array of an IDX file: magic 0 0 8 rank, the sizes as big-endian int32, then bytes."""
    import numpy as np

    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        magic, rank = data[:3], data[3]
        sizes = np.frombuffer(data, ">i4", rank, offset=4)
        if magic != b"\0\0\x08":
            raise ValueError("not an IDX file of bytes")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(sizes)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise DatasetError(f"dataset.root: {file} cannot be read ({error})") from error
