"""The examples run as they stand."""

from __future__ import annotations

import os
from pathlib import Path

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


def test_an_attention_of_one_s_own_is_searched(tmp_path: Path) -> None:
    """The example plugs in, trains and is counted."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ndataset: {name: digits, subset: 300}\n"
        "backbone: {name: resnet, depth: 8, width: 0.25}\n"
        "attention: {choice: [{name: none}, {name: my_gate, temperature: 2.0}]}\n"
        "training: {epochs: 1, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}\n"
        "search: {trials: 2, sampler: {name: BruteForceSampler}}\n"
    )
    catalogue.plug(EXAMPLES / "my_gate.py")
    assert spaces.load(path).size() == 2
    study = search.run(path, out=tmp_path / "runs", executor="inprocess")
    assert [trial.outcome for trial in study.trials] == ["finished"] * 2
    params = {trial.config["attention"]["name"]: trial.costs["params"] for trial in study.trials}
    # one weight a channel: stages of 4, 8 and 16 channels, a block each
    assert params["my_gate"] - params["none"] == 4 + 8 + 16
