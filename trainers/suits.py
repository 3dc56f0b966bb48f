"""Does a recipe suit its data? What is refused before the first step."""

from __future__ import annotations

import numpy as np

from spaces.config import Config, Milestones
from spaces.errors import VariantError, counted
from trainers import regions, tasks
from trainers.data import Data, Indices, Judge, shares, sources, split
from trainers.datasets import DatasetError, Files, Images
from trainers.datasets.scenes import Scenes
from trainers.network import describe
from trainers.team import Team


def fits(config: Config, judge: Judge = "val") -> None:
    """Check that the recipe suits the data, as far as can be known before the first step.

    Images in memory are read, or taken from the cache; files are counted, and what is written down
    of them is read. The test part is looked at where it judges. Raises DatasetError for
    data that are missing or damaged, otherwise VariantError, whose `key` is the setting's: a recipe
    that the task does not know, a subset larger than the data, a share of validation that leaves a
    side empty, a batch larger than the training set, a warm-up as long as training, a crop that the
    images do not allow.
    """
    tasks.check(config)
    part, *test = sources(config.dataset, judge)
    images = part.images()
    check(config, images)
    if test:
        check_judges(config, test[0].images(), images)
    elif isinstance(images, Scenes):
        check_judges(config, images, images, cut(config, images)[1])


def foresee(config: Config, processes: int = 1) -> None:
    """Check what `fits` would, as far as it can be told without looking for an image.

    The number of images is known where `subset` says it, or the dataset has the same everywhere.
    So many `processes` are to share every batch.
    Raises VariantError as `fits` does, and DatasetError where classes are counted in missing data.
    """
    tasks.check(config)
    regions.check(config)
    known = describe(config)
    check_share(config, processes)
    if (count := known.images or config.dataset.subset) is not None:
        _check_batch(config, count)
    if tasks.targets(config.task.name) == tasks.LABELS:
        _check_crop(config, known.image_size - 1, "no such padding")
    else:
        _check_whole(config)


def cut(config: Config, images: Data) -> tuple[Indices, Indices]:
    """The places of the images that train, and of those that validate."""
    return split(
        images.labels,
        val=config.dataset.val,
        seed=config.dataset.split_seed,
        subset=config.dataset.subset,
    )


def check(config: Config, images: Data) -> None:
    """Refuse a recipe that does not suit the images. Raises VariantError."""
    regions.check(config)
    _check_batch(config, len(images.labels))
    if isinstance(images, Images):
        _check_crop(config, describe(config).image_size - 1, "no such padding")
    elif isinstance(images, Files):
        _check_crop(config, 0, "images on disk are always cropped at random scale")
    else:
        _check_whole(config)
        _check_outlines(config, images)


def check_judges(config: Config, images: Data, taught: Data, index: Indices | None = None) -> None:
    """Refuse images to judge by, those at `index` or all, in which there is nothing to find, or
    something else than was `taught`.
    """
    if not isinstance(images, Scenes) or not isinstance(taught, Scenes):
        return
    if images.categories != taught.categories:
        raise DatasetError("dataset.root: the test part has other categories than the train part")
    _check_outlines(config, images)
    places = range(len(images.paths)) if index is None else index.tolist()
    if all(images.objects.crowds[images.inside(place)].all() for place in places):
        said = f"no object in the {len(places)} images that judge (allowed: one or more)"
        if index is None:  # the whole test part: no share of validation could help
            raise DatasetError(f"dataset.root: {said}")
        raise VariantError(("dataset.val", said))


def check_team(config: Config, judging: int, team: Team) -> None:
    """Refuse a batch, or images to judge by, of which a process would have none."""
    check_share(config, team.size)
    if judging < team.size:
        said = f"{team.size} processes judge by {judging} images (allowed: one or more for each)"
        raise VariantError(("dataset.val", said))


def check_share(config: Config, processes: int) -> None:
    """Refuse a batch, or parts of one, of which one of so many processes would have nothing."""
    size, parts = config.training.batch_size, config.training.accumulate
    if size // parts < processes:
        said = f"{processes} processes share a batch, and each part of one"
        allowed = f"allowed: {processes * parts} or more"
        raise VariantError(("training.batch_size", f"{said} (got {size}; {allowed})"))


def _check_batch(config: Config, images: int) -> None:
    """Refuse a batch, a subset, a share of validation or a warm-up that so many images do not
    allow.
    """
    chosen, data = config.training, config.dataset
    count, _ = shares(images, val=data.val, subset=data.subset)
    if chosen.batch_size > count:
        said = "larger than the training set "
        said += f"(got {chosen.batch_size}; allowed: at most {counted(count, 'image')})"
        raise VariantError(("training.batch_size", said))
    if isinstance(chosen.schedule, Milestones):
        steps, warm = chosen.epochs * (count // chosen.batch_size), chosen.schedule.warmup_steps
        if warm >= steps:
            said = f"as long as training or longer (got {warm}; allowed 0..{steps - 1})"
            raise VariantError(("training.schedule.warmup_steps", said))


def _check_crop(config: Config, largest: int, said: str) -> None:
    """Refuse more padding than `largest`, saying why."""
    crop = config.training.augmentation.crop
    if crop > largest:
        allowed = f"0..{largest}" if largest else "0"
        raise VariantError(
            ("training.augmentation.crop", f"{said} (got {crop}; allowed {allowed})")
        )


def _check_whole(config: Config) -> None:
    """Refuse what would cut images with objects in them, of which nothing here knows how."""
    for name in ("crop", "cutout"):
        got = getattr(config.training.augmentation, name)
        if got:
            said = f"{config.task.name} sees whole images (got {got}; allowed 0)"
            raise VariantError((f"training.augmentation.{name}", said))


def _check_outlines(config: Config, scenes: Scenes) -> None:
    """Refuse objects without an outline where outlines are taught. Raises DatasetError."""
    if tasks.targets(config.task.name) != "masks":
        return
    empty = (scenes.objects.outlines.sizes() <= len("[]")) & ~scenes.objects.crowds
    if empty.any():
        image = np.searchsorted(scenes.first, np.flatnonzero(empty)[0], side="right") - 1
        name = scenes.paths[image].name
        said = f"{int(empty.sum()):,} objects have no outline, the first of them in {name}"
        raise DatasetError(f"dataset.root: {said} (allowed with them: task.name: detection)")
