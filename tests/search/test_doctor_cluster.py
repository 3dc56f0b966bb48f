"""The doctor on a cluster: which node lacks what, as a node that really lacks it tells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from search.beforehand.doctor import Finding
from search.cli import main
from search.execution import node, nodes
from search.execution.cluster import Node
from search.execution.node import Answer, Question

ROOT = Path(__file__).parents[2]
NODES = ROOT / "tests" / "faults" / "nodes.py"
THERE = Node("n1 (10.0.0.2)", "ab", 8, 2)
HERE = Answer(
    host="head",
    python="3.11.7",
    executable="/usr/bin/python3",
    versions={"ray": "2.60.0", "torch": "2.14.1", "torchvision": "0.29.1", "numpy": "2.4.6"},
    source="aaaa",
    cuda="13.0",
    devices=("H100", "H100"),
    datasets={"cifar10": "dddd"},
    plugins={"/p/gate.py": "eeee"},
)


def wrong(answer: Answer, here: Answer = HERE) -> list[Finding]:
    """What is found on a node that gives this answer, the good left out."""
    return [finding for finding in nodes.of(THERE, answer, here) if finding.state != "ok"]


def test_a_node_like_the_driver_is_fit() -> None:
    """One line stands for all that is well there."""
    first, *rest = nodes.of(THERE, HERE, HERE)
    assert (first.name, first.found) == (nodes.WHOLE, "fit: 8 CPUs, 2 GPUs, all as here")
    assert {finding.state for finding in rest} == {"ok"}
    assert {finding.node for finding in (first, *rest)} == {THERE.name}


@pytest.mark.parametrize(
    ("answer", "name", "state", "found"),
    [
        (replace(HERE, python="3.12.1"), "python", "fail", "the driver's is 3.11.7"),
        (replace(HERE, versions={**HERE.versions, "ray": "2.59.0"}), "ray", "fail", "has 2.60.0"),
        (replace(HERE, versions={**HERE.versions, "torch": ""}), "torch", "fail", "not installed"),
        (replace(HERE, versions={**HERE.versions, "numpy": "1.26"}), "numpy", "warn", "has 2.4.6"),
        (replace(HERE, torch="ImportError: libcudart"), "torch", "fail", "does not import"),
        (replace(HERE, source=""), "eca-search", "fail", "none"),
        (replace(HERE, source="bbbb"), "eca-search", "fail", "bbbb, the driver's is aaaa"),
        (replace(HERE, devices=()), "GPUs", "fail", "Ray has 2 GPUs there, torch sees 0"),
        (replace(HERE, cuda="12.8"), "GPUs", "warn", "CUDA 12.8, the driver's for 13.0"),
        (replace(HERE, datasets={"cifar10": ""}), "data cifar10", "fail", "not where it is"),
        (replace(HERE, datasets={"cifar10": "ffff"}), "data cifar10", "fail", "other files"),
        (replace(HERE, plugins={"/p/gate.py": "ffff"}), "plugin /p/gate.py", "fail", "another"),
    ],
)
def test_what_a_node_lacks_is_named_with_its_remedy(
    answer: Answer, name: str, state: str, found: str
) -> None:
    """One finding, the node's name in it, and what helps."""
    (finding,) = wrong(answer)
    assert (finding.node, finding.name, finding.state) == (THERE.name, name, state)
    assert found in finding.found
    assert finding.remedy


def test_a_folder_that_is_not_shared(tmp_path: Path) -> None:
    """A missing folder, one of the same name that is another, and one whose answer stays there."""
    (tmp_path / "other").mkdir()
    (tmp_path / "shared").mkdir()
    places = [str(tmp_path / each) for each in ("none", "other", "shared")]
    (tmp_path / "shared" / ".m").write_text(".m")
    told = Answer(**node.look(asdict(Question(places=tuple(places), marker=".m"))))

    here = replace(told, places={})
    found = {f.name: f for f in nodes.of(replace(THERE, gpus=0), told, here) if "folder" in f.name}
    assert [found[f"folder {place}"].state for place in places] == ["fail", "fail", "ok"]
    assert "no such folder" in found[f"folder {places[0]}"].found
    assert "not the same folder" in found[f"folder {places[1]}"].found
    (answer,) = (tmp_path / "shared").glob(".m-*")
    answer.unlink()
    (unseen,) = wrong(told, here)[-1:]
    found = {f.name: f for f in nodes.of(replace(THERE, gpus=0), told, here) if "folder" in f.name}
    assert found[f"folder {places[2]}"].found == "what it writes is not seen here"
    assert unseen.state == "fail"


def test_a_place_of_any_fsspec_kind() -> None:
    """A marker is written, read and taken away at a URI as in a folder."""
    where = node.mark("memory://doctor", ".m", ".m")
    told = Answer(**node.look(asdict(Question(places=("memory://doctor",), marker=".m"))))
    assert node.read(f"memory://doctor/{told.places['memory://doctor']}")
    node.remove(where)
    with pytest.raises(FileNotFoundError):
        node.read(where)


def test_what_belongs_to_a_cluster_is_refused_without(capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error names the option that is missing."""
    assert main(["doctor", "--address", "10.0.0.1:6379"]) == 2
    assert "add it" in capsys.readouterr().err


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Two real nodes, the second with a torch that does not import and without the data."""
    (tmp_path / "stub" / "torch").mkdir(parents=True)
    (tmp_path / "stub" / "torch" / "__init__.py").write_text("raise ImportError('no libcudart')")
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    (tmp_path / "data" / "cifar10" / "batch").write_bytes(b"12345")
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "ECA_SEARCH_DATA": str(tmp_path / "data"),
        "ECA_SEARCH_CACHE": str(tmp_path / "cache"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "5ec7e7" * 10,
    }
    poor = {"PYTHONPATH": f"{tmp_path / 'stub'}:{ROOT}", "ECA_SEARCH_DATA": "/nowhere"}
    with subprocess.Popen(
        [sys.executable, str(NODES), json.dumps(poor)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip(), environment
        process.stdin.close()
        try:
            process.wait(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.ray
@pytest.mark.slow
def test_a_node_that_lacks_torch_and_data_is_found(
    two: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    """Exit 3; one of two nodes is fit, the other lacks two things; no marker is left anywhere."""
    address, environment = two
    (tmp_path / "runs").mkdir()
    command = [sys.executable, "-m", "search", "doctor", "--cluster", "--address", address]
    done = subprocess.run(
        [*command, "--json", "--out", str(tmp_path / "runs")],
        env=environment,
        capture_output=True,
        text=True,
    )
    told = json.loads(done.stdout)
    checks = [check for check in told["checks"] if check["node"]]

    assert (done.returncode, told["fit"]) == (3, False)
    assert [check["name"] for check in checks if check["name"] == nodes.WHOLE] == [nodes.WHOLE]
    failed = {check["name"]: check for check in checks if check["state"] == "fail"}
    assert sorted(failed) == ["data cifar10", "torch"]
    assert "no libcudart" in failed["torch"]["found"]
    assert failed["torch"]["node"] in failed["torch"]["remedy"]
    shared = [check for check in checks if check["name"].startswith("folder")]
    assert [check["state"] for check in shared] == ["ok", "ok"]
    assert not list((tmp_path / "runs").iterdir())
