"""The images a config trains on: read once, known by a digest, split without chance.

Nothing here needs torch. Decoded images are kept in a cache folder (`trainers.datasets.cache`), so
that a JPEG is decoded once per machine and parallel workers wait for one another. They are mapped
from there, not read: all processes of a node share the one copy that its page cache has.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from spaces import catalogue
from spaces.durable import write_whole
from spaces.errors import VariantError
from trainers import variants
from trainers.datasets import DatasetError, Files, Images, Part, cache
from trainers.datasets.scenes import Scenes

if TYPE_CHECKING:
    from spaces.config import Dataset

Indices = NDArray[np.int64]
Judge = Literal["val", "test"]
"""Which images a training is judged by: a search's validation images, or the test part."""
Data = Images | Files | Scenes
READER = 1  # raised when a reader's pixels or labels change: what older ones decoded is not used


@dataclass(frozen=True)
class Source:
    """The files that a part of a dataset is read from, found once; their order is the images'.

    Two are equal where no file has changed, as names, sizes and times tell without opening one.
    """

    signature: str
    dataset: Dataset = field(compare=False, repr=False)
    part: Part = field(compare=False)
    files: tuple[Path, ...] = field(compare=False, repr=False)
    sizes: tuple[int, ...] = field(compare=False, repr=False)

    def images(self) -> Data:
        """The images; the arrays are shared and read-only. Raises DatasetError."""
        return _read(self)

    def digest(self) -> str:
        """sha256 of what a run can see: pixels and labels, or what stands for them on disk.

        That is the manifest of a dataset that has one (`Files`), otherwise the class folder, name
        and size of every file: of image files no byte is read, and one changed to another of the
        same size is not noticed.
        Root, split and subset are no part of it. The answer is remembered by the signature.
        """
        return _remembered(self.signature) or _content(self, self.images())


def find(dataset: Dataset, part: Part = "train") -> Source:
    """Where a part lies; walks its folders and looks at every file. Raises DatasetError."""
    files = tuple(variants.module("dataset", dataset.name).find(dataset, part))
    if not files:
        raise DatasetError(f"dataset.root: no {part} images in {dataset.root or dataset.name}")
    stats = [file.stat() for file in files]
    facts = [(str(f), s.st_size, s.st_mtime_ns) for f, s in zip(files, stats, strict=True)]
    reader = (READER, dataset.name, catalogue.digest("dataset", dataset.name))
    text = repr((reader, part, sorted(dataset.params.items()), facts))
    signature = hashlib.sha256(text.encode()).hexdigest()
    return Source(signature, dataset, part, files, tuple(stat.st_size for stat in stats))


def digest(dataset: Dataset, part: Part = "train") -> str:
    """The content digest of a part: `find`, then `Source.digest`. Raises DatasetError."""
    return find(dataset, part).digest()


def sources(dataset: Dataset, judge: Judge = "val") -> tuple[Source, ...]:
    """The parts that a training sees: the train part, and the test part where that judges it."""
    parts: tuple[Part, ...] = ("train",) if judge == "val" else ("train", "test")
    return tuple(find(dataset, part) for part in parts)


def content(found: tuple[Source, ...]) -> str:
    """What a run key says of the images in `sources`: the digest of each part."""
    return "+".join(source.digest() for source in found)


def read(dataset: Dataset, part: Part = "train") -> Data:
    """The images of a part: `find`, then `Source.images`. Raises DatasetError."""
    return find(dataset, part).images()


def split(
    labels: NDArray[np.int64], *, val: float, seed: int, subset: int | None = None
) -> tuple[Indices, Indices]:
    """Places of the training and of the validation images in `labels`, each ascending.

    First `subset` images are kept, then the share `val` of these is cut off for validation, both
    times with every class in its share (largest remainders, so that the totals are exact). The same
    arguments give the same split on every machine and for every version of numpy. Raises
    VariantError as `shares` does.
    """
    training, held = shares(len(labels), val=val, subset=subset)
    total = training + held
    # a bit generator's raw output is guaranteed not to change, a permutation's is not
    order = np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable")
    pool = _share(labels, order, total)
    chosen = _share(labels, pool, held)
    return np.sort(np.setdiff1d(pool, chosen)), np.sort(chosen)


