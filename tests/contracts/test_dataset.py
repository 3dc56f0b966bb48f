"""What every dataset promises, asked of each that is to be had here."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trainers
from spaces.config import Config, Dataset
from trainers import data, variants
from trainers.batches import open_batches
from trainers.datasets import DatasetError, Description, Files, Images
from trainers.datasets.scenes import Scenes

# images of the train part and of the test part as their authors count them
SIZES = {
    "digits": (1442, 355),  # 1,797 less every fifth of each class
    "fashion_mnist": (60_000, 10_000),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "image_folder": (24, 6),
    "webdataset": (24, 6),
    "coco": (14, 8),  # of 16 drawn ones two have no object
}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECA_SEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def offline(*_: object) -> str:
    """In place of a download."""
    return "the tests do not download"


def here() -> list[str]:
    """The datasets to ask: all but CIFAR where it is not on this machine, as no package brings it.

    Its readers are tested with small files of the same formats in tests/trainers/test_data.py.
    """
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainers.datasets.originals.fetch", offline)
        for name in sorted(SIZES):
            with contextlib.suppress(DatasetError):
                if name.startswith("cifar"):
                    variants.module("dataset", name).find(Dataset(name=name), "train")
                found.append(name)
    return found


@pytest.fixture(scope="module", params=here())
def dataset(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    draw: Callable[..., Path],
) -> Dataset:
    """Every dataset with its data."""
    name = request.param
    if name == "coco":
        root = draw(tmp_path_factory.mktemp("coco") / "drawn")
        return completed(Dataset(name=name, root=str(root), image_size=32, classes=3))
    if name == "image_folder":
        root = tmp_path_factory.mktemp("photos")
        for part, count in (("train", 8), ("val", 2)):
            for label in range(3):
                folder = root / part / f"class {label}"
                folder.mkdir(parents=True)
                for number in range(count):
                    colour = (80 * label, 10 * number, 99)
                    Image.new("RGB", (40, 50), colour).save(folder / f"{number}.jpg")
        return completed(Dataset(name=name, root=str(root), image_size=32))
    if name == "webdataset":
        root = tmp_path_factory.mktemp("shards")
        for part, count in (("train", 8), ("val", 2)):
            for shard in range(3):
                _write_shard(root / f"{part}-{shard:06}.tar", shard, count)
        return completed(Dataset(name=name, root=str(root), image_size=32, classes=3))
    component = completed(Dataset(name=name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainers.datasets.originals.fetch", offline)
        try:
            data.read(component)
        except DatasetError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error))
            pytest.skip(str(error))
    return component


def _write_shard(path: Path, shard: int, count: int) -> None:
    """`count` images of each third class, the class's number after its image."""
    with tarfile.open(path, "w") as opened:
        for number in range(count):
            label = (shard + number) % 3
            image = io.BytesIO()
            colour = (80 * label, 10 * number, 99)
            Image.new("RGB", (40, 50), colour).save(image, "JPEG")
            for ending, content in (("jpg", image.getvalue()), ("cls", f"{label}\n".encode())):
                member = tarfile.TarInfo(f"{shard:03}{number:03}.{ending}")
                member.size = len(content)
                opened.addfile(member, io.BytesIO(content))


def completed(component: Dataset) -> Dataset:
    """The component with the defaults of its own parameters, as in a Config."""
    return config(component).dataset


def config(component: Dataset) -> Config:
    """A small network on a dataset."""
    return Config.model_validate(
        {
            "name": "t",
            "task": {"name": "detection" if component.name == "coco" else "classification"},
            "dataset": component.model_dump(),
            "backbone": {"name": "resnet", "depth": 8, "width": 0.25},
            "training": {
                "epochs": 1,
                "batch_size": 8,
                "optimizer": {"name": "sgd", "lr": 0.1},
                "augmentation": {"flip": True},
            },
        }
    )


def few(component: Dataset) -> int:
    """A subset that every dataset has, the ones made here too."""
    return 12 if component.root else 100


def describe(component: Dataset) -> Description:
    """What the dataset says of itself without reading."""
    description: Description = variants.module("dataset", component.name).describe(component)
    return description


def test_every_dataset_is_asked() -> None:
    """A new file in trainers/datasets must be added to the sizes above."""
    assert sorted(variants.names("dataset")) == sorted(SIZES)


@pytest.mark.parametrize("part", ["train", "test"])
def test_images_are_as_described(dataset: Dataset, part: data.Part) -> None:
    """As many images as published, uint8 in (N, H, W, C), every class present, labels int64."""
    images = data.read(dataset, part)
    description = describe(dataset)
    assert len(images.labels) == SIZES[dataset.name][part == "test"]
    assert images.labels.dtype == np.int64
    if isinstance(images, Scenes):  # many objects in each, of labels from 1
        assert np.unique(images.objects.labels).tolist() == [1, 2, 3]
        assert len(images.categories) == description.classes == 3
        for path, size in zip(images.paths, images.sizes.tolist(), strict=True):
            assert images.load(path).size == tuple(size[::-1])
        return
    assert np.unique(images.labels).tolist() == list(range(description.classes))
    if isinstance(images, Images):
        size = description.image_size
        assert images.pixels.shape == (len(images.labels), size, size, description.channels)
        assert images.pixels.dtype == np.uint8
        assert images.pixels.max() == 255
    else:
        assert isinstance(images, Files)
        for path in images.paths:
            assert images.load(path, 32, train=False, flip=False).shape == (32, 32, 3)


