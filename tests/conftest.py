"""What several test files share: small real spaces, one Ray, data when it is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from spaces import catalogue

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# Shared machines are slow at times: an example that takes long is no finding.
hypothesis.settings.register_profile("patient", deadline=None)
# A mutant is noticed or not; nobody reads its smallest example, which takes minutes to find.
hypothesis.settings.register_profile(
    "unshrunk", deadline=None, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
)
hypothesis.settings.load_profile("patient")

SPACE = """\
name: {name}
task: {{name: classification}}
dataset: {{name: digits, subset: 300, val: 0.2}}
backbone: {{name: resnet, depth: 8, width: {width}}}
attention: {attention}
training: {{epochs: {epochs}, batch_size: 32, optimizer: {{name: sgd, lr: 0.1}}}}
search:
  trials: {trials}
  seed: 0
  executor: inprocess
  {search}
"""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that needs a GPU skips where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device here")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a missing part fails: a test may skip for want of a GPU alone."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not item.get_closest_marker("gpu"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Digests and decoded images of the tests stay out of a person's cache."""
    os.environ.setdefault("ECA_SEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test plugs in is not there in the next."""
    monkeypatch.setattr(catalogue, "_plugins", {})


@pytest.fixture
def write_space(tmp_path: Path) -> Callable[..., Path]:
    """Write a small digits space and return its path; every part can be replaced."""

    def write(
        *,
        name: str = "small",
        width: str = "{choice: [0.25, 0.5]}",
        attention: str = "{choice: [{name: none}, {name: eca}]}",
        epochs: int = 3,
        trials: int = 4,
        search: str = "",
    ) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            SPACE.format(
                name=name,
                width=width,
                attention=attention,
                epochs=epochs,
                trials=trials,
                search=search.replace("\n", "\n  "),
            )
        )
        return path

    return write


Draw = Callable[..., Path]
SIZES = ((60, 80), (80, 60), (64, 64), (60, 90))
COLOURS = {9: (220, 30, 30), 3: (30, 200, 30), 5: (40, 40, 220)}  # of three categories, by their id


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Draw images with coloured boxes on noise, in COCO's layout, and return their folder.

    Image i of a part has 1 + i % 3 objects, but for the last of eight, which has none; sizes,
    (height, width), go round. The first image's first object is a crowd, told by run lengths.
    """

    def drawn(
        root: Path, sizes: Sequence[tuple[int, int]] = SIZES, train: int = 16, val: int = 8
    ) -> Path:
        (root / "annotations").mkdir(parents=True)
        for part, count in (("train", train), ("val", val)):
            (root / f"{part}2017").mkdir()
            told = _drawn(root / f"{part}2017", sizes, count, 1000 * (part == "val"))
            (root / f"annotations/instances_{part}2017.json").write_text(json.dumps(told))
        return root

    return drawn


def _drawn(folder: Path, sizes: Sequence[tuple[int, int]], count: int, seed: int) -> dict[str, Any]:
    """Images in a folder, and what COCO's annotations say of them."""
    import numpy as np
    from PIL import Image

    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for number in range(count):
        random = np.random.default_rng(seed + number)
        height, width = sizes[number % len(sizes)]
        pixels = random.integers(90, 160, (height, width, 3), np.uint8)
        name, owner = f"{seed + number:012}.png", 10 * number + 7
        images.append({"id": owner, "file_name": name, "height": height, "width": width})
        for _ in range(0 if number % 8 == 7 else 1 + number % 3):
            w, h = random.integers(16, 40, 2).tolist()
            x, y = int(random.integers(0, width - w)), int(random.integers(0, height - h))
            kind = int(random.choice(list(COLOURS)))
            pixels[y : y + h, x : x + w] = COLOURS[kind]
            outline: Any = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            if not objects:
                inside = np.zeros((height, width), np.uint8)
                inside[y : y + h, x : x + w] = 1
                ends = np.flatnonzero(np.diff(np.pad(inside.T.ravel(), 1))).tolist()
                runs = np.diff([0, *ends, height * width]).tolist()
                outline = {"size": [height, width], "counts": runs}
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": owner,
                    "category_id": kind,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": int(not objects),
                    "segmentation": outline,
                }
            )
        Image.fromarray(pixels).save(folder / name)
    kinds = [{"id": kind, "name": f"kind {kind}"} for kind in COLOURS]
    return {"images": images, "annotations": objects, "categories": kinds}


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder `ECA_SEARCH_DATA` names; a test that wants it skips without it."""
    where = os.environ.get("ECA_SEARCH_DATA")
    if not where:
        pytest.skip("ECA_SEARCH_DATA is not set: no recorded curves or CIFAR images here")
    return Path(where)


Browse = Callable[[str], tuple[str, list[str]]]


@pytest.fixture(scope="session")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browse:
    """Open an address in Debian's Chromium, which reaches this machine alone.

    The answer is the document after its scripts have run, and the lines of its console.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    profile = tmp_path_factory.mktemp("chromium")

    def opened(address: str) -> tuple[str, list[str]]:
        done = subprocess.run(
            [
                chromium,
                *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-sync", "--disable-background-networking"),
                *("--disable-component-update", "--disable-quic"),
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                *("--enable-logging=stderr", "--v=0"),
                "--window-size=1500,900",
                f"--user-data-dir={profile}",
                "--virtual-time-budget=30000",
                "--dump-dom",
                address,
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout, re.findall(r".*:CONSOLE[:(].*", done.stderr)

    return opened


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One local Ray of two CPUs for all tests that want one."""
    from search.execution import ray_tune

    previous = os.environ.pop("RAY_ADDRESS", None)
    with ray_tune.connected("local", cpus=2):
        yield
    if previous is not None:
        os.environ["RAY_ADDRESS"] = previous
