"""Batches of images of different sizes, with the objects in them: lists, one entry an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from spaces.config import Training
from trainers import augmentation as augment
from trainers import cores
from trainers.data import Indices
from trainers.datasets import DatasetError, Description
from trainers.datasets.scenes import Scenes
from trainers.loading import judged, loaded
from trainers.outlines import decoded, runs
from trainers.seeds import stream
from trainers.team import Team

LONGER = 5 / 3
"""The most of a longer side, in `image_size`: 1333 of 800, as papers have it."""

Target = dict[str, Any]
Uneven = tuple[list[Tensor], list[Target]]


class Unequal:
    """Photographs decoded, scaled and mirrored by worker processes.

    Their shorter side becomes `image_size`, unless the longer would be more than 5/3 of that.
    """

    def __init__(
        self,
        scenes: Scenes,
        index: Indices,
        data: Description,
        recipe: Training,
        device: torch.device,
        team: Team,
        *,
        masks: bool,
    ) -> None:
        self.count = len(index)
        self.scenes = scenes
        self.index = index
        self.masks = masks
        self.size = data.image_size
        self.mean = torch.tensor(data.mean, device=device) * 255
        self.std = torch.tensor(data.std, device=device) * 255
        self.batch_size = recipe.batch_size
        self.parts = recipe.accumulate
        self.flip = recipe.augmentation.flip
        self.workers = min(scenes.workers, cores.share())
        self.team = team
        self.device = device

    def shuffled(self, seed: int, epoch: int, done: int = 0) -> Iterator[Uneven]:
        """Full batches of images (3, h, w), upright ones and wide ones apart.

        A target has `boxes` (n, 4) float32, x1, y1, x2, y2 in the image's pixels, `labels` (n,)
        from 1, and `masks` (n, h, w) uint8 where the task is taught those.
        """
        order = torch.randperm(self.count, generator=stream(seed, "order", epoch))
        heights, widths = self.scenes.sizes[self.index].T
        batches = grouped(order, (widths >= heights).tolist(), self.batch_size)
        drawn = augment.draw(self.count, self.size, 0, seed, epoch).flip
        flips = drawn.tolist() if self.flip else [False] * self.count
        mine = [self.team.share(batch, self.parts) for batch in batches[done:]]
        for images, targets in self._decoded(mine, flips):
            yield images, [{k: self._there(v) for k, v in each.items()} for each in targets]

    def ordered(self) -> Iterator[Uneven]:
        """Every image once, one at a time: no neighbour's size has a part in what is found.

        A target has what is `known` of the image as it lies on disk, for the judge.
        """
        yield from self._decoded(judged(self.count, 1, self.team), None)

    def _decoded(self, order: list[Tensor], flips: list[bool] | None) -> Iterator[Uneven]:
        """Normalised images on the device, targets as the workers made them."""
        scaling = Scaling(self.scenes, self.index, self.size, flips, masks=self.masks)
        for batch in loaded(scaling, order, self.workers, self.device, collate_fn=list):
            pixels = (image.to(self.device, non_blocking=True) for image, _ in batch)
            images = [augment.normalise(one[None], self.mean, self.std)[0] for one in pixels]
            yield images, [target for _, target in batch]

    def _there(self, fact: NDArray[Any] | Tensor) -> Tensor:
        """Part of a target on the device."""
        tensor = fact if isinstance(fact, Tensor) else torch.from_numpy(fact)
        return tensor.to(self.device, non_blocking=True)


def grouped(order: Tensor, wide: Sequence[bool], size: int) -> list[Tensor]:
    """The images of an epoch's `order` in batches, wide ones and upright ones apart.

    As many as there would be without groups: what is left of both makes up the last one, where it
    is enough for one. Padded to one size an image then has little beside it, as in MMDetection and
    torchvision's reference, whose incomplete groups are filled up by images seen a second time.
    """
    waiting: tuple[list[int], list[int]] = ([], [])
    batches = []
    for place in order.tolist():
        group = waiting[wide[place]]
        group.append(place)
        if len(group) == size:
            batches.append(torch.tensor(group))
            group.clear()
    left = [*waiting[True], *waiting[False]]
    if len(left) >= size:
        batches.append(torch.tensor(left[:size]))
    return batches


def scaled(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width with `size` as the shorter side, or 5/3 of it as the longer."""
    scale = min(size / min(height, width), LONGER * size / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


class Scaling(torch.utils.data.Dataset[tuple[Tensor, Target]]):
    """Photographs as uint8 tensors (h, w, 3), and their targets, of which arrays stay NumPy's.

    With `flips`, for each image whether it is mirrored, targets are as training wants them; without
    as judging does.
    """

    def __init__(
        self,
        scenes: Scenes,
        index: Indices,
        size: int,
        flips: list[bool] | None,
        *,
        masks: bool,
    ) -> None:
        self.scenes = scenes
        self.index = index
        self.size = size
        self.flips = flips
        self.masks = masks

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: int) -> tuple[Tensor, Target]:
        number = int(self.index[place])
        height, width = self.scenes.sizes[number].tolist()
        size = scaled(height, width, self.size)
        pixels = self._pixels(number, size)
        if self.flips is None:
            return pixels, self._known(number)
        mirrored = self.flips[place]
        target = self._taught(number, size, mirrored=mirrored)
        return pixels.flip(1) if mirrored else pixels, target

    def _pixels(self, number: int, size: tuple[int, int]) -> Tensor:
        """The image (h, w, 3), bilinear with antialias."""
        from PIL.Image import Resampling

        path = self.scenes.paths[number]
        image = self.scenes.load(path)
        height, width = self.scenes.sizes[number].tolist()
        if image.size != (width, height):
            said = f"{path} is {image.size[1]} high and {image.size[0]} wide"
            told = f"its annotations say {height} and {width}"
            raise DatasetError(f"dataset.root: {said}, {told}")
        if (height, width) != size:
            image = image.resize(size[::-1], Resampling.BILINEAR)
        return torch.from_numpy(np.array(image))

    def _taught(self, number: int, size: tuple[int, int], *, mirrored: bool) -> Target:
        """Boxes inside the scaled image, labels, masks; no groups, nothing without an area."""
        found = self.scenes.objects
        rows = np.arange(len(found.labels))[self.scenes.inside(number)]
        height, width = self.scenes.sizes[number].tolist()
        corners = found.boxes[rows].copy()
        corners[:, 2:] += corners[:, :2]
        corners *= np.array([size[1] / width, size[0] / height] * 2)
        corners = corners.clip(0, np.array([size[1], size[0]] * 2)).astype(np.float32)
        if mirrored:  # before the areas are looked at: float32 may round a sliver's away here
            corners[:, [0, 2]] = size[1] - corners[:, [2, 0]]
        real = (corners[:, 2:] > corners[:, :2]).all(1) & ~found.crowds[rows]
        target: Target = {"boxes": corners[real], "labels": found.labels[rows[real]]}
        if self.masks:
            outlines = [self._runs(number, row) for row in rows[real].tolist()]
            masks = torch.from_numpy(decoded(outlines, height, width))[None]
            target["masks"] = (
                interpolate(masks, size, mode="nearest")[0]
                if outlines
                else (masks.new_zeros((0, *size)))
            )
            if mirrored:
                target["masks"] = target["masks"].flip(2)
        return target

    def _known(self, number: int) -> Target:
        """All that the annotations say of the image."""
        found = self.scenes.objects
        objects = [
            {
                "bbox": found.boxes[row].tolist(),
                "category_id": int(found.labels[row]),
                "area": float(found.areas[row]),
                "iscrowd": int(found.crowds[row]),
                **({"segmentation": self._runs(number, row)} if self.masks else {}),
            }
            for row in range(*self.scenes.inside(number).indices(len(found.labels)))
        ]
        size = tuple(self.scenes.sizes[number].tolist())
        return {"known": {"id": int(self.scenes.ids[number]), "size": size, "objects": objects}}

    def _runs(self, number: int, row: int) -> dict[str, Any]:
        """An object's outline. Raises DatasetError."""
        try:
            return runs(self.scenes.objects.outlines.one(row), *self.scenes.sizes[number].tolist())
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            image = self.scenes.paths[number].name
            said = f"an object in {image} has no outline: {error}"
            raise DatasetError(f"dataset.root: {said}") from None
