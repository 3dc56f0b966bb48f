"""Images of any size with the objects in them: what a dataset for detectors gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Texts:
    """M texts of JSON in one array, so that processes can share them: `one(i)` is the i-th's value.

    Text i is the bytes `first[i]` to `first[i + 1]` of `data`.
    """

    data: NDArray[np.uint8]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, values: Sequence[Any]) -> Texts:
        """The values, which JSON must be able to say, as texts."""
        say = json.JSONEncoder(separators=(",", ":")).encode  # made once: there are many
        texts = [say(value).encode() for value in values]
        first = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(text) for text in texts], out=first[1:])
        return cls(np.frombuffer(b"".join(texts), np.uint8), first)

    def one(self, index: int) -> Any:
        """What the text at `index` says."""
        return json.loads(self.data[self.first[index] : self.first[index + 1]].tobytes())

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each text, (M,)."""
        return np.diff(self.first)

    def taken(self, index: NDArray[np.int64]) -> Texts:
        """The texts at `index`, in its order."""
        ends = np.stack([self.first[index], self.first[index + 1]], 1)
        first = np.concatenate([[0], np.cumsum(ends[:, 1] - ends[:, 0])])
        parts = [self.data[start:end] for start, end in ends.tolist()]
        return Texts(np.concatenate(parts) if parts else self.data[:0], first)


@dataclass(frozen=True, eq=False)
class Objects:
    """M objects in the order of their images; pixels are those of the image as it lies on disk.

    `boxes` (M, 4) float64 are left, top, width, height; `labels` (M,) int64 count from 1; `areas`
    (M,) float64 are in pixels. `crowds` (M,) bool marks groups, which are not taught and neither
    right nor wrong to find. `outlines` are polygons or run lengths as COCO writes them.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowds: NDArray[np.bool_]
    outlines: Texts

    def taken(self, index: NDArray[np.int64]) -> Objects:
        """The objects at `index`, in its order."""
        return Objects(
            self.boxes[index],
            self.labels[index],
            self.areas[index],
            self.crowds[index],
            self.outlines.taken(index),
        )


@dataclass(frozen=True, eq=False)
class Scenes:
    """N images left on disk, `paths`, with the `objects` in them.

    Image i holds the objects `first[i]` to `first[i + 1]`, is known as `ids[i]` and is `sizes[i]`,
    height and width, large. `load` decodes one to RGB and raises DatasetError where it cannot;
    `workers`, `cache` and `manifest` are as in `trainers.datasets.Files`. `categories` are what
    labels 1, 2, ... mean.
    """

    paths: tuple[Path, ...]
    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    first: NDArray[np.int64]
    objects: Objects
    categories: tuple[str, ...]
    load: Callable[[Path], Image]
    workers: int
    manifest: tuple[tuple[str | int, ...], ...]
    cache: Path | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,): images that hold many objects are all of one kind, where they are split."""
        return np.zeros(len(self.paths), np.int64)

    def inside(self, index: int) -> slice:
        """The objects of an image."""
        return slice(int(self.first[index]), int(self.first[index + 1]))
