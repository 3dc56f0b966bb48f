"""The examples run as they stand."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import search
import spaces
from spaces import catalogue

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_and_is_kept_without_outputs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its first cell to its last in an empty folder; the file holds no results of a run."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in codes)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    root = str(EXAMPLES.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "work").mkdir()
    client = NotebookClient(
        notebook, timeout=240, resources={"metadata": {"path": tmp_path / "work"}}
    )
    client.execute()
    assert all(cell.outputs for cell in codes)
    front = next(cell for cell in codes if "study.pareto()" in cell.source)
    shown = front.outputs[0]["data"]["text/plain"]
    study = search.load(tmp_path / "work" / "runs" / "notebook")
    assert all(f"{trial.objectives['val_accuracy']:.6f}"[:7] in shown for trial in study.pareto())
    (told,) = [cell for cell in codes if "tags.eca.reason" in cell.source]
    reasons = told.outputs[-1]["data"]["text/plain"]
    broken = search.load(tmp_path / "work" / "runs" / "broken")
    assert [trial.outcome for trial in broken.trials] == ["diverged"] * 2
    assert all(trial.name[:14] in reasons for trial in broken.trials)
    assert "training diverged" in reasons


MINE = """\
name: mine
dataset: {name: digits, subset: 300}
backbone: {name: resnet, depth: 8, width: 0.25}
attention: {choice: [{name: none}, {name: my_gate, temperature: 2.0}]}
training: {epochs: 1, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
search: {trials: 2, sampler: {name: BruteForceSampler}}
"""
ENTRY = "[eca_search.attention]\nmy_gate = {module}\n"


def trained(study: search.Study) -> None:
    """Both trials are over, and the gate's weights are counted."""
    assert [trial.outcome for trial in study.trials] == ["finished"] * 2
    params = {trial.config["attention"]["name"]: trial.costs["params"] for trial in study.trials}
    # one weight a channel: stages of 4, 8 and 16 channels, a block each
    assert params["my_gate"] - params["none"] == 4 + 8 + 16


@pytest.mark.parametrize("executor", ["inprocess", pytest.param("ray", marks=pytest.mark.ray)])
def test_an_attention_of_one_s_own_is_searched(
    executor: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The example plugs in, trains and is counted, here and in the workers of Ray."""
    if executor == "ray":
        request.getfixturevalue("cluster")
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    catalogue.plug(EXAMPLES / "my_gate.py")
    assert spaces.load(path).size() == 2
    trained(search.run(path, out=tmp_path / "runs", executor=executor))


@pytest.fixture
def installed(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`eca-search` where a package that brings the example is installed, by its entry point."""
    site = tmp_path / "site"
    package = site / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(EXAMPLES / "my_gate.py", package)
    about = site / "my_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")

    def command(*words: str, module: str = "my_package.my_gate", **more: str) -> Any:
        (about / "entry_points.txt").write_text(ENTRY.format(module=module))
        paths = [str(site), str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]
        return subprocess.run(
            [sys.executable, "-m", "search", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more},
            capture_output=True,
            text=True,
        )

    return command


@pytest.mark.parametrize(
    "executor", ["inprocess", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])]
)
def test_an_installed_attention_is_searched(
    executor: str, tmp_path: Path, installed: Callable[..., Any]
) -> None:
    """A package's entry point is as good as --plugin, and every worker that has it finds it."""
    (tmp_path / "mine.yaml").write_text(MINE)

    done = installed("run", "mine.yaml", "--executor", executor)

    assert done.returncode == 0, done.stderr
    told = json.loads(installed("pareto", "runs/mine", "--json").stdout)
    assert told["trials"] == {"finished": 2, "pruned": 0, "failed": 0}


def test_an_installed_attention_is_named_and_its_text_is_in_the_run_key(
    tmp_path: Path, installed: Callable[..., Any]
) -> None:
    """`complexity` counts it, its name is offered, and its source is part of the run key."""
    told = installed("complexity", "resnet20", "--attention", "my_gate", "--json")
    counted = json.loads(told.stdout)["models"][0]["params"]
    assert counted == 272_474 + 3 * (16 + 32 + 64)
    assert (
        "did you mean 'my_gate'?"
        in installed("complexity", "resnet20", "--attention", "my_gat").stderr
    )
    site = tmp_path / "site" / "my_package" / "my_gate.py"
    script = (
        "from spaces import catalogue; import sys; "
        "sys.exit(catalogue.digest('attention', 'my_gate') != sys.argv[1])"
    )
    digest = hashlib.sha256(site.read_bytes()).hexdigest()
    paths = os.pathsep.join([str(tmp_path / "site"), str(EXAMPLES.parent)])
    environment = {**os.environ, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", script, digest], env=environment, check=True)


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        ("my_package.other", None, "cannot be found (no such module)"),
        ("nowhere.my_gate", None, "cannot be found (ModuleNotFoundError"),
        ("my_package", None, "allowed: a module named my_gate"),
        ("my_package.my_gate", "x = 1\n", "my_gate.py:1:1: not a variant"),
        ("my_package.my_gate", "def mapping(channels, stage): ...\n", "installed as attention"),
        ("my_package.my_gate", "import nowhere\n\ndef attention(channels): ...\n", "nowhere"),
    ],
)
def test_a_broken_entry_point_is_told(
    module: str, text: str | None, said: str, tmp_path: Path, installed: Callable[..., Any]
) -> None:
    """What is wrong with it, and where, in at most six lines; nothing else is the worse for it."""
    if text is not None:
        (tmp_path / "site" / "my_package" / "my_gate.py").write_text(text)

    done = installed("complexity", "resnet20", "--attention", "my_gate", module=module)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 6
    assert installed("complexity", "resnet20", module=module).returncode == 0


def test_timm_where_it_is_not_is_told(tmp_path: Path, installed: Callable[..., Any]) -> None:
    """`{name: timm}` without timm is exit 2, and says how to get it."""
    (tmp_path / "timm.py").write_text("raise ImportError('broken')\n")

    paths = os.pathsep.join([str(tmp_path), str(EXAMPLES.parent)])
    done = installed("complexity", "resnet20", "--attention", "timm", PYTHONPATH=paths)

    assert done.returncode == 2
    assert "pip install 'eca-search[timm]'" in done.stderr
