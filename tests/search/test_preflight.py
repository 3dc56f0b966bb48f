"""What is looked at before a study goes on: whether it would still be the same study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import spaces
from search.beforehand import preflight
from search.beforehand.examine import examiner
from search.errors import Unfit
from search.study.study import Study
from search.trial import Candidate
from spaces import SpaceError, catalogue

SPACE = """\
name: pictures
task: {name: classification}
dataset: {name: image_folder, root: ROOT, image_size: 16, val: 0.2, workers: 0}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5]}}
attention: {choice: [{name: none}, {name: eca}]}
training: {epochs: 1, batch_size: 8, optimizer: {name: sgd, lr: 0.1}}
search: {trials: 3}
"""
Examine = Callable[[dict[str, Any]], Candidate]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study of images in a folder, with three trials that wait."""
    from PIL import Image

    for number in range(20):
        folder = tmp_path / "images" / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number * 6, 0, 0)).save(folder / f"{number}.png")
    path = tmp_path / "pictures.yaml"
    path.write_text(SPACE.replace("ROOT", str(tmp_path / "images")))
    space = spaces.load(path)
    reference = {"params": 1e6, "macs": 1e8}
    folder = tmp_path / "runs" / "pictures"
    study = Study.create(folder, space, examiner(space), reference=reference, chance=0.5)
    for _ in range(3):
        study.next()
    study.close()
    return Study.read(folder, space)


def test_a_study_whose_data_changed_does_not_go_on(study: Study, tmp_path: Path) -> None:
    """One front is of one dataset: images added since are told, with the way out."""
    preflight.unchanged(study, examiner(study.space))

    images = tmp_path / "images" / "train" / "a"
    (images / "0.png").rename(images / "zero.png")
    with pytest.raises(Unfit, match=r"the data .* is not what this study began with") as refused:
        preflight.unchanged(study, examiner(study.space))
    assert str(study.folder) in str(refused.value)
    assert study.trials[0].key in str(refused.value)
    assert "--fork" in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 6


def test_each_set_of_variants_is_looked_at_once(study: Study) -> None:
    """A plugin that only some trials have is noticed; the others cost no second look."""
    real, looked = examiner(study.space), []

    def examine(values: dict[str, Any]) -> Candidate:
        looked.append(values["attention"])
        return real(values)

    preflight.unchanged(study, examine)
    assert sorted(looked) == sorted({trial.values["attention"] for trial in study.trials})


def test_a_variant_that_builds_no_more_is_told(study: Study) -> None:
    """A plugin edited until it raises is a change as well."""

    def broken(values: dict[str, Any]) -> Candidate:
        raise ValueError("no such argument: ratio")

    with pytest.raises(Unfit, match="trial 0: it cannot be built: no such argument: ratio"):
        preflight.unchanged(study, broken)


def test_a_norm_that_processes_cannot_share_is_refused_before(
    write_space: Callable[..., Path], tmp_path: Path
) -> None:
    """Not on a worker, after minutes: by `validate` and by `run`, where there are several."""
    plugin = tmp_path / "ghost.py"
    plugin.write_text(
        "from torch import nn\n\n\nclass Ghost(nn.BatchNorm2d):\n    pass\n\n\n"
        "def attention(channels: int) -> nn.Module:\n"
        '    """A norm of one\'s own."""\n    return Ghost(channels)\n'
    )
    catalogue.plug(plugin)
    ghost = {"width": "0.25", "attention": "{name: ghost}"}
    alone = spaces.load(write_space(**ghost))
    several = spaces.load(write_space(**ghost, search="resources: {processes: 2}"))
    assert preflight.first_point(alone, examiner(alone)) == {}
    with pytest.raises(SpaceError, match=r"cannot share the batch norm .* \(got Ghost"):
        preflight.first_point(several, examiner(several))
    preflight.foreseen(alone)
    with pytest.raises(SpaceError, match=r"cannot share the batch norm .* \(got Ghost"):
        preflight.foreseen(several)
