"""The images a config trains on: read once, known by a digest, split without chance.

Nothing here needs torch. Decoded images are kept in a cache folder (`trainers.datasets.cache`), so
that a JPEG is decoded once per machine and parallel workers wait for one another.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from trainers import variants
from trainers.datasets import DatasetError, Files, Images, Part, cache
from trainers.files import write_whole

if TYPE_CHECKING:
    from spaces.config import Dataset

Indices = NDArray[np.int64]
READER = 1  # raised when a reader's pixels or labels change: what older ones decoded is not used


def digest(dataset: Dataset, part: Part = "train") -> str:
    """sha256 of what a run can see: pixels and labels, or the names and sizes of image files.

    Root, split and subset are no part of it. Of images in memory the answer is remembered by their
    files' names, sizes and times, so that a second call costs milliseconds. Raises DatasetError.
    """
    files = _find(dataset, part)
    known = _remembered(_signature(dataset, part, files))
    if known is not None:
        return known
    images = read(dataset, part)
    if isinstance(images, Files):
        manifest = [(f.parent.name, f.name, f.stat().st_size) for f in images.paths]
        return hashlib.sha256(repr(manifest).encode()).hexdigest()
    return _content(images)


def read(dataset: Dataset, part: Part = "train") -> Images | Files:
    """The images of a part; the arrays are shared and read-only. Raises DatasetError."""
    files = _find(dataset, part)
    params = json.dumps(dataset.params, sort_keys=True)
    signature = _signature(dataset, part, files)
    images: Images | Files = _read(dataset.name, part, files, params, signature)
    return images


def split(
    labels: NDArray[np.int64], *, val: float, seed: int, subset: int | None = None
) -> tuple[Indices, Indices]:
    """Places of the training and of the validation images in `labels`, each ascending.

    First `subset` images are kept, then the share `val` of these is cut off for validation, both
    times with every class in its share (largest remainders, so that the totals are exact). The same
    arguments give the same split on every machine and for every version of numpy. Raises
    DatasetError for a subset larger than the data and where a side would be empty.
    """
    total = len(labels) if subset is None else subset
    if not 0 < total <= len(labels):
        raise DatasetError(f"dataset.subset: no such part (got {total}; allowed 1..{len(labels)})")
    # a bit generator's raw output is guaranteed not to change, a permutation's is not
    order = np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable")
    pool = _share(labels, order, total)
    held = round(val * total)
    if not 0 < held < total:
        raise DatasetError(
            f"dataset.val: leaves {total - held} training and {held} validation images of {total}"
        )
    chosen = _share(labels, pool, held)
    return np.sort(np.setdiff1d(pool, chosen)), np.sort(chosen)


def _share(labels: NDArray[np.int64], order: Indices, count: int) -> Indices:
    """The first images of each class in `order`, `count` in all, classes in proportion."""
    found, sizes = np.unique(labels[order], return_counts=True)
    ideal = sizes * (count / len(order))
    quota = np.floor(ideal).astype(np.int64)
    quota[np.argsort(quota - ideal, kind="stable")[: count - quota.sum()]] += 1
    wanted = dict(zip(found.tolist(), quota.tolist(), strict=True))
    return np.concatenate([order[labels[order] == label][:n] for label, n in wanted.items()])


def _find(dataset: Dataset, part: Part) -> tuple[Path, ...]:
    """The files a part is read from."""
    files = tuple(variants.module("dataset", dataset.name).find(dataset, part))
    if not files:
        raise DatasetError(f"dataset.root: no {part} images in {dataset.root or dataset.name}")
    return files


def _signature(dataset: Dataset, part: Part, files: tuple[Path, ...]) -> str:
    """What tells that files did not change, without opening them."""
    stats = [(str(file), file.stat()) for file in files]
    facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    text = repr((READER, dataset.name, part, sorted(dataset.params.items()), facts))
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=2)
def _read(name: str, part: Part, files: tuple[Path, ...], params: str, signature: str) -> Any:
    """Images from memory, else from the cache folder, else from their files."""

    def decode() -> Images | Files:
        images: Images | Files = variants.load("dataset", name)(
            list(files), part, **json.loads(params)
        )
        return images

    try:
        (cache() / "images").mkdir(parents=True, exist_ok=True)
        with FileLock(cache() / "images" / f"{signature[:16]}.lock"):
            images: Images | Files | None = _cached(signature)
            if images is None:
                images = decode()
                if isinstance(images, Images):
                    _remember(signature, images)
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


def _remember(signature: str, images: Images) -> None:
    """Keep decoded images under their content digest, and the digest under the signature."""
    content = _content(images)
    buffer = io.BytesIO()
    np.savez(buffer, pixels=images.pixels, labels=images.labels)
    write_whole(cache() / "images" / f"{content}.npz", buffer.getvalue())
    write_whole(cache() / "images" / f"{signature}.digest", content.encode("ascii"))


def _cached(signature: str) -> Images | None:
    """The decoded images kept for this signature, unless they are damaged."""
    content = _remembered(signature)
    try:
        with np.load(cache() / "images" / f"{content}.npz", allow_pickle=False) as kept:
            images = Images(kept["pixels"], kept["labels"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return images if _content(images) == content else None


def _content(images: Images) -> str:
    """sha256 of shape, pixels and labels."""
    state = hashlib.sha256(repr(images.pixels.shape).encode())
    state.update(np.ascontiguousarray(images.pixels).data)
    state.update(images.labels.astype("<i8").data)
    return state.hexdigest()
