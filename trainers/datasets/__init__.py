"""Datasets, one file each. A dataset file NAME.py defines three functions.

`describe(dataset) -> Description`
    what a network must fit, known without reading an image;
`find(dataset, part) -> list[Path]`
    the files that `part` ("train" or "test") is read from, fetched first where that is possible;
`dataset(files, part, *, own parameters) -> Images | Files | Scenes`
    the images themselves. Keyword-only parameters are what YAML may set; those named in a set
    `NOT_IN_KEY` of the file change how fast images come, never which: runs that differ in nothing
    else answer for one another.

What is right is one label of each image, unless a literal `TARGETS` of the file says otherwise:
`{"boxes", "masks"}` are those of the objects in `trainers.datasets.scenes.Scenes`.

"train" is what a search may see: its validation images are cut from there (`trainers.data`).
"test" is read by the final confirmation alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from spaces.config import Dataset

Part = Literal["train", "test"]


class DatasetError(ValueError):
    """A dataset is missing, damaged or of the wrong shape; the text is at most six lines."""


@dataclass(frozen=True)
class Description:
    """What a network must fit: `channels` x `image_size` x `image_size` to `classes`.

    `mean` and `std` normalise pixels scaled to 0..1, one value per channel or one for all.
    `images` is how many the train part has, where that is so on every machine.
    """

    classes: int
    channels: int
    image_size: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    images: int | None = None


@dataclass(frozen=True, eq=False)
class Images:
    """Images that fit in memory: `pixels` (N, H, W, C) uint8 and `labels` (N,) int64."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Load(Protocol):
    """How an image file becomes an image."""

    def __call__(self, path: Path, size: int, *, train: bool, flip: bool) -> Tensor:
        """(size, size, C) uint8, for training at random by torch's global generator.

        Raises DatasetError, in one line, for a file that cannot be decoded.
        """


@dataclass(frozen=True, eq=False)
class Files:
    """Images left on disk: `paths` of N images, files or what `load` finds one by; `labels` (N,)
    int64.

    `load` decodes one of them, `workers` is how many processes do so. `cache` is a folder of this
    node's own that they are to be copied to, and read from, in training. `manifest` tells these
    images from any others, wherever they lie: the run key holds a digest of it. None: class folder,
    name and size of each file do, as where a file is one image.
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    load: Load
    workers: int
    cache: Path | None = None
    manifest: tuple[tuple[str | int, ...], ...] | None = None


def cache() -> Path:
    """The folder for downloads and decoded images: $ECA_SEARCH_CACHE or ~/.cache/eca-search."""
    return Path(os.environ.get("ECA_SEARCH_CACHE") or Path.home() / ".cache" / "eca-search")


def folders(dataset: Dataset, *system: str) -> list[Path]:
    """Where `dataset` may lie, best first.

    The root of the YAML alone where it gives one; otherwise $ECA_SEARCH_DATA/<name>, then the
    `system` folders of a distribution's packages, then <cache>/<name>.
    """
    if dataset.root is not None:
        return [Path(dataset.root)]
    shared = os.environ.get("ECA_SEARCH_DATA")
    own = [Path(shared) / dataset.name] if shared else []
    return [*own, *map(Path, system), cache() / dataset.name]


def missing(dataset: Dataset, places: list[Path], wanted: str, failed: str = "") -> DatasetError:
    """The error for data found in none of `places`; `failed` says why no download helped."""
    lines = [f"dataset.root: no {dataset.name} data; looked in", *(f"  {p}" for p in places)]
    if len(places) > 3:
        lines[1:] = ["  " + ", ".join(map(str, places))]
    lines.append(f"  for {wanted}")
    lines.append(f"  download: {failed}" if failed else "  put it there, or set dataset.root")
    return DatasetError("\n".join(lines))
