"""A search that starts from weights in a file: refused before it begins, or begun with them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch

import search
import spaces
import trainers
from search.beforehand import preflight
from search.beforehand.examine import examiner
from search.cli import main
from search.report import export

SPACE = """\
name: begun
dataset: {name: digits, subset: 200, val: 0.2}
backbone: {name: resnet, depth: 8, width: 0.25, pretrained: weights/start.pt}
training: {epochs: 1, batch_size: 50, optimizer: {name: sgd, lr: 0.01}}
search: {executor: inprocess}
"""


class Said(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str


Eca = Callable[..., Said]


@pytest.fixture
def eca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Eca:
    """Run `eca-search ARGUMENTS` here, in a folder other than the space's."""
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")

    def call(*arguments: object) -> Said:
        code = main([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """A space file, and beside it the weights that it starts from."""
    (tmp_path / "begun.yaml").write_text(SPACE)
    (tmp_path / "weights").mkdir()
    torch.save(network().state_dict(), tmp_path / "weights" / "start.pt")
    return tmp_path / "begun.yaml"


def network(**backbone: Any) -> torch.nn.Module:
    """A network of digits, its weights drawn with a seed that no replicate has."""
    text = {"name": "x", "dataset": {"name": "digits"}, "training": {"epochs": 1}}
    text["training"] |= {"optimizer": {"name": "sgd", "lr": 0.1}}
    chosen = {"name": "resnet", "depth": 8, "width": 0.25} | backbone
    return trainers.build(spaces.Config.model_validate(text | {"backbone": chosen}), seed=99)


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize("wrong", ["absent", "of another depth", "evil", "truncated"])
def test_refused_where_it_stands(eca: Eca, space: Path, command: str, wrong: str) -> None:
    """Exit 2 at the value in the file, in one line, with nothing created."""
    file = space.parent / "weights" / "start.pt"
    if wrong == "absent":
        file.unlink()
    elif wrong == "of another depth":
        torch.save(network(depth=14).state_dict(), file)
    elif wrong == "evil":
        torch.save({"x": print}, file)
    else:
        file.write_bytes(file.read_bytes()[:-50])
    before = sorted(space.parent.rglob("*"))
    said = eca(command, space)
    column = SPACE.splitlines()[2].index("weights/") + 1
    assert said.code == 2
    assert said.err.startswith(f"{space}:3:{column}: backbone.pretrained: ")
    assert len(said.err.splitlines()) == 1
    assert sorted(space.parent.rglob("*")) == before


def test_trials_start_from_it(space: Path, tmp_path: Path) -> None:
    """Trained with next to no rate a network has the file's weights still, in its export too."""
    file = space.parent / "weights" / "start.pt"
    state = torch.load(file, weights_only=True)
    study = search.run(space, out=tmp_path / "runs", overrides=["training.optimizer.lr=1e-9"])
    file.unlink()  # an export needs it no more
    done = export.export(study, study.trials[0])
    exported = safetensors.torch.load_file(done.folder / "weights.safetensors")
    assert set(exported) == set(state)
    for name, tensor in exported.items():
        if "running" not in name and "tracked" not in name:
            # 3 steps at 1e-9 times gradients below 100
            torch.testing.assert_close(tensor, state[name], rtol=0, atol=1e-6)
    card = (done.folder / "README.md").read_text()
    assert "training started from the weights in start.pt" in card
    assert 'overrides=["backbone.pretrained=null"]' in card
    again = f"backbone.pretrained={done.folder / 'weights.safetensors'}"
    assert preflight.pretrained(spaces.load(space, overrides=[again])) == []


def test_the_path_is_relative_to_the_space(eca: Eca, space: Path) -> None:
    """The study keeps it absolute: workers have working folders of their own."""
    assert eca("validate", space).code == 0
    loaded = spaces.load(space)
    config = loaded.at({})
    assert config.backbone.pretrained == str(space.parent / "weights" / "start.pt")
    assert spaces.load("x", text=loaded.to_yaml()).at({}) == config


def test_options_that_it_does_not_fit_are_refused(eca: Eca, space: Path) -> None:
    """A width that no file fits would never train: it is named; as a choice of both it is fine."""
    text = SPACE.replace("width: 0.25", "width: {choice: [0.25, 0.5]}")
    space.write_text(text.replace("search: {", "search: {trials: 2, "))
    said = eca("validate", space)
    assert said.code == 2
    assert "no setting with backbone.width=0.5 can be built" in said.err
    assert "backbone.stem.0.weight is (4, 1, 3, 3) in the file, (8, 1, 3, 3) here" in said.err
    fine = text.replace("weights/start.pt", "{choice: [weights/start.pt, null]}")
    space.write_text(fine.replace("search: {", "search: {trials: 2, "))
    assert eca("validate", space).code == 0


def test_another_classifier_is_remarked(eca: Eca, space: Path) -> None:
    """`validate` says that it starts anew, and `run` before its first trial."""
    file = space.parent / "weights" / "start.pt"
    state = torch.load(file, weights_only=True)
    torch.save({**state, "fc.weight": torch.ones(7, 16), "fc.bias": torch.ones(7)}, file)
    assert "of 7 classes: this one of 10 starts anew" in eca("validate", space).out
    loaded, said = spaces.load(space), list[str]()
    preflight.whole(loaded, examiner(loaded), said.append)
    assert any("of 7 classes: this one of 10 starts anew" in line for line in said)


@pytest.mark.slow
def test_the_file_changes_between_two_runs(eca: Eca, space: Path, tmp_path: Path) -> None:
    """`resume` does not mix results of two files."""
    assert eca("run", space, "--out", tmp_path / "runs").code == 0
    file = space.parent / "weights" / "start.pt"
    state = torch.load(file, weights_only=True)
    torch.save({name: tensor * 1.5 for name, tensor in state.items()}, file)
    said = eca("resume", tmp_path / "runs" / "begun", "--trials", "2")
    assert said.code == 3
    assert "is not what this study began with" in said.err


def test_costs_need_no_file(eca: Eca, space: Path) -> None:
    """`complexity` counts a space's networks where the weights are not."""
    (space.parent / "weights" / "start.pt").unlink()
    told = eca("complexity", space, "--json")
    assert told.code == 0, told.err
    assert json.loads(told.out)["models"][0]["params"] > 0


def test_planning_without_a_file_stays_without_torch_s_weights() -> None:
    """A space that names none pays nothing for it."""
    code = (
        "import sys, spaces\n"
        "from search.beforehand import preflight\n"
        "assert preflight.pretrained(spaces.load('digits')) == []\n"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
