"""Folders of images that are not what they should be (group 57), and odd ones that are."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trainers
from spaces.config import Config, Dataset
from trainers.datasets import DatasetError
from trainers.datasets.image_folder import describe, load


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """An image file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def header(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and has none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(ran) (w) file closefile\n"
BAD = {
    "0 bytes": b"",
    "text": b"no image at all",
    "half": encoded(Image.fromarray(NOISE), "JPEG")[:300],
    "100,000 x 100,000": header(100_000, 100_000),
    "more than there is": header(2000, 2000),
    "a program": EPS,
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes, train: bool) -> None:
    """One line with its path, and never the memory that a bomb asks for."""
    path = tmp_path / "it.jpg"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        load(path, 32, train=train, flip=False)
    assert str(caught.value).startswith(f"dataset.root: {path} cannot be decoded (")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A folder that is called like an image, a link to nowhere."""
    make(tmp_path / "it.jpg")
    with pytest.raises(DatasetError, match=r"it\.jpg cannot be decoded"):
        load(tmp_path / "it.jpg", 32, train=False, flip=False)


FRAMES = [Image.new("RGB", (30, 30), (200, 0, 0)), Image.new("RGB", (30, 30), (0, 200, 0))]
ODD = {
    "1 x 1": (encoded(Image.new("RGB", (1, 1), (9, 9, 9))), (9, 9, 9)),
    "grey": (encoded(Image.new("L", (30, 30), 77)), (77, 77, 77)),
    # reference: 0x4D00 of 0xFFFF is 77 of 255; Pillow's own conversion makes it 255
    "16-bit grey": (encoded(Image.fromarray(np.full((30, 30), 0x4D12, np.uint16))), (77, 77, 77)),
    "CMYK": (encoded(Image.new("CMYK", (30, 30), (0, 0, 0, 55)), "JPEG"), (200, 200, 200)),
    "palette": (encoded(Image.new("RGB", (30, 30), (0, 204, 0)).convert("P")), (0, 204, 0)),
    "transparent": (encoded(Image.new("RGBA", (30, 30), (9, 99, 9, 0))), (9, 99, 9)),
    "one bit": (encoded(Image.new("1", (30, 30), 1)), (255, 255, 255)),
    "animated": (
        encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
        (200, 0, 0),
    ),
    "100,000 x 2": (encoded(Image.new("RGB", (100_000, 2), (7, 7, 7))), (7, 7, 7)),
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("content", "colour"), ODD.values(), ids=ODD)
def test_an_odd_image_is_read(
    tmp_path: Path, content: bytes, colour: tuple[int, int, int], train: bool
) -> None:
    """Of any size, mode and depth: as the colours that a person sees."""
    path = tmp_path / "it.png"
    path.write_bytes(content)
    pixels = load(path, 32, train=train, flip=False)
    assert tuple(pixels.shape) == (32, 32, 3)
    # JPEG and palettes are off by a few levels
    assert np.abs(pixels.numpy().astype(int) - np.array(colour)).max() <= 4


def test_a_bomb_s_warning_is_an_error_under_w_error(tmp_path: Path) -> None:
    """`python -W error` does not make another exception of it."""
    (tmp_path / "it.png").write_bytes(header(10_000, 10_000))
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(DatasetError):
        load(tmp_path / "it.png", 32, train=False, flip=False)


def folder(root: Path, **classes: int) -> Path:
    """train/<class>/ with so many images each."""
    for name, count in classes.items():
        (root / "train" / name).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(NOISE)
            (root / "train" / name / f"{number}.png").write_bytes(encoded(image))
    return root


def config(root: Path) -> Config:
    """A small network on a folder."""
    return Config.model_validate(
        {
            "name": "t",
            "dataset": {"name": "image_folder", "root": str(root), "image_size": 8, "val": 0.5},
            "backbone": {"name": "resnet", "depth": 8, "width": 0.25},
            "training": {"epochs": 1, "batch_size": 2, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    """It is said where images were looked for."""
    (tmp_path / "root").write_text("no folder")
    with pytest.raises(DatasetError, match=r"dataset\.root: no image_folder data"):
        describe(Dataset(name="image_folder", root=str(tmp_path / "root")))


@pytest.mark.parametrize("classes", [{}, {"only": 4}])
def test_too_few_classes(tmp_path: Path, classes: dict[str, int]) -> None:
    """None or one: a network has nothing to tell apart."""
    root = folder(tmp_path, **classes)
    (root / "train").mkdir(exist_ok=True)
    said = rf"dataset\.root: {root}/train has {len(classes)} class folders \(allowed: 2 or more\)"
    with pytest.raises(DatasetError, match=said):
        describe(Dataset(name="image_folder", root=str(root)))


def test_a_class_without_images(tmp_path: Path) -> None:
    """Before anything trains, in at most six lines."""
    with pytest.raises(DatasetError) as caught:
        trainers.fits(config(folder(tmp_path, ant=8, bee=0)))
    assert str(caught.value).startswith("dataset.root: ")
    assert "bee" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 6
