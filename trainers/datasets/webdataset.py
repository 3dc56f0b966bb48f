"""Images in tar files of thousands, as WebDataset lays them out: few files for a shared disk."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from spaces.durable import write_whole
from trainers.datasets import DatasetError, Description, Files, Part, cache, folders, missing
from trainers.datasets.image_folder import SUFFIXES, decode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from spaces.config import Dataset

LAYOUT = "train-*.tar and, for the confirmation, val-*.tar, with KEY.jpg and KEY.cls of each image"
LONGEST = 20
"""Bytes of a label's file: a number, and a line's end."""
READERS = 8
"""Shards that are looked through at a time."""
NOT_IN_KEY = {"workers"}


@dataclass(frozen=True, eq=False)
class Shard:
    """A tar file: `facts` are its name, bytes and sha256; `table` is (N, 3) int64.

    Of every image, in the shard's order: offset, bytes, class.
    """

    facts: tuple[str, int, str]
    table: NDArray[np.int64]


def describe(dataset: Dataset) -> Description:
    """3 x 224 x 224 unless told otherwise; as many classes as the space says."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Description(dataset.params["classes"], 3, dataset.image_size or 224, mean, std)


def find(dataset: Dataset, part: Part) -> list[Path]:
    """The shards of a part by name; "test" are those of val. Raises DatasetError for none."""
    places = folders(dataset)
    inside = "train" if part == "train" else "val"
    for place in places:
        if found := sorted(place.glob(f"{inside}-*.tar")):
            return found
    raise missing(dataset, places, LAYOUT)


def dataset(
    files: list[Path],
    part: Part,
    *,
    classes: Annotated[int, Field(ge=2, le=1_000_000)],
    workers: Annotated[int, Field(ge=0, le=256)] = 8,
) -> Files:
    """Images in train-*.tar and val-*.tar: KEY.jpg (or .png, ...) with its class in KEY.cls.

    The layout of https://github.com/webdataset/webdataset; labels are numbers from 0 below
    `classes`. Where an image lies in its shard is looked up once and remembered, so that any of
    them can be read on its own: order, validation split and resumption are those of any other
    dataset, which reading shards from end to end could not keep. Images are seen as those of
    `image_folder`, decoded by `workers` processes. Which images these are is told by each shard's
    name, size and sha256, wherever it lies: a shard is read through once per cache folder, and
    again when its size or time has changed. Raises DatasetError for a damaged shard, an
    image without its class or a class that is no number below `classes`.
    """
    import numpy as np

    with ThreadPoolExecutor(READERS) as pool:
        shards = list(pool.map(_looked_through, files))
    tables = [shard.table for shard in shards]
    labels = np.concatenate([table[:, 2] for table in tables])
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        said = f"an image of class {labels[wrong[0]]} (allowed: 0..{classes - 1})"
        raise DatasetError(f"dataset.classes: {files[0].parent} holds {said}")
    places = tuple(
        shard / f"{offset}+{size}"
        for shard, table in zip(files, tables, strict=True)
        for offset, size, _ in table.tolist()
    )
    manifest = tuple(shard.facts for shard in shards)
    return Files(places, labels, load, workers, manifest=manifest)


def load(path: Path, size: int, *, train: bool, flip: bool) -> Tensor:
    """One image of a shard; `path` is SHARD/OFFSET+BYTES. Raises DatasetError."""
    shard = path.parent
    offset, length = map(int, path.name.split("+"))
    try:
        with shard.open("rb") as file:
            file.seek(offset)
            image = io.BytesIO(file.read(length))
    except OSError as error:
        raise DatasetError(f"dataset.root: {shard} cannot be read ({error})") from error
    return decode(image, f"{shard}, byte {offset:,},", size, train=train, flip=flip)


def _looked_through(shard: Path) -> Shard:
    """What a shard holds; remembered for its size and time."""
    import numpy as np

    facts = shard.stat()
    signature = repr((str(shard), facts.st_size, facts.st_mtime_ns))
    kept = cache() / "shards" / f"{hashlib.sha256(signature.encode()).hexdigest()[:32]}.npz"
    try:
        with np.load(kept, allow_pickle=False) as found:
            return Shard((shard.name, facts.st_size, str(found["sha256"])), found["table"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        table = np.array(list(_members(shard)), dtype=np.int64).reshape(-1, 3)
    if not len(table):
        raise DatasetError(f"dataset.root: {shard} holds no image (allowed: 1 or more)")
    sha256 = _sha256(shard)
    buffer = io.BytesIO()
    np.savez(buffer, table=table, sha256=np.array(sha256))
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, buffer.getvalue())
    except OSError:
        pass  # a cache: without it the shard is looked through again
    return Shard((shard.name, facts.st_size, sha256), table)


def _sha256(shard: Path) -> str:
    try:
        with shard.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"dataset.root: {shard} cannot be read ({error})") from error


def _members(shard: Path) -> Iterator[tuple[int, int, int]]:
    """(offset, bytes, class) of every image; its class may stand before or after it."""
    images: dict[str, tuple[int, int]] = {}
    classes: dict[str, int] = {}
    try:
        with tarfile.open(shard, "r:") as opened:
            for member in opened:
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                key = f"{folder}/{stem}"
                if not member.isfile():
                    continue
                if f".{ending.lower()}" in SUFFIXES:
                    images[key] = member.offset_data, member.size
                elif ending == "cls":
                    classes[key] = _label(opened, member, shard)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DatasetError(f"dataset.root: {shard} cannot be read ({error})") from error
    for key, (offset, size) in images.items():
        if key not in classes:
            said = f"an image {key.lstrip('/')[:100]!r} without its class (allowed: {LAYOUT})"
            raise DatasetError(f"dataset.root: {shard} holds {said}")
        yield offset, size, classes[key]


def _label(opened: tarfile.TarFile, member: tarfile.TarInfo, shard: Path) -> int:
    """The number in a label's file."""
    file = opened.extractfile(member)
    text = b"" if file is None or member.size > LONGEST else file.read()
    try:
        return int(text)
    except ValueError:
        said = f"{member.name[:100]!r} with {text[:LONGEST]!r} (allowed: a class's number)"
        raise DatasetError(f"dataset.root: {shard} holds {said}") from None
