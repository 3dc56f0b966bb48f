"""Reading, caching, splitting: real files of every accepted form, damaged ones, missing ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import trainers
from spaces import catalogue
from spaces.config import Config, Dataset
from spaces.errors import VariantError
from trainers import data, variants
from trainers.batches import InMemory, open_batches
from trainers.datasets import DatasetError, Files, Images
from trainers.network import describe

SPLIT = [1, 2, 3, 11, 13, 18, 20, 21, 32, 36]
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, and no data but the test's."""
    monkeypatch.setenv("ECA_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ECA_SEARCH_DATA", raising=False)
    return tmp_path / "cache"


def jpeg(seed: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> bytes:
    """A picture of one random colour as a JPEG file."""
    colour = tuple(np.random.default_rng(seed).integers(0, 256, 3).tolist())
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def class_folders(root: Path, per_class: int = 12, parts: tuple[str, ...] = ("train",)) -> Path:
    """CIFAR-10 as class folders of JPEG files."""
    for part in parts:
        for label, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                (folder / f"{number:04d}.jpg").write_bytes(jpeg(label * 1000 + number))
    return root


def zips(root: Path, folders: Path, part: str = "train") -> Path:
    """The same files as a zip."""
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / f"{part}.zip", "w") as archive:
        for file in sorted((folders / part).rglob("*.jpg")):
            archive.write(file, file.relative_to(folders))
    return root


def cifar10(root: Path | None = None, **keys: Any) -> Dataset:
    """The dataset component."""
    return Dataset(name="cifar10", root=None if root is None else str(root), **keys)


def config(dataset: dict[str, Any]) -> Config:
    """One epoch of the smallest network on a dataset."""
    return Config.model_validate(
        {
            "name": "t",
            "dataset": dataset,
            "backbone": {"name": "resnet", "depth": 8, "width": 0.25},
            "training": {
                "epochs": 1,
                "batch_size": 16,
                "optimizer": {"name": "sgd", "lr": 0.1},
                "augmentation": {"flip": True},
            },
        }
    )


# Splits


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(0, 4), min_size=10, max_size=120),
    st.floats(0.05, 0.6),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_split_laws(labels: list[int], val: float, seed: int, more: st.DataObject) -> None:
    """Disjoint, exact in size, every class in its share to within one image at each of two cuts."""
    y = np.array(labels)
    subset = more.draw(st.none() | st.integers(10, len(labels)))
    total = len(labels) if subset is None else subset
    assume(0 < round(val * total) < total)
    training, validation = data.split(y, val=val, seed=seed, subset=subset)
    assert len(set(training) | set(validation)) == len(training) + len(validation) == total
    assert len(validation) == round(val * total)
    for label in np.unique(y):
        share = (y == label).mean()
        kept = (y[training] == label).sum() + (y[validation] == label).sum()
        assert abs(kept - share * total) <= 1
        assert abs((y[validation] == label).sum() - val * kept) <= 1 + val
    again = data.split(y, val=val, seed=seed, subset=subset)
    assert np.array_equal(training, again[0])
    assert np.array_equal(validation, again[1])


def test_split_is_the_same_for_ever() -> None:
    """A split written down once (numpy 2.4.6, by this code): other versions must give it too."""
    _, validation = data.split(np.arange(40) % 4, val=0.25, seed=0)
    assert validation.tolist() == SPLIT
    assert sorted((validation % 4).tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]


def test_split_follows_its_seed() -> None:
    """Another seed, other validation images."""
    one, other = (data.split(np.arange(100) % 10, val=0.2, seed=seed)[1] for seed in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("val", "subset", "message"),
    [
        (0.1, 101, r"dataset\.subset: .*got 101; allowed 1\.\.100"),
        (0.001, None, r"dataset\.val: leaves 100 training and 0 validation"),
        (0.999, None, r"dataset\.val: leaves 0 training and 100 validation"),
    ],
)
def test_split_refuses_the_impossible(val: float, subset: int | None, message: str) -> None:
    """A side without images, a subset larger than the data: named, with the figures."""
    with pytest.raises(VariantError, match=message):
        data.split(np.zeros(100, np.int64), val=val, seed=0, subset=subset)


# CIFAR-10 as JPEG files