def shares(count: int, *, val: float, subset: int | None = None) -> tuple[int, int]:
    """How many of `count` images train, and how many validate.

    Raises VariantError for a subset larger than the data and where a side would be empty.
    """
    total = count if subset is None else subset
    if not 0 < total <= count:
        raise VariantError(("dataset.subset", f"no such part (got {total}; allowed 1..{count})"))
    held = round(val * total)
    if not 0 < held < total:
        left = f"leaves {total - held} training and {held} validation images of {total}"
        raise VariantError(("dataset.val", f"{left} (got {val:g}; allowed: 1 or more of each)"))
    return total - held, held


def _share(labels: NDArray[np.int64], order: Indices, count: int) -> Indices:
    """The first images of each class in `order`, `count` in all, classes in proportion."""
    found, sizes = np.unique(labels[order], return_counts=True)
    ideal = sizes * (count / len(order))
    quota = np.floor(ideal).astype(np.int64)
    quota[np.argsort(quota - ideal, kind="stable")[: count - quota.sum()]] += 1
    wanted = dict(zip(found.tolist(), quota.tolist(), strict=True))
    return np.concatenate([order[labels[order] == label][:n] for label, n in wanted.items()])


@lru_cache(maxsize=2)
def _read(source: Source) -> Data:
    """Images from memory, else from the cache folder, else from their files."""
    signature = source.signature

    def decode() -> Data:
        images: Data = variants.load("dataset", source.dataset.name)(
            list(source.files), source.part, **source.dataset.params
        )
        return images

    try:
        (cache() / "images").mkdir(parents=True, exist_ok=True)
        with FileLock(cache() / "images" / f"{signature[:16]}.lock"):
            images: Data | None = _cached(signature)
            if images is None:
                images = decode()
                images = _mapped(_remember(source, images)) or images
    except OSError as error:
        warnings.warn(f"{cache()}: no cache of decoded images ({error})", stacklevel=2)
        images = decode()
    images.labels.flags.writeable = False
    if isinstance(images, Images):
        images.pixels.flags.writeable = False
    return images


def _remembered(signature: str) -> str | None:
    """The content digest of the images read from files of this signature."""
    try:
        return (cache() / "images" / f"{signature}.digest").read_text(encoding="ascii")
    except OSError:
        return None


def _remember(source: Source, images: Data) -> str:
    """Keep decoded images under their content digest, which is returned and kept itself."""
    content = _content(source, images)
    if isinstance(images, Images):
        kept = _mapped(content)  # by other files of the same images: others may be reading it
        if kept is None or _pixels(kept) != content:
            labels, pixels = _kept(content)
            write_whole(labels, _saved(images.labels))
            write_whole(pixels, _saved(images.pixels))
        (cache() / "images" / f"{content}.npz").unlink(missing_ok=True)  # a copy for each process
    write_whole(cache() / "images" / f"{source.signature}.digest", content.encode("ascii"))
    return content


def _cached(signature: str) -> Images | None:
    """The decoded images kept for this signature, unless they are damaged."""
    content = _remembered(signature)
    images = _mapped(content) if content else None
    return images if images is not None and _pixels(images) == content else None


def _mapped(content: str) -> Images | None:
    """Decoded images as they lie in the cache, the pixels mapped; None where they do not."""
    labels, pixels = _kept(content)
    try:
        return Images(
            np.load(pixels, mmap_mode="r", allow_pickle=False), np.load(labels, allow_pickle=False)
        )
    except Exception:  # a damaged heading is read as Python, and fails in as many ways
        return None


def _saved(array: NDArray[Any]) -> bytes:
    """An array as a .npy file, which alone can be mapped: a part of a .npz cannot."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array))
    return buffer.getvalue()


def _kept(content: str) -> tuple[Path, Path]:
    """The files of the labels and of the pixels of this digest."""
    folder = cache() / "images"
    return folder / f"{content}.labels.npy", folder / f"{content}.npy"


def _content(source: Source, images: Data) -> str:
    """sha256 of the images, or of their manifest; for want of it of class, name, size of each file.

    A run key that was ever given must come out again.
    """
    if isinstance(images, Images):
        return _pixels(images)
    manifest: list[tuple[str | int, ...]]
    if images.manifest is not None:
        manifest = list(images.manifest)
    else:
        sized = zip(source.files, source.sizes, strict=True)
        manifest = [(file.parent.name, file.name, size) for file, size in sized]
    return hashlib.sha256(repr(manifest).encode()).hexdigest()


def _pixels(images: Images) -> str:
    """sha256 of shape, pixels and labels."""
    state = hashlib.sha256(repr(images.pixels.shape).encode())
    state.update(np.ascontiguousarray(images.pixels).data)
    state.update(images.labels.astype("<i8").data)
    return state.hexdigest()