def test_the_number_of_images_is_the_datas(dataset: Dataset) -> None:
    """A number of training images that is told without looking is what is found."""
    images = describe(dataset).images
    assert images in (None, len(data.read(dataset).labels))


def test_mean_and_deviation_are_the_datas(dataset: Dataset) -> None:
    """The constants that normalise are those of the training images."""
    images = data.read(dataset)
    description = describe(dataset)
    if isinstance(images, Files | Scenes):  # ImageNet's, as is the custom for photos
        assert description.mean == (0.485, 0.456, 0.406)
        return
    pixels = images.pixels[::9] / np.float32(255)
    # every ninth of 50,000 images whose means spread by 0.12: four standard errors are 0.0065
    assert pixels.mean((0, 1, 2)) == pytest.approx(description.mean, abs=0.0065)
    assert pixels.std((0, 1, 2)) == pytest.approx(description.std, abs=0.0065)


def test_the_parts_share_no_image(dataset: Dataset) -> None:
    """No test image of a dataset in one file is a training image; other parts are other files."""
    training, test = (set(data.find(dataset, part).files) for part in ("train", "test"))
    if training != test:
        assert not training & test
        return
    pixels = [data.read(dataset, part).pixels for part in ("train", "test")]
    seen = [{image.tobytes() for image in part} for part in pixels]
    assert not seen[0] & seen[1]


def test_the_digest_is_stable(dataset: Dataset) -> None:
    """Asked twice, in one process and afresh, it is the same; the test part has another."""
    first = data.digest(dataset)
    data._read.cache_clear()
    assert data.digest(dataset) == first
    assert data.digest(dataset, "test") != first


def test_validation_is_cut_stratified_and_disjoint(dataset: Dataset) -> None:
    """A tenth of every class, the same on each call, and another tenth by another seed."""
    labels = data.read(dataset).labels
    training, validation = data.split(labels, val=0.25, seed=0)
    assert np.array_equal(validation, data.split(labels, val=0.25, seed=0)[1])
    assert not np.array_equal(validation, data.split(labels, val=0.25, seed=1)[1])
    assert np.array_equal(np.sort(np.concatenate([training, validation])), np.arange(len(labels)))
    share = np.bincount(labels[validation]) - 0.25 * np.bincount(labels)
    assert np.abs(share).max() <= 1


def test_batches_fit_the_network(dataset: Dataset) -> None:
    """Normalised float32 images in channels_last of the described shape, and every image once."""
    small = completed(dataset.model_copy(update={"subset": few(dataset)}))
    training, validation = open_batches(config(small), torch.device("cpu"))
    description = describe(small)
    size = description.image_size
    images, labels = next(training.shuffled(0, 1))
    for batches in (training, validation):
        assert sum(len(labels) for _, labels in batches.ordered()) == batches.count
    if isinstance(images, list):  # of different sizes, the shorter side as described
        assert {image.dtype for image in images} == {torch.float32}
        assert {image.shape[0] for image in images} == {description.channels}
        assert {min(image.shape[1:]) for image in images} == {size}
        assert [target.keys() for target in labels] == [{"boxes", "labels"}] * 8
        return
    assert images.shape == (8, description.channels, size, size)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64


def test_another_image_size_is_given(dataset: Dataset) -> None:
    """image_size changes the description and the images alike."""
    changed = {"image_size": 20, "subset": few(dataset)}
    small = completed(dataset.model_copy(update=changed))
    assert describe(small).image_size == 20
    _, validation = open_batches(config(small), torch.device("cpu"))
    images, _ = next(validation.ordered())
    if isinstance(images, list):
        assert min(images[0].shape[1:]) == 20
        return
    assert images.shape[2:] == (20, 20)


def test_what_is_not_in_the_key_is_a_parameter_of_its_own(dataset: Dataset) -> None:
    """NOT_IN_KEY names own parameters, and another value of one is the same run."""
    idle = getattr(variants.module("dataset", dataset.name), "NOT_IN_KEY", set())
    assert idle <= set(dataset.params)
    for name in idle:
        other = {
            "workers": lambda: dataset.params["workers"] + 1,
            "classes": lambda: describe(dataset).classes,  # another number is no dataset at all
            "cache": lambda: "/scratch",
            "annotations": lambda: "{part}.json",
            "images": lambda: "{part}",
        }[name]()
        same = [dataset, dataset.model_copy(update={name: other})]
        assert len({trainers.run_key(config(one), "d") for one in same}) == 1


def test_what_is_missing_is_a_short_error(dataset: Dataset, tmp_path: Path) -> None:
    """A root without data: at most six lines that begin with the key."""
    with pytest.raises(DatasetError) as raised:
        data.read(dataset.model_copy(update={"root": str(tmp_path)}))
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("dataset.root: ")
    assert len(lines) <= 6