def test_class_folders_and_zips_are_the_same_data(tmp_path: Path) -> None:
    """Folders and a zip of them give the same images, labels in order of name, and digest."""
    folders = class_folders(tmp_path / "folders")
    zipped = zips(tmp_path / "zips", folders)
    one, other = data.read(cifar10(folders)), data.read(cifar10(zipped))
    assert isinstance(one, Images)
    assert isinstance(other, Images)
    assert one.pixels.shape == (120, 32, 32, 3)
    assert np.array_equal(one.pixels, other.pixels)
    assert one.labels.tolist() == other.labels.tolist() == [n // 12 for n in range(120)]
    assert data.digest(cifar10(folders)) == data.digest(cifar10(zipped))
    with Image.open(folders / "train" / "bird" / "0003.jpg") as picture:
        assert np.array_equal(one.pixels[27], np.asarray(picture))


def test_zips_are_not_extracted(tmp_path: Path) -> None:
    """Reading a zip leaves its folder as it was."""
    zipped = zips(tmp_path / "zips", class_folders(tmp_path / "folders"))
    data.read(cifar10(zipped))
    assert [file.name for file in zipped.iterdir()] == ["train.zip"]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.jpg",
        "/train/cat/0.jpg",
        "train/../../cat/0.jpg",
        "train/cat/0.py",
        "test/cat/0.jpg",
    ],
)
def test_a_zip_with_a_strange_member_is_refused(tmp_path: Path, name: str) -> None:
    """Members outside train/<class>/ are named and nothing is read from them."""
    zipped = zips(tmp_path / "zips", class_folders(tmp_path / "folders", per_class=1))
    with zipfile.ZipFile(zipped / "train.zip", "a") as archive:
        archive.writestr(name, jpeg(0))
    with pytest.raises(DatasetError, match="has a member"):
        data.read(cifar10(zipped))


BAD_IMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cannot be decoded"),
    "no image": (b"hello", "cannot be decoded"),
    "truncated": (jpeg(1)[:-300], "cannot be decoded"),
    "of another size": (jpeg(1, (1, 1)), "has 1 x 1 pixels"),
}


@pytest.mark.parametrize(("content", "message"), BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
def test_a_bad_image_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """The file's path and what is wrong with it, in at most six lines."""
    root = class_folders(tmp_path / "d", per_class=2)
    (root / "train" / "cat" / "0001.jpg").write_bytes(content)
    with pytest.raises(DatasetError, match=message) as raised:
        data.read(cifar10(root))
    assert "cat/0001.jpg" in str(raised.value)
    assert len(str(raised.value).splitlines()) <= 6


def test_grey_and_cmyk_files_become_colour(tmp_path: Path) -> None:
    """JPEG files of other colour modes are read as RGB."""
    root = class_folders(tmp_path / "d", per_class=1)
    (root / "train" / "cat" / "0000.jpg").write_bytes(jpeg(1, mode="L"))
    (root / "train" / "dog" / "0000.jpg").write_bytes(jpeg(1, mode="CMYK"))
    images = data.read(cifar10(root))
    assert isinstance(images, Images)
    assert images.pixels.shape == (10, 32, 32, 3)


def test_a_missing_class_is_named(tmp_path: Path) -> None:
    """Nine classes are no CIFAR-10."""
    root = class_folders(tmp_path / "d", per_class=1)
    shutil.rmtree(root / "train" / "cat")
    with pytest.raises(DatasetError, match=r"holds 9 classes \(allowed: 10\)"):
        data.read(cifar10(root))


@pytest.mark.parametrize("cut", [0, 100, -50])
def test_a_damaged_zip_is_named(tmp_path: Path, cut: int) -> None:
    """A truncated download is said in a line."""
    zipped = zips(tmp_path / "zips", class_folders(tmp_path / "folders", per_class=1))
    file = zipped / "train.zip"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DatasetError, match=r"train\.zip cannot be read"):
        data.read(cifar10(zipped))


def test_a_flipped_byte_in_a_zip_is_noticed(tmp_path: Path) -> None:
    """The zip's own checksums are checked."""
    zipped = zips(tmp_path / "zips", class_folders(tmp_path / "folders", per_class=1))
    content = bytearray((zipped / "train.zip").read_bytes())
    content[200] ^= 1
    (zipped / "train.zip").write_bytes(content)
    with pytest.raises(DatasetError):
        data.read(cifar10(zipped))


