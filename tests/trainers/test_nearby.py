"""A node's own copy of image files: fetched once, whole or gone on with, the same images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import trainers
from spaces.config import Config
from trainers import data, nearby
from trainers.batches import open_batches


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECA_SEARCH_CACHE", str(tmp_path / "person"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of eight photos, and two to confirm with."""
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 2)):
        for name in ("ant", "bee"):
            folder = tmp_path / "far" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = random.integers(0, 256, (40, 40, 3), np.uint8)
                Image.fromarray(noise).save(folder / f"{number}.png")
    return tmp_path / "far"


def config(photos: Path, **dataset: Any) -> Config:
    """One epoch on the photos, in batches of four."""
    chosen = {"name": "image_folder", "root": str(photos), "image_size": 32, "val": 0.25}
    return Config.model_validate(
        {
            "name": "near",
            "dataset": {**chosen, "workers": 0, **dataset},
            "backbone": {"name": "resnet", "depth": 8, "width": 0.25},
            "training": {"epochs": 1, "batch_size": 4, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )


def copies(cache: Path) -> list[str]:
    """What lies in the copies, without locks."""
    return sorted(str(p.relative_to(cache)) for p in cache.rglob("*") if p.suffix != ".lock")


def test_training_reads_the_copy(photos: Path, tmp_path: Path) -> None:
    """The same figures and run key as from afar; with the images away, what was fetched is read."""
    cache = tmp_path / "scratch"
    far, near = config(photos), config(photos, cache=str(cache))
    expected = list(trainers.train(far))
    again = list(trainers.train(near))
    assert again[0]["train_loss"] == expected[0]["train_loss"]
    assert again[0]["val_loss"] == expected[0]["val_loss"]
    assert trainers.run_key(far, "d") == trainers.run_key(near, "d")

    training, _ = open_batches(near, torch.device("cpu"))
    paths = training.files.paths  # type: ignore[attr-defined]
    assert all(path.is_relative_to(cache) for path in paths)
    for path in photos.rglob("*.png"):  # as large, and nothing in it
        path.write_bytes(bytes(path.stat().st_size))
    assert len(list(training.shuffled(0, 1))) == 3


def test_the_test_part_is_fetched_when_it_judges(photos: Path, tmp_path: Path) -> None:
    """A search never fetches it; confirming does."""
    cache = tmp_path / "scratch"
    near = config(photos, cache=str(cache))
    list(trainers.train(near))
    assert not [name for name in copies(cache) if "-test-" in name]
    list(trainers.train(near, judge="test"))
    assert len([name for name in copies(cache) if "-test-" in name and name.endswith("png")]) == 4


def test_a_copy_is_made_once(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look copies nothing and compares nothing; a manifest says what there is."""
    cache = tmp_path / "scratch"
    source = data.find(config(photos).dataset)
    first = nearby.brought(source, cache)
    monkeypatch.setattr(nearby, "_fetch", None)  # whoever fetches again fails
    assert nearby.brought(source, cache) == first
    (manifest,) = cache.rglob(nearby.MANIFEST)
    facts = json.loads(manifest.read_text())
    assert facts == {"digest": source.digest(), "files": 16, "bytes": sum(source.sizes)}


def test_a_fetch_cut_short_is_gone_on_with(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there in its size stays, half a file does not, and no manifest was written before."""
    cache = tmp_path / "scratch"
    source = data.find(config(photos).dataset)
    copy, done = nearby._copy, []

    def failing(far: Path, close: Path, size: int) -> None:
        if len(done) == 5:
            raise OSError(28, "No space left on device")
        done.append(close)
        copy(far, close, size)

    monkeypatch.setattr(nearby, "READERS", 1)
    monkeypatch.setattr(nearby, "_copy", failing)
    with pytest.warns(UserWarning, match=r"dataset\.cache: .*No space left"):
        assert nearby.brought(source, cache) == source.files
    assert not list(cache.rglob(nearby.MANIFEST))
    done[0].write_bytes(b"half")

    fetched: list[Path] = []
    monkeypatch.setattr(nearby, "_copy", lambda f, c, s: (fetched.append(c), copy(f, c, s)))
    near = nearby.brought(source, cache)
    assert sorted(fetched) == sorted({*near} - {*done[1:]})
    assert [path.read_bytes() for path in near] == [path.read_bytes() for path in source.files]
    assert not list(cache.rglob("*.tmp"))


def test_other_images_are_another_copy(photos: Path, tmp_path: Path) -> None:
    """One image more, and what was fetched before is left alone."""
    cache = tmp_path / "scratch"
    nearby.brought(data.find(config(photos).dataset), cache)
    (photos / "train" / "ant" / "9.png").write_bytes(
        (photos / "train" / "ant" / "0.png").read_bytes()
    )
    near = nearby.brought(data.find(config(photos).dataset), cache)
    assert len(near) == 17
    assert len(list(cache.rglob(nearby.MANIFEST))) == 2


def test_without_room_the_images_are_read_where_they_are(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before a byte is copied, and training goes on."""
    monkeypatch.setattr(nearby.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100})())
    near = config(photos, cache=str(tmp_path / "scratch"))
    with pytest.warns(UserWarning, match=r"bytes are wanted, 100 are free"):
        assert len(list(trainers.train(near))) == 1
    assert not list((tmp_path / "scratch").rglob("*.png"))


FETCH = """
import sys
from pathlib import Path
from spaces.config import Config
from trainers import data, nearby
copy, count = nearby._copy, 0
def counting(far, close, size):
    global count
    count += 1
    copy(far, close, size)
nearby._copy = counting
config = Config.model_validate_json(sys.argv[1])
nearby.brought(data.find(config.dataset), Path(sys.argv[2]))
print(count)
"""


def test_one_process_of_a_node_fetches(photos: Path, tmp_path: Path) -> None:
    """Four at once copy every file once between them."""
    command = [sys.executable, "-c", FETCH, config(photos).model_dump_json()]
    members = [
        subprocess.Popen([*command, str(tmp_path / "scratch")], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    counts = sorted(int(member.communicate(timeout=120)[0]) for member in members)
    assert counts == [0, 0, 0, 16]


def test_a_cache_is_a_whole_path(photos: Path) -> None:
    """A relative one would be another folder for every worker."""
    with pytest.raises(ValueError, match="cache"):
        config(photos, cache="scratch")
