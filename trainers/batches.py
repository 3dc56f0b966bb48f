"""Batches of images on the device: normalised, and augmented where they train.

Order and augmentation are functions of (seed, epoch): arms of a comparison see the same images in
the same order, and a resumed run goes on exactly where it stopped.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from spaces.config import Config, Training
from trainers import augmentation as augment
from trainers import cores, tasks
from trainers.data import Data, Indices, Judge, Source, sources
from trainers.datasets import Description, Files, Images
from trainers.loading import judged, loaded
from trainers.nearby import brought
from trainers.network import describe
from trainers.seeds import derive, stream
from trainers.suits import check, check_judges, check_team, cut
from trainers.team import ALONE, Team
from trainers.uneven import Unequal

Some = Tensor | list[Any]  # one for each image: stacked, or a list where their shapes differ
Batch = tuple[Some, Some]  # images (N, C, H, W) float32 in channels_last and labels (N,), or lists


class Batches(Protocol):
    """Images to train on or to validate with."""

    count: int

    def shuffled(self, seed: int, epoch: int, done: int = 0) -> Iterator[Batch]:
        """Augmented full batches of an epoch, but for those `done`.

        The images of a partial last one are left out.
        """

    def ordered(self) -> Iterator[Batch]:
        """Every image once as it is, the last batch as small as it comes out."""


def open_batches(
    config: Config,
    device: torch.device,
    found: tuple[Source, ...] = (),
    team: Team = ALONE,
) -> tuple[Batches, Batches]:
    """The images that train and those that judge, both cut from the dataset's train part.

    `found` are its `data.sources`, looked for where they are not given. With a test part among them
    all of the train part trains (its `subset`, where there is one), and the test part judges.
    Of a `team` each process has its share of every batch, in the same order. Raises as `fits` does,
    and VariantError where a share would be empty.
    """
    tasks.check(config)
    part, *test = found or sources(config.dataset)
    images = _near(part)
    check(config, images)
    training, held = cut(config, images)
    judges, judging = images, held
    if test:
        judges = _near(test[0])
        training, judging = np.sort(np.concatenate([training, held])), np.arange(len(judges.labels))
    check_team(config, len(judging), team)
    check_judges(config, judges, images, None if test else judging)
    return (
        _batches(config, images, training, device, team),
        _batches(config, judges, judging, device, team),
    )


def bring(config: Config, judge: Judge = "val") -> None:
    """Do what `open_batches` and the run key may take long for, once on each node.

    Images are decoded, told by their digest and copied near. Raises DatasetError.
    """
    for source in sources(config.dataset, judge):
        source.digest()
        _near(source)


def _near(source: Source) -> Data:
    """The images, those on disk in this node's own copy where there is to be one."""
    images = source.images()
    if isinstance(images, Images) or images.cache is None:
        return images
    near = brought(source, images.cache)
    if isinstance(images, Files):
        return replace(images, paths=near)
    where = dict(zip(source.files, near, strict=True))
    return replace(images, paths=tuple(where[path] for path in images.paths))


def _batches(
    config: Config, images: Data, index: Indices, device: torch.device, team: Team
) -> Batches:
    known = (index, describe(config), config.training, device, team)
    if isinstance(images, Images):
        return InMemory(images, *known)
    if isinstance(images, Files):
        return OnDisk(images, *known)
    return Unequal(images, *known, masks=tasks.targets(config.task.name) == "masks")


class InMemory:
    """One uint8 tensor on the device; a batch is a gather, a crop and a subtraction there.

    On the CPU that is the cache's file, mapped, which all processes of a node share.
    """

    def __init__(
        self,
        images: Images,
        index: Indices,
        data: Description,
        recipe: Training,
        device: torch.device,
        team: Team,
    ) -> None:
        self.count = len(index)
        size = data.image_size
        self.rows: Tensor | None = None  # where the batches' images are among all
        if device.type == "cpu" and images.pixels.shape[1:3] == (size, size):
            self.pixels, self.rows = _shared(images), torch.from_numpy(index)
        else:
            self.pixels = resize(torch.from_numpy(images.pixels[index]).to(device), size)
        self.labels = torch.from_numpy(images.labels[index]).to(device)
        self.mean, self.std = _scale(data, device)
        self.batch_size = recipe.batch_size
        self.parts = recipe.accumulate
        self.augmentation = recipe.augmentation
        self.team = team

    def shuffled(self, seed: int, epoch: int, done: int = 0) -> Iterator[Batch]:
        """Crop, flip, normalise, cut out."""
        device, choice = self.pixels.device, self.augmentation
        order = torch.randperm(self.count, generator=stream(seed, "order", epoch)).to(device)
        size = self.pixels.shape[1]
        draws = augment.draw(self.count, size, choice.crop, seed, epoch).to(device)
        first = done * self.batch_size
        for start in range(first, self.count - self.batch_size + 1, self.batch_size):
            index = self.team.share(order[start : start + self.batch_size], self.parts)
            drawn = draws.take(index)
            pixels = augment.crop_and_flip(self._taken(index), drawn, choice.crop, flip=choice.flip)
            images = augment.normalise(pixels, self.mean, self.std)
            yield augment.cutout(images, drawn, choice.cutout), self.labels.index_select(0, index)

    def ordered(self) -> Iterator[Batch]:
        """Twice the training batch: there is no backward pass to keep activations for."""
        for index in judged(self.count, 2 * self.batch_size, self.team):
            index = index.to(self.pixels.device)
            labels = self.labels.index_select(0, index)
            yield augment.normalise(self._taken(index), self.mean, self.std), labels

    def _taken(self, index: Tensor) -> Tensor:
        """The pixels of the images in these places."""
        return self.pixels.index_select(0, index if self.rows is None else self.rows[index])