# The cache


def test_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process takes the decoded images from the cache, whole and equal."""
    root = class_folders(tmp_path / "d")
    first = data.read(cifar10(root))
    data._read.cache_clear()  # as a new process would begin
    monkeypatch.setattr(Image, "open", None)
    again = data.read(cifar10(root))
    assert isinstance(first, Images)
    assert isinstance(again, Images)
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.labels, again.labels)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """New content gives new images and another digest."""
    root = class_folders(tmp_path / "d")
    before = data.digest(cifar10(root))
    (root / "train" / "cat" / "0000.jpg").write_bytes(jpeg(4242))
    assert data.digest(cifar10(root)) != before


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: b"", lambda d: d[::-1]])
def test_a_damaged_cache_is_made_again(
    tmp_path: Path, cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    """A cache file that does not match its digest is not used, and is replaced."""
    root = class_folders(tmp_path / "d")
    first = data.read(cifar10(root))
    assert isinstance(first, Images)
    decoded = first.pixels.copy()  # what is mapped is not there once the file is cut
    file = next(file for file in (cache / "images").glob("*.npy") if "labels" not in file.name)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    data._read.cache_clear()
    again = data.read(cifar10(root))
    assert isinstance(again, Images)
    assert np.array_equal(decoded, again.pixels)
    assert file.read_bytes() == whole


def test_a_flipped_bit_in_the_heading_of_a_cache_is_noticed(tmp_path: Path, cache: Path) -> None:
    """A heading is read as Python, which fails in many ways: none is the training's."""
    source = data.find(cifar10(class_folders(tmp_path / "d")))
    first = source.images()
    assert isinstance(first, Images)
    decoded = first.pixels.copy()  # what is mapped is not there while the file is written
    file = next(file for file in (cache / "images").glob("*.npy") if "labels" not in file.name)
    whole = file.read_bytes()
    noticed = 0
    for place in range(128):
        for bit in (0, 2, 5):
            flipped = bytes([whole[place] ^ 1 << bit])
            file.write_bytes(whole[:place] + flipped + whole[place + 1 :])
            found = data._cached(source.signature)
            noticed += found is None
            assert found is None or np.array_equal(found.pixels, decoded)
    assert noticed > 100  # much of a heading is blanks


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, cache: Path) -> None:
    """A read-only or impossible cache folder costs a warning and time."""
    root = class_folders(tmp_path / "d")
    cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="no cache of decoded images"):
        images = data.read(cifar10(root))
    assert len(images.labels) == 120


def test_processes_share_one_copy_of_the_images(tmp_path: Path, cache: Path) -> None:
    """Pixels are the cache's file, mapped, when they were just decoded too; a CPU training takes
    its batches from there, the same as from a copy, and holds none.
    """
    dataset = {"name": "cifar10", "root": str(class_folders(tmp_path / "d")), "val": 0.25}
    chosen = config(dataset)
    images = data.read(chosen.dataset)
    file = next(file for file in (cache / "images").glob("*.npy") if "labels" not in file.name)
    assert isinstance(images, Images)
    assert str(file) in Path("/proc/self/maps").read_text()
    (batches, held), (copied, _) = (open_batches(chosen, torch.device("cpu")) for _ in range(2))
    for each in (batches, held, copied):
        assert isinstance(each, InMemory)
        assert each.rows is not None
        assert each.pixels.data_ptr() == images.pixels.ctypes.data
    assert isinstance(copied, InMemory)
    assert copied.rows is not None
    copied.pixels, copied.rows = copied.pixels.index_select(0, copied.rows), None
    for one, other in zip(batches.shuffled(3, 1), copied.shuffled(3, 1), strict=True):
        assert all(map(torch.equal, one, other))


def test_images_are_read_only(tmp_path: Path) -> None:
    """Trials share the arrays of a process; none can change them for the others."""
    images = data.read(cifar10(class_folders(tmp_path / "d")))
    assert isinstance(images, Images)
    with pytest.raises(ValueError, match="read-only"):
        images.pixels[0] = 0


