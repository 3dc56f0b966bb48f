"""Images in tar files: each found by itself, and what is wrong with a shard is said."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spaces.config import Config, Dataset
from trainers import data
from trainers.datasets import DatasetError, Files, image_folder
from trainers.train import train

Members = list[tuple[str, bytes]]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECA_SEARCH_CACHE", str(tmp_path / "cache"))


def picture(label: int, number: int) -> bytes:
    image = io.BytesIO()
    pixels = np.random.default_rng([label, number]).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels // 2 + 60 * label).save(image, "PNG")
    return image.getvalue()


def shard(path: Path, members: Members) -> None:
    with tarfile.open(path, "w") as opened:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))


def component(root: Path, **more: object) -> Dataset:
    return Dataset(name="webdataset", root=str(root), image_size=16, classes=2, workers=0, **more)


def test_an_image_is_the_one_that_was_put_in(tmp_path: Path) -> None:
    """Pixel for pixel what `image_folder` makes of the same file, whatever stands around it."""
    members = [
        member
        for number in range(6)
        for member in (
            (f"a/{number}.cls", b"%d" % (number % 2)),  # before its image, and in a folder
            (f"a/{number}.json", b"{}"),
            (f"a/{number}.png", picture(number % 2, number)),
        )
    ]
    shard(tmp_path / "train-0.tar", members[:9])
    shard(tmp_path / "train-1.tar", members[9:])
    images = data.read(component(tmp_path))
    assert isinstance(images, Files)
    assert images.labels.tolist() == [0, 1, 0, 1, 0, 1]
    for number, path in enumerate(images.paths):
        alone = tmp_path / f"{number}.png"
        alone.write_bytes(picture(number % 2, number))
        mine, theirs = (
            load(place, 16, train=False, flip=False)
            for load, place in ((images.load, path), (image_folder.load, alone))
        )
        assert torch.equal(mine, theirs)


def test_a_shard_is_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second reading opens no shard; one that has changed is looked through again."""
    path = tmp_path / "train-0.tar"
    shard(
        path, [("0.png", picture(0, 0)), ("0.cls", b"0"), ("1.png", picture(1, 1)), ("1.cls", b"1")]
    )
    first = data.read(component(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)
        assert data.read(component(tmp_path)).labels.tolist() == first.labels.tolist()
    shard(
        path, [("0.png", picture(0, 0)), ("0.cls", b"1"), ("1.png", picture(1, 1)), ("1.cls", b"0")]
    )
    assert data.read(component(tmp_path)).labels.tolist() == [1, 0]


def digest(root: Path, images: list[tuple[int, int]]) -> str:
    """The content digest of a shard of (label, picture)."""
    root.mkdir(exist_ok=True)
    members = [
        member
        for number, (label, seen) in enumerate(images)
        for member in ((f"{number}.cls", b"%d" % label), (f"{number}.png", picture(0, seen)))
    ]
    shard(root / "train-0.tar", members)
    return data.digest(component(root))


def test_the_digest_sees_labels_and_pixels(tmp_path: Path) -> None:
    """Of two shards of one name and size, another label or picture is another content."""
    root = tmp_path / "shards"
    first = digest(root, [(0, 0), (1, 1)])
    size = (root / "train-0.tar").stat().st_size
    flipped = digest(root, [(1, 0), (0, 1)])
    repainted = digest(root, [(0, 0), (1, 2)])
    assert (root / "train-0.tar").stat().st_size == size
    assert len({first, flipped, repainted}) == 3
    assert digest(root, [(0, 0), (1, 1)]) == first


def test_the_digest_is_the_same_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another folder, on another machine: by name, size and bytes of each shard."""
    first = digest(tmp_path / "here", [(0, 0), (1, 1)])
    monkeypatch.setenv("ECA_SEARCH_CACHE", str(tmp_path / "another cache"))
    assert digest(tmp_path / "there", [(0, 0), (1, 1)]) == first
    content = (tmp_path / "there" / "train-0.tar").read_bytes()
    manifest = [("train-0.tar", len(content), hashlib.sha256(content).hexdigest())]
    assert hashlib.sha256(repr(manifest).encode()).hexdigest() == first


def test_a_shard_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are read for the first digest alone; a damaged memory of it is made again."""
    first = digest(tmp_path / "shards", [(0, 0), (1, 1)])
    found = component(tmp_path / "shards")
    (kept,) = (tmp_path / "cache" / "shards").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)
        data._read.cache_clear()
        images = data.read(found)
        assert isinstance(images, Files)
        assert images.manifest is not None
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-40])
    data._read.cache_clear()
    for file in (tmp_path / "cache" / "images").glob("*.digest"):
        file.unlink()
    assert data.digest(found) == first
    assert kept.read_bytes() == whole


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("0.png", b"x")], "an image '0.png' without its class"),
        ([("0.png", b"x"), ("0.cls", b"2")], "holds an image of class 2 (allowed: 0..1)"),
        ([("0.png", b"x"), ("0.cls", b"cat")], "'0.cls' with b'cat' (allowed: a class's number)"),
        ([("0.txt", b"x")], "holds no image"),
    ],
)
def test_what_is_wrong_with_a_shard_is_said(tmp_path: Path, members: Members, said: str) -> None:
    """In one line that names the shard's folder and what is allowed."""
    shard(tmp_path / "train-0.tar", members)
    with pytest.raises(DatasetError) as error:
        data.read(component(tmp_path))
    assert said.replace("'0.png'", "'0'") in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_is_no_tar_is_refused(tmp_path: Path) -> None:
    """A truncated or foreign shard names itself; an image that cannot be decoded its place."""
    (tmp_path / "train-0.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(DatasetError, match=r"train-0\.tar cannot be read"):
        data.read(component(tmp_path))
    shard(tmp_path / "train-0.tar", [("0.png", b"nonsense"), ("0.cls", b"0")])
    images = data.read(component(tmp_path))
    assert isinstance(images, Files)
    with pytest.raises(DatasetError, match=r"train-0\.tar, byte 512, cannot be decoded"):
        images.load(images.paths[0], 16, train=False, flip=False)


def test_no_shards_says_where_it_looked(tmp_path: Path) -> None:
    """And what they should be called."""
    with pytest.raises(DatasetError, match=r"train-\*\.tar"):
        data.read(component(tmp_path))


def test_a_network_trains_on_shards(tmp_path: Path) -> None:
    """Two epochs, validated on images cut from the train shards."""
    members = [
        member
        for number in range(40)
        for member in (
            (f"{number}.png", picture(number % 2, number)),
            (f"{number}.cls", b"%d" % (number % 2)),
        )
    ]
    shard(tmp_path / "train-0.tar", members[:40])
    shard(tmp_path / "train-1.tar", members[40:])
    config = Config.model_validate(
        {
            "name": "shards",
            "dataset": {**component(tmp_path, val=0.2).model_dump(exclude_none=True)},
            "backbone": {"name": "resnet", "depth": 8, "width": 0.25, "stem": "cifar"},
            "attention": {"name": "eca"},
            "training": {"epochs": 2, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.05}},
        }
    )
    epochs = list(train(config, device="cpu"))
    assert [metrics["epoch"] for metrics in epochs] == [1, 2]
    assert all(0 <= metrics["val_accuracy"] <= 1 for metrics in epochs)