class OnDisk:
    """Image files, decoded and cropped by worker processes as their dataset says."""

    def __init__(
        self,
        files: Files,
        index: Indices,
        data: Description,
        recipe: Training,
        device: torch.device,
        team: Team,
    ) -> None:
        self.count = len(index)
        self.files = files
        self.places = index.tolist()
        self.labels = torch.from_numpy(files.labels[index])
        self.workers = min(files.workers, cores.share())
        self.size = data.image_size
        self.mean, self.std = _scale(data, device)
        self.batch_size = recipe.batch_size
        self.parts = recipe.accumulate
        self.augmentation = recipe.augmentation
        self.team = team
        self.device = device

    def shuffled(self, seed: int, epoch: int, done: int = 0) -> Iterator[Batch]:
        """Decode, crop and flip in the workers; normalise and cut out on the device."""
        order = torch.randperm(self.count, generator=stream(seed, "order", epoch))
        full = order[: self.count // self.batch_size * self.batch_size].split(self.batch_size)
        draws = augment.draw(self.count, self.size, 0, seed, epoch)
        mine = [self.team.share(batch, self.parts) for batch in full[done:]]
        for images, index in self._decoded(mine, (seed, epoch)):
            drawn = draws.take(index).to(self.device)
            images = augment.cutout(images, drawn, self.augmentation.cutout)
            yield images, self.labels[index].to(self.device)

    def ordered(self) -> Iterator[Batch]:
        """The centre of every image."""
        for images, index in self._decoded(judged(self.count, self.batch_size, self.team), None):
            yield images, self.labels[index].to(self.device)

    def _decoded(
        self, order: list[Tensor], seed: tuple[int, int] | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(normalised images on the device, their places on the CPU) of each batch."""
        decoding = Decoding(self.files, self.places, self.size, self.augmentation.flip, seed)
        for pixels, index in loaded(decoding, order, self.workers, self.device):
            pixels = pixels.to(self.device, non_blocking=True)
            yield augment.normalise(pixels, self.mean, self.std), index


class Decoding(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Image files as uint8 tensors (H, W, C), each transformed by random numbers of its own.

    They follow from (seed, epoch, place), so that it does not matter how many workers decode.
    Without a seed images are as validation sees them.
    """

    def __init__(
        self, files: Files, places: list[int], size: int, flip: bool, seed: tuple[int, int] | None
    ) -> None:
        self.files = files
        self.places = places
        self.size = size
        self.flip = flip
        self.seed = seed

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.files.paths[self.places[index]]
        if self.seed is None:
            return self.files.load(path, self.size, train=False, flip=False), index
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(*self.seed, "decode", index))
            return self.files.load(path, self.size, train=True, flip=self.flip), index


def _shared(images: Images) -> Tensor:
    """The images as they are, on the CPU; not to be written to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that they could not be
        return torch.from_numpy(np.ascontiguousarray(images.pixels))


def parted(some: Some, parts: int) -> Sequence[Some]:
    """So many parts of N images or targets, the first ones larger by one: `Tensor.tensor_split`."""
    if isinstance(some, Tensor):
        return some.tensor_split(parts)
    places = torch.arange(len(some)).tensor_split(parts)
    return [[some[place] for place in part.tolist()] for part in places]


def resize(pixels: Tensor, size: int) -> Tensor:
    """(N, H, W, C) uint8 to size x size, once and for all: bilinear with antialias, rounded.

    The filter of `torchvision.transforms.v2.Resize`; images of that size already stay untouched.
    """
    if pixels.shape[1] == pixels.shape[2] == size:
        return pixels
    parts = [
        interpolate(part.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear", antialias=True)
        .round_()
        .clamp_(0, 255)
        .to(torch.uint8)
        .permute(0, 2, 3, 1)
        for part in pixels.split(1024)
    ]
    return torch.cat(parts).contiguous()


def _scale(data: Description, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation on the scale 0..255."""
    mean = torch.tensor(data.mean, device=device) * 255
    return mean, torch.tensor(data.std, device=device) * 255