COUNTED = """
import sys
from PIL import Image
from spaces.config import Dataset
from trainers import data
opened, count = Image.open, 0
def counting(*args, **kwargs):
    global count
    count += 1
    return opened(*args, **kwargs)
Image.open = counting
images = data.read(Dataset(name="cifar10", root=sys.argv[1]))
print(count, data.digest(Dataset(name="cifar10", root=sys.argv[1])))
"""


def test_parallel_workers_decode_once(tmp_path: Path) -> None:
    """Of three processes that start together one decodes, the others wait and take its work."""
    root = class_folders(tmp_path / "d", per_class=60)
    command = [sys.executable, "-c", COUNTED, str(root)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [worker.communicate()[0].split() for worker in workers]
    assert sorted(int(count) for count, _ in answers) == [0, 0, 600]
    assert len({digest for _, digest in answers}) == 1


def test_digest_ignores_place_split_and_subset(tmp_path: Path) -> None:
    """What is keyed elsewhere is no part of the content."""
    one = class_folders(tmp_path / "one")
    two = Path(shutil.copytree(one, tmp_path / "two"))
    digests = {
        data.digest(cifar10(one)),
        data.digest(cifar10(two)),
        data.digest(cifar10(one, split_seed=3, val=0.3, subset=50, image_size=16)),
    }
    assert len(digests) == 1


# Where data lie


def test_the_order_of_places(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The YAML's root alone, else $ECA_SEARCH_DATA, else the cache folder."""
    roots = {}
    for number, root in enumerate(
        (tmp_path / "yaml", tmp_path / "env" / "cifar10", cache / "cifar10")
    ):
        roots[number] = class_folders(root, per_class=2 + number)
    counts = [len(data.read(cifar10(roots[0])).labels), len(data.read(cifar10()).labels)]
    monkeypatch.setenv("ECA_SEARCH_DATA", str(tmp_path / "env"))
    counts.append(len(data.read(cifar10()).labels))
    assert counts == [20, 40, 30]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist", "image_folder"])
def test_missing_data_name_the_folder(name: str, tmp_path: Path) -> None:
    """An empty root: at most six lines with the folder and what it should hold; nothing created."""
    dataset = Dataset(name=name, root=str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match="nowhere") as raised:
        data.read(dataset)
    assert len(str(raised.value).splitlines()) <= 6
    assert not (tmp_path / "nowhere").exists()


def test_a_failed_download_says_why(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Without a root and without a network: where it looked, what it wanted, why it failed."""

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(DatasetError, match="Name or service not known") as raised:
        data.read(cifar10())
    assert str(cache / "cifar10") in str(raised.value)
    assert len(str(raised.value).splitlines()) <= 6


def test_digits_have_no_root(tmp_path: Path) -> None:
    """Data that come with scikit-learn lie nowhere else."""
    with pytest.raises(DatasetError, match="digits comes with scikit-learn"):
        data.read(Dataset(name="digits", root=str(tmp_path)))


# The authors' own files, as torchvision reads them


def pickled(root: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files in the format of CIFAR's authors; torchvision is told their md5 for the real."""
    reader = getattr(pytest.importorskip("torchvision.datasets"), kind)
    classes, key = (10, "labels") if kind == "CIFAR10" else (100, "fine_labels")
    folder = root / reader.base_folder
    folder.mkdir(parents=True)

    def write(name: str, content: Any) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()

    for attribute in ("train_list", "test_list"):
        made = []
        for number, (name, _) in enumerate(getattr(reader, attribute)):
            random = np.random.default_rng(number + 100 * (attribute == "test_list"))
            pixels = random.integers(0, 256, (2 * classes, 3 * 32 * 32), np.uint8)
            labels = [label % classes for label in range(2 * classes)]
            made.append([name, write(name, {"data": pixels, key: labels})])
        monkeypatch.setattr(reader, attribute, made)
    names = {reader.meta["key"]: [f"class {label}" for label in range(classes)]}
    meta = {**reader.meta, "md5": write(reader.meta["filename"], names)}
    monkeypatch.setattr(reader, "meta", meta)
    return root


@pytest.mark.parametrize(("kind", "name"), [("CIFAR10", "cifar10"), ("CIFAR100", "cifar100")])
def test_original_pickles(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authors' format: channel planes become (H, W, C), batches follow one another."""
    root = pickled(tmp_path / "d", kind, monkeypatch)
    dataset = Dataset(name=name, root=str(root))
    images = data.read(dataset)
    assert isinstance(images, Images)
    raw = pickle.loads(data.find(dataset).files[0].read_bytes())["data"]
    assert np.array_equal(images.pixels[1], raw[1].reshape(3, 32, 32).transpose(1, 2, 0))
    assert len(images.labels) == (100 if kind == "CIFAR10" else 200)
    test = data.read(dataset, "test")
    assert len(test.labels) == (20 if kind == "CIFAR10" else 200)


@pytest.mark.parametrize(("kind", "name"), [("CIFAR10", "cifar10"), ("CIFAR100", "cifar100")])
def test_damaged_pickles_are_never_opened(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose md5 is not the authors' is refused before it is unpickled."""
    root = pickled(tmp_path / "d", kind, monkeypatch)
    dataset = Dataset(name=name, root=str(root))
    file = data.find(dataset).files[0]
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(DatasetError, match="is damaged"):
        data.read(dataset)


# Test data stay unseen


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    return (
        b"\0\0\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}i", *array.shape)
        + array.tobytes()
    )


def test_training_never_needs_the_test_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every test file deleted all datasets still train; asking for the part is an error."""
    jpegs = class_folders(tmp_path / "jpegs", parts=("train", "test"))
    zipped = zips(tmp_path / "zips", jpegs)
    shutil.rmtree(jpegs / "test")
    ten = pickled(tmp_path / "ten", "CIFAR10", monkeypatch)
    (ten / "cifar-10-batches-py" / "test_batch").unlink()
    hundred = pickled(tmp_path / "hundred", "CIFAR100", monkeypatch)
    (hundred / "cifar-100-python" / "test").unlink()
    clothes = tmp_path / "clothes"
    clothes.mkdir()
    for kind, array in (
        ("images-idx3-ubyte", np.zeros((100, 28, 28), np.uint8)),
        ("labels-idx1-ubyte", np.arange(100).astype(np.uint8) % 10),
    ):
        (clothes / f"train-{kind}.gz").write_bytes(gzip.compress(idx(array)))
    pictures = tmp_path / "pictures"
    shutil.copytree(jpegs / "train", pictures / "train")
    for name, root in (
        ("cifar10", jpegs),
        ("cifar10", zipped),
        ("cifar10", ten),
        ("cifar100", hundred),
        ("fashion_mnist", clothes),
        ("image_folder", pictures),
    ):
        keys: dict[str, Any] = {"image_size": 32, "workers": 0} if name == "image_folder" else {}
        chosen = config({"name": name, "root": str(root), "val": 0.5, **keys})
        assert len(list(trainers.train(chosen))) == 1
        with pytest.raises(DatasetError):
            data.read(chosen.dataset, "test")


# Images on disk


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of photos of different sizes, some not JPEG, some not RGB."""
    random = np.random.default_rng(0)
    for label, name in enumerate(("ant", "bee", "fly")):
        folder = tmp_path / "photos" / "train" / name
        folder.mkdir(parents=True)
        for number in range(8):
            height, width = random.integers(40, 80, 2).tolist()
            noise = random.integers(0, 256, (height, width, 3), np.uint8)
            noise[..., label] = 255
            picture = Image.fromarray(noise)
            if number == 0:
                picture = picture.convert("L")
            picture.save(folder / f"{number}.{'png' if number == 1 else 'jpg'}")
    return tmp_path / "photos"


def photo_config(photos: Path, workers: int, **keys: Any) -> Config:
    """Photos at 32 pixels."""
    return config(
        {"name": "image_folder", "root": str(photos), "image_size": 32, "val": 0.25}
        | {"workers": workers}
        | keys
    )


def test_classes_that_are_said_are_enough_without_images(tmp_path: Path) -> None:
    """Costs are known before the data is there; training asks for it all the same."""
    said = photo_config(tmp_path / "none", 0, classes=1000)
    assert describe(said).classes == 1000
    assert trainers.measure(said).params > 1000
    with pytest.raises(DatasetError, match="no image_folder data"):
        data.find(said.dataset)


def test_classes_that_are_said_must_be_there(photos: Path) -> None:
    """Four are not the three that lie there; the right number changes no run key."""
    with pytest.raises(DatasetError, match=r"dataset\.classes: .*has 3 class folders \(got 4\)"):
        describe(photo_config(photos, 0, classes=4))
    told, counted = photo_config(photos, 0, classes=3), photo_config(photos, 0)
    assert trainers.run_key(told, "") == trainers.run_key(counted, "")


def test_image_folder_counts_its_classes(photos: Path) -> None:
    """Classes are counted without reading an image; labels follow the names."""
    chosen = photo_config(photos, 0)
    assert describe(chosen).classes == 3
    images = data.read(chosen.dataset)
    assert isinstance(images, Files)
    assert images.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8


def test_classes_are_listed_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second description opens no folder; a new class, or one less, is seen all the same."""
    chosen = photo_config(photos, 0)
    assert describe(chosen).classes == 3
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", None)
        assert describe(chosen).classes == 3
    (photos / "train" / "wasp").mkdir()
    assert describe(chosen).classes == 4
    (photos / "train" / "wasp").rmdir()
    assert describe(chosen).classes == 3


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A name for every time that a folder of photos is walked."""
    seen: list[str] = []
    file = variants.module("dataset", "image_folder")
    walk = file.find

    def counting(dataset: Dataset, part: data.Part) -> list[Path]:
        seen.append(part)
        return list(walk(dataset, part))

    monkeypatch.setattr(file, "find", counting)
    return seen


def test_a_call_walks_the_folders_once(photos: Path, walks: list[str], tmp_path: Path) -> None:
    """Reading, the digest and the start of a whole run look for the files one time each."""
    chosen = photo_config(photos, 0)
    data.digest(chosen.dataset)
    assert walks == ["train"]
    data.read(chosen.dataset)
    assert walks == ["train"] * 2
    list(trainers.train(chosen, checkpoint=tmp_path / "run"))
    assert walks == ["train"] * 3


def test_the_digest_of_files_is_remembered(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process asks the cache; another file, name or size is another digest."""
    dataset = photo_config(photos, 0).dataset
    before = data.digest(dataset)
    data._read.cache_clear()  # as a new process would begin
    with monkeypatch.context() as patch:
        patch.setattr(variants.module("dataset", "image_folder"), "dataset", None)
        assert data.digest(dataset) == before
    file = photos / "train" / "fly" / "7.jpg"
    file.rename(file.with_name("8.jpg"))
    renamed = data.digest(dataset)
    file.with_name("8.jpg").write_bytes(b"shorter")
    assert len({before, renamed, data.digest(dataset)}) == 3


PLUGIN = """
from pathlib import Path
import numpy as np
from trainers.datasets import Images
def find(dataset, part):
    return [Path(__file__).with_name("pixels")]
def dataset(files, part):
    return Images(np.full((20, 8, 8, 1), GREY, np.uint8), np.arange(20) % 2)
"""


def test_images_of_an_edited_plugin_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a person's own dataset file decoded before it was edited is not used."""
    monkeypatch.setattr(catalogue, "_plugins", {})
    file = tmp_path / "mine.py"
    (tmp_path / "pixels").touch()
    digests = set()
    for grey in ("1", "2"):
        file.write_text(PLUGIN.replace("GREY", grey))
        catalogue.plug(file)
        variants._from_file.cache_clear()
        variants._module.cache_clear()
        digests.add(data.digest(Dataset(name="mine")))
    assert len(digests) == 2


def test_workers_do_not_change_the_images(photos: Path) -> None:
    """With two decoding processes or none, training and validation see the same images."""
    seen = []
    for workers in (0, 2):
        training, validation = open_batches(photo_config(photos, workers), torch.device("cpu"))
        before = torch.get_rng_state()
        epoch = list(training.shuffled(3, 1))
        assert torch.equal(torch.get_rng_state(), before)
        seen.append([epoch, list(validation.ordered()), list(training.shuffled(3, 2))])
    for none, two in zip(*seen, strict=True):
        for (images, labels), (others, their) in zip(none, two, strict=True):
            assert torch.equal(images, others)
            assert torch.equal(labels, their)
    assert not torch.equal(seen[0][0][0][0], seen[0][2][0][0])  # another epoch, other crops


@pytest.mark.parametrize("kind", ["in memory", "on disk"])
def test_an_epoch_goes_on_after_its_first_batches(photos: Path, kind: str) -> None:
    """What is left after some batches is what the whole epoch has after them, bit for bit."""
    digits = config({"name": "digits", "subset": 100})
    chosen = photo_config(photos, 2) if kind == "on disk" else digits
    small = chosen.training.model_copy(update={"batch_size": 6})
    chosen = chosen.model_copy(update={"training": small})
    training, _ = open_batches(chosen, torch.device("cpu"))
    whole = list(training.shuffled(3, 1))
    assert len(whole) > 1
    for done in (1, len(whole) - 1, len(whole)):
        rest = list(training.shuffled(3, 1, done))
        assert len(rest) == len(whole) - done
        for (images, labels), (others, their) in zip(rest, whole[done:], strict=True):
            assert torch.equal(images, others)
            assert torch.equal(labels, their)


def test_validation_is_the_centre(photos: Path) -> None:
    """Resized to 256/224 of the size and cut out of the centre, as torchvision does it."""
    v2 = pytest.importorskip("torchvision.transforms.v2")
    chosen = photo_config(photos, 0)
    _, validation = open_batches(chosen, torch.device("cpu"))
    images, _ = next(iter(validation.ordered()))
    _, index = data.split(
        data.read(chosen.dataset).labels, val=0.25, seed=chosen.dataset.split_seed
    )
    files = data.read(chosen.dataset)
    assert isinstance(files, Files)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    centre = v2.Compose([v2.Resize(37), v2.CenterCrop(32), v2.PILToTensor()])
    for image, place in zip(images, index, strict=True):
        with Image.open(files.paths[place]) as picture:
            pixels = centre(picture.convert("RGB")).float() / 255
        expected = (pixels - mean[:, None, None]) / std[:, None, None]
        torch.testing.assert_close(image, expected, rtol=1e-5, atol=1e-5)  # float32


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_photo_is_named(photos: Path, workers: int) -> None:
    """Its path in one line, also from a decoding process."""
    (photos / "train" / "bee" / "3.jpg").write_bytes(b"\xff\xd8 no more")
    training, validation = open_batches(photo_config(photos, workers), torch.device("cpu"))
    with pytest.raises(DatasetError, match=r"bee/3\.jpg cannot be decoded") as raised:
        list(training.shuffled(0, 1)) + list(validation.ordered())
    assert len(str(raised.value).splitlines()) == 1


def test_crop_is_refused_for_photos(photos: Path) -> None:
    """Photos are cropped at random scale already; padding has no meaning there."""
    chosen = photo_config(photos, 0)
    crop = chosen.training.augmentation.model_copy(update={"crop": 4})
    recipe = chosen.training.model_copy(update={"augmentation": crop})
    with pytest.raises(ValueError, match=r"training\.augmentation\.crop: .*got 4; allowed 0"):
        open_batches(chosen.model_copy(update={"training": recipe}), torch.device("cpu"))


def test_a_crop_as_large_as_the_image_is_refused() -> None:
    """More padding than image would train on black."""
    chosen = config({"name": "digits", "subset": 100})
    crop = chosen.training.augmentation.model_copy(update={"crop": 8})
    recipe = chosen.training.model_copy(update={"augmentation": crop})
    with pytest.raises(ValueError, match=r"training\.augmentation\.crop: .*got 8; allowed 0\.\.7"):
        open_batches(chosen.model_copy(update={"training": recipe}), torch.device("cpu"))


def test_reading_needs_neither_torch_nor_torchvision(tmp_path: Path) -> None:
    """The driver asks for digests; JPEG files and digits cost it no import of torch."""
    root = class_folders(tmp_path / "d", per_class=1)
    code = (
        "import sys\nfrom spaces.config import Dataset\nfrom trainers import data\n"
        f"data.digest(Dataset(name='cifar10', root={str(root)!r}))\n"
        "data.digest(Dataset(name='digits'))\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
