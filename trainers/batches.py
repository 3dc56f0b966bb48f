"""Batches of images on the device: normalised, and augmented where they train.

Order and augmentation are functions of (seed, epoch): arms of a comparison see the same images in
the same order, and a resumed run goes on exactly where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from spaces.config import Config, Training
from spaces.errors import VariantError, counted
from trainers import augmentation as augment
from trainers.data import Indices, Judge, Source, shares, sources, split
from trainers.datasets import DatasetError, Description, Files, Images
from trainers.nearby import brought
from trainers.network import describe
from trainers.seeds import derive, stream
from trainers.team import ALONE, Team

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


def fits(config: Config, judge: Judge = "val") -> None:
    """Check that the recipe suits the data, as far as can be known before the first step.

    Images in memory are read, or taken from the cache; files are counted. The test part is looked
    at where it judges. Raises DatasetError for
    data that are missing or damaged, otherwise VariantError, whose `key` is the setting's: a subset
    larger than the data, a share of validation that leaves a side empty, a batch larger than the
    training set, a crop that the images do not allow.
    """
    part, *test = sources(config.dataset, judge)
    _check(config, part.images())
    for source in test:
        source.images()


def foresee(config: Config, processes: int = 1) -> None:
    """Check what `fits` would, as far as it can be told without looking for an image.

    The number of images is known where `subset` says it, or the dataset has the same everywhere.
    So many `processes` are to share every batch.
    Raises VariantError as `fits` does, and DatasetError where classes are counted in missing data.
    """
    known = describe(config)
    _check_share(config, processes)
    if (count := known.images or config.dataset.subset) is not None:
        _check_batch(config, count)
    _check_crop(config, known.image_size - 1, "no such padding")


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
    part, *test = found or sources(config.dataset)
    images = _near(part)
    _check(config, images)
    training, held = split(
        images.labels,
        val=config.dataset.val,
        seed=config.dataset.split_seed,
        subset=config.dataset.subset,
    )
    if not test:
        _check_team(config, len(held), team)
        return (
            _batches(config, images, training, device, team),
            _batches(config, images, held, device, team),
        )
    unseen = _near(test[0])
    whole = np.sort(np.concatenate([training, held]))
    everything = np.arange(len(unseen.labels))
    _check_team(config, len(everything), team)
    return (
        _batches(config, images, whole, device, team),
        _batches(config, unseen, everything, device, team),
    )


def bring(config: Config, judge: Judge = "val") -> None:
    """Do what `open_batches` and the run key may take long for, once on each node.

    Images are decoded, told by their digest and copied near. Raises DatasetError.
    """
    for source in sources(config.dataset, judge):
        source.digest()
        _near(source)


def _near(source: Source) -> Images | Files:
    """The images, those on disk in this node's own copy where there is to be one."""
    images = source.images()
    if isinstance(images, Files) and images.cache is not None:
        return replace(images, paths=brought(source, images.cache))
    return images


def _batches(
    config: Config, images: Images | Files, index: Indices, device: torch.device, team: Team
) -> Batches:
    kind = InMemory if isinstance(images, Images) else OnDisk
    return kind(images, index, describe(config), config.training, device, team)  # type: ignore[arg-type]


def _check_team(config: Config, judging: int, team: Team) -> None:
    """Refuse a batch, or images to judge by, of which a process would have none."""
    _check_share(config, team.size)
    if judging < team.size:
        said = f"{team.size} processes judge by {judging} images (allowed: one or more for each)"
        raise VariantError(("dataset.val", said))


def _check_share(config: Config, processes: int) -> None:
    """Refuse a batch, or parts of one, of which one of so many processes would have nothing."""
    size, parts = config.training.batch_size, config.training.accumulate
    if size // parts < processes:
        said = f"{processes} processes share a batch, and each part of one"
        allowed = f"allowed: {processes * parts} or more"
        raise VariantError(("training.batch_size", f"{said} (got {size}; {allowed})"))


def _check(config: Config, images: Images | Files) -> None:
    """Refuse a recipe that does not suit the images. Raises VariantError."""
    _check_batch(config, len(images.labels))
    if isinstance(images, Files):
        _check_crop(config, 0, "images on disk are always cropped at random scale")
    else:
        _check_crop(config, describe(config).image_size - 1, "no such padding")


def _check_batch(config: Config, images: int) -> None:
    """Refuse a batch, a subset or a share of validation that so many images do not allow."""
    chosen, data = config.training, config.dataset
    count, _ = shares(images, val=data.val, subset=data.subset)
    if chosen.batch_size > count:
        said = "larger than the training set "
        said += f"(got {chosen.batch_size}; allowed: at most {counted(count, 'image')})"
        raise VariantError(("training.batch_size", said))


def _check_crop(config: Config, largest: int, said: str) -> None:
    """Refuse more padding than `largest`, saying why."""
    crop = config.training.augmentation.crop
    if crop > largest:
        allowed = f"0..{largest}" if largest else "0"
        raise VariantError(
            ("training.augmentation.crop", f"{said} (got {crop}; allowed {allowed})")
        )


class InMemory:
    """One uint8 tensor on the device; a batch is a gather, a crop and a subtraction there."""

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
        self.pixels = resize(torch.from_numpy(images.pixels[index]).to(device), data.image_size)
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
            pixels = self.pixels.index_select(0, index)
            pixels = augment.crop_and_flip(pixels, drawn, choice.crop, flip=choice.flip)
            images = augment.normalise(pixels, self.mean, self.std)
            yield augment.cutout(images, drawn, choice.cutout), self.labels.index_select(0, index)

    def ordered(self) -> Iterator[Batch]:
        """Twice the training batch: there is no backward pass to keep activations for."""
        for index in _judged(self.count, 2 * self.batch_size, self.team):
            index = index.to(self.pixels.device)
            pixels, labels = self.pixels.index_select(0, index), self.labels.index_select(0, index)
            yield augment.normalise(pixels, self.mean, self.std), labels


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
        self.workers = min(files.workers, len(os.sched_getaffinity(0)))
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
        for images, index in self._decoded(_judged(self.count, self.batch_size, self.team), None):
            yield images, self.labels[index].to(self.device)

    def _decoded(
        self, order: list[Tensor], seed: tuple[int, int] | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(normalised images on the device, their places on the CPU) of each batch."""
        decoding = Decoding(self.files, self.places, self.size, self.augmentation.flip, seed)
        loader: Any = torch.utils.data.DataLoader(
            decoding,
            batch_sampler=[index.tolist() for index in order],
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # the global one is not ours to advance
        )
        try:
            for pixels, index in loader:
                pixels = pixels.to(self.device, non_blocking=True)
                yield augment.normalise(pixels, self.mean, self.std), index
        except DatasetError as error:
            # a worker's exception arrives with its traceback as text
            raise DatasetError(str(error).rpartition("DatasetError: ")[2].strip()) from None


def _judged(count: int, batch_size: int, team: Team) -> list[Tensor]:
    """Places of the images that this process judges by, batch by batch.

    Every process has as many batches as any other, and no empty one.
    """
    places = torch.arange(count)
    if team.size == 1:
        return list(places.split(batch_size))
    batches = min(-(-count // batch_size), count // team.size)
    return [team.share(batch) for batch in places.tensor_split(batches)]


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


def cut(some: Some, parts: int) -> Sequence[Some]:
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
