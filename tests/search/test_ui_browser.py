"""MLflow's own pages of a study, in a real browser: the views show what they say."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import search
from search.study.study import Study
from search.tracking import in_mlflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Browse = Callable[[str], tuple[str, list[str]]]
PLUGIN = Path(__file__).parents[1] / "plugins" / "faulty.py"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A small real search: some trials are on the front, some are not, and one has failed."""
    faulty = "{name: faulty, fault: raise, after: 1}"
    gates = f"{{choice: [{{name: none}}, {{name: eca}}, {faulty}], default: none}}"
    overrides = [
        f"attention={gates}",
        "search.baselines=[{attention: {name: faulty}}]",
        "search.sampler={name: RandomSampler}",
        "search.trials=6",
        "search.pruner=null",
        "training.epochs=2",
    ]
    out = tmp_path_factory.mktemp("ui") / "runs"
    return search.run(
        "digits", out=out, overrides=overrides, executor="inprocess", plugins=[PLUGIN]
    )


@pytest.fixture(scope="module")
def links(study: Study) -> Iterator[dict[str, str]]:
    """The links that `eca-search ui` prints, while its server runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "search", "ui", str(study.folder), "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"},
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        head = server.stdout.readline()
        printed = dict(server.stdout.readline().split() for _ in range(5))
        assert f"http://127.0.0.1:{port}" in head
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        yield {**printed, "root": f"http://127.0.0.1:{port}"}
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def named(document: str) -> set[str]:
    """The trials whose runs a page shows."""
    return set(re.findall(r"(#\d{3}) w\d", document))


def numbers(trials: list[int]) -> set[str]:
    """Trials as their runs' names begin."""
    return {f"#{number:03d}" for number in trials}


def complaints(console: list[str]) -> list[str]:
    """What a page's console calls an error; MLflow's grid tells of its deprecations as INFO."""
    return [line for line in console if ":ERROR:CONSOLE" in line or "Uncaught" in line]


def test_the_front_view_shows_the_front(
    study: Study, links: dict[str, str], browse: Browse
) -> None:
    """One link, one filter: exactly the front's runs, and no complaint."""
    document, console = browse(links["front"])
    front = [trial.number for trial in study.pareto()]
    assert len(front) < len(study.trials)
    assert named(document) == numbers(front)
    assert complaints(console) == []


@pytest.mark.parametrize(
    ("view", "tag"), [("kernels", "eca.kernels"), ("networks", "eca.identity")]
)
def test_what_finished_stands_below_its_group(
    study: Study, links: dict[str, str], browse: Browse, view: str, tag: str
) -> None:
    """Runs of one kernel profile, or of one network, are one group."""
    document, console = browse(links[view])
    assert f"Group by: {tag}" in document
    assert "Group: " in document
    assert named(document) == numbers([t.number for t in study.trials if t.outcome == "finished"])
    assert complaints(console) == []


def test_a_failure_says_why(study: Study, links: dict[str, str], browse: Browse) -> None:
    """What failed, and nothing else, with its reason in the table."""
    failed = [trial.number for trial in study.trials if trial.failed]
    assert failed
    document, console = browse(links["failures"])
    assert named(document) == numbers(failed)
    assert document.count("RuntimeError: a fault on purpose") >= len(failed)
    assert complaints(console) == []


def test_the_parent_s_report_is_rendered(
    study: Study, links: dict[str, str], browse: Browse
) -> None:
    """Among the parent run's artifacts the report opens in the page, in MLflow's sandbox."""
    store = f"sqlite:///{study.folder.parent}/mlflow.db"
    runs = in_mlflow._client(store).search_runs(["1"], max_results=100)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    page = f"{links['root']}/#/experiments/1/runs/{parent.info.run_id}/artifacts/report.html"
    document, console = browse(page)
    assert re.search(r'<iframe src="blob:[^>]*sandbox="allow-scripts"', document)
    assert complaints(console) == []
