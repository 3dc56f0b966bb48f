"""What several test files share: small real spaces, one Ray, data when it is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

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
    from search import ray_tune

    previous = os.environ.pop("RAY_ADDRESS", None)
    with ray_tune.connected("local", cpus=2):
        yield
    if previous is not None:
        os.environ["RAY_ADDRESS"] = previous
