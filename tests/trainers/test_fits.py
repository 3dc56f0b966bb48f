"""What can be known of a recipe and its data, or its device, before anything trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import trainers
from spaces.config import Config
from spaces.errors import VariantError
from trainers.datasets import DatasetError


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECA_SEARCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten image files each that nobody could decode."""
    for name in ("ant", "bee"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "train" / name / f"{number}.jpg").write_bytes(b"no image")
    return tmp_path


def config(dataset: dict[str, Any] | None = None, **training: Any) -> Config:
    """ResNet-8 on digits: 1,442 images, of which 144 validate."""
    recipe = {"epochs": 1, "batch_size": 64, "optimizer": {"name": "sgd", "lr": 0.1}}
    return Config.model_validate(
        {
            "name": "t",
            "dataset": {"name": "digits"} | (dataset or {}),
            "backbone": {"name": "resnet", "depth": 8, "width": 0.25},
            "training": recipe | training,
        }
    )


MISFITS: dict[str, tuple[Config, str, str]] = {
    "batch": (
        config(batch_size=60_000),
        "training.batch_size",
        "larger than the training set (got 60000; allowed: at most 1,298 images)",
    ),
    "batch of a subset": (
        config({"subset": 50, "val": 0.5}),
        "training.batch_size",
        "larger than the training set (got 64; allowed: at most 25 images)",
    ),
    "subset": (
        config({"subset": 5000}),
        "dataset.subset",
        "no such part (got 5000; allowed 1..1442)",
    ),
    "no validation": (
        config({"val": 1e-9}),
        "dataset.val",
        "leaves 1442 training and 0 validation images of 1442 "
        "(got 1e-09; allowed: 1 or more of each)",
    ),
    "no training": (
        config({"val": 1 - 1e-9}),
        "dataset.val",
        "leaves 0 training and 1442 validation images of 1442 (got 1; allowed: 1 or more of each)",
    ),
    "warm-up": (  # 2 epochs of 1298 // 64 steps
        config(epochs=2, schedule={"name": "milestones", "epochs": [1], "warmup_steps": 40}),
        "training.schedule.warmup_steps",
        "as long as training or longer (got 40; allowed 0..39)",
    ),
    "crop": (
        config(augmentation={"crop": 9}),
        "training.augmentation.crop",
        "no such padding (got 9; allowed 0..7)",
    ),
    "crop of smaller images": (
        config({"image_size": 4}, augmentation={"crop": 4}),
        "training.augmentation.crop",
        "no such padding (got 4; allowed 0..3)",
    ),
}


@pytest.mark.parametrize(("recipe", "key", "message"), MISFITS.values(), ids=MISFITS)
def test_a_recipe_that_does_not_suit_the_data(recipe: Config, key: str, message: str) -> None:
    """`fits` names key, value and range before anything trains, in the words of `train`."""
    with pytest.raises(VariantError) as found:
        trainers.fits(recipe)
    assert (found.value.key, found.value.message) == (key, message)
    with pytest.raises(VariantError) as trained:
        next(trainers.train(recipe, device="cpu"))
    assert str(trained.value) == str(found.value) == f"{key}: {message}"


@pytest.mark.parametrize(
    "recipe",
    [
        config(),
        config(batch_size=1298, augmentation={"crop": 7}),
        config({"subset": 1442, "val": 1 / 1442}),
    ],
)
def test_a_recipe_at_its_limits_fits(recipe: Config) -> None:
    """The largest batch, crop, subset and the smallest validation set train."""
    trainers.fits(recipe)
    assert len(list(trainers.train(recipe, device="cpu"))) == 1


@pytest.mark.parametrize(
    ("dataset", "training", "message"),
    [
        ({"val": 0.25}, {"batch_size": 16}, "training.batch_size: .*got 16; allowed: at most 15"),
        ({"subset": 21}, {"batch_size": 8}, r"dataset\.subset: .*got 21; allowed 1\.\.20"),
        ({}, {"batch_size": 8, "augmentation": {"crop": 1}}, r"crop: .*\(got 1; allowed 0\)"),
    ],
)
def test_files_are_counted_not_decoded(
    folder: Path, dataset: dict[str, Any], training: dict[str, Any], message: str
) -> None:
    """A folder of files is judged by their number: these could not be decoded."""
    own = {"name": "image_folder", "root": str(folder)}
    trainers.fits(config(own, batch_size=16))
    with pytest.raises(VariantError, match=message):
        trainers.fits(config(own | dataset, **training))


def test_missing_data_do_not_fit(tmp_path: Path) -> None:
    """Data that are not there are said by their own error."""
    with pytest.raises(DatasetError, match=r"dataset\.root: "):
        trainers.fits(config({"name": "image_folder", "root": str(tmp_path / "nowhere")}))


@pytest.mark.parametrize("device", ["banana", "meta", "xpu", "cuda:4711", "cuda:-1"])
def test_a_device_that_is_not_here(device: str) -> None:
    """By key, with what was got and what is allowed."""
    with pytest.raises(VariantError, match=rf"device: .*\(got {device}; allowed cpu") as raised:
        trainers.check_device(config(), device)
    assert raised.value.key == "device"


def test_a_precision_that_the_device_cannot_do() -> None:
    """fp16 needs CUDA; the other two train anywhere."""
    with pytest.raises(VariantError, match=r"needs CUDA \(got fp16") as raised:
        trainers.check_device(config(precision="fp16"), "cpu")
    assert raised.value.key == "training.precision"
    for precision in ("float32", "bf16"):
        assert trainers.check_device(config(precision=precision), "cpu") == torch.device("cpu")


def test_the_device_of_nobodys_choice() -> None:
    """Without a device it is CUDA where there is one."""
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert trainers.check_device(config()).type == expected
