"""Class folders of small JPEG images, or zips of them, decoded into memory."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from trainers.datasets import DatasetError, Images, Part

MEMBER = re.compile(r"(train|test)/([A-Za-z0-9_-]+)/([A-Za-z0-9_.-]+)\.jpe?g")
LARGEST = 1 << 20  # bytes of one image file; a 32 x 32 JPEG has one or two thousand


def find(folder: Path, part: Part) -> list[Path]:
    """`<part>.zip`, or the images in `<part>/<class>/`; empty where there is neither."""
    if (folder / part).is_dir():
        return sorted(f for f in (folder / part).glob("*/*") if f.suffix in (".jpg", ".jpeg"))
    archive = folder / f"{part}.zip"
    return [archive] if archive.is_file() else []


def read(files: list[Path], part: Part, classes: int, size: int) -> Images:
    """Decode `files` (as `find` gives them) to size x size RGB; classes in order of name.

    Zips are read member by member, nothing is extracted. Raises DatasetError for a file that is
    no such image, a member outside `<part>/<class>/` or another number of classes.
    """
    zipped = files[0].suffix == ".zip"
    members = list(_members(files[0], part) if zipped else _folders(files))
    names = sorted({name for name, _, _ in members})
    if len(names) != classes:
        raise DatasetError(
            f"dataset.root: {files[0]} holds {len(names)} classes (allowed: {classes})"
        )
    number = {name: label for label, name in enumerate(names)}
    pixels = np.empty((len(members), size, size, 3), np.uint8)
    for row, (_, where, data) in zip(pixels, members, strict=True):
        row[:] = _decode(data, where, size)
    return Images(pixels, np.array([number[name] for name, _, _ in members], np.int64))


def _folders(files: list[Path]) -> Iterator[tuple[str, str, bytes]]:
    """(class, where, bytes) of every file."""
    for file in files:
        yield file.parent.name, str(file), file.read_bytes()


def _members(archive: Path, part: Part) -> Iterator[tuple[str, str, bytes]]:
    """(class, where, bytes) of every member of a zip, in order of name."""
    try:
        with zipfile.ZipFile(archive) as opened:
            for member in sorted(opened.infolist(), key=lambda member: member.filename):
                if member.is_dir():
                    continue
                named = MEMBER.fullmatch(member.filename)
                if not named or named[1] != part or member.file_size > LARGEST:
                    raise DatasetError(
                        f"dataset.root: {archive} has a member {member.filename[:100]!r} "
                        f"of {member.file_size} bytes (allowed: {part}/<class>/<name>.jpg)"
                    )
                yield named[2], f"{archive}/{member.filename}", opened.read(member)
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise DatasetError(f"dataset.root: {archive} cannot be read ({error})") from error


def _decode(data: bytes, where: str, size: int) -> np.ndarray:
    """The pixels of one JPEG, (size, size, 3) uint8."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if image.size != (size, size):
                raise DatasetError(
                    f"dataset.root: {where} has {image.size[0]} x {image.size[1]} pixels "
                    f"(allowed: {size} x {size})"
                )
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DatasetError(f"dataset.root: {where} cannot be decoded ({error})") from error
