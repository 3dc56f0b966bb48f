"""Searches among detectors: real ones, on real photographs where they are, judged by COCO's AP."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

import search
import spaces
import trainers
from search.beforehand.examine import examiner
from search.errors import Unfit
from search.front import pareto
from search.report import card
from search.store import default_uri
from search.study.study import Study
from spaces import Config, writer

pytest.importorskip("faster_coco_eval")

TINY = Path(os.environ.get("ECA_SEARCH_DATA", "/nowhere")) / "coco-tiny"
FOUND = TINY / "coco-tiny.zip"
SMALL = "channels: 16, box_features: 16, anchor_scale: 4, proposals: 10, detections: 5"
TRAINING = "train_proposals: 20, rpn_samples: 16, box_samples: 8, score_threshold: 0.0"
SPACE = f"""\
name: shapes
task: {{name: detection, detector: {{choice: [
  {{name: faster_rcnn, {SMALL}, {TRAINING}}},
  {{name: retinanet, channels: 16, detections: 5, score_threshold: 0.0}}]}}}}
dataset: {{name: coco, root: shapes, image_size: 64, classes: 2, val: 0.5, workers: 0}}
backbone: {{name: resnet, depth: 18, width: 0.25}}
attention: {{choice: [{{name: none}}, {{name: eca}}], default: eca}}
training: {{epochs: 1, batch_size: 3, optimizer: {{name: sgd, lr: 0.01}}}}
search:
  trials: 2
  executor: inprocess
  baselines:
    - {{task: {{detector: faster_rcnn}}, attention: {{name: eca}}}}
    - {{task: {{detector: retinanet}}, attention: {{name: none}}}}
"""


def shapes(root: Path, count: int = 6) -> None:
    """Photographs of bright squares on black, and what COCO's format says of them."""
    from PIL import Image

    for part in ("train", "val"):
        (root / f"{part}2017").mkdir(parents=True)
        images, objects = [], []
        for number in range(count):
            x, side = 8 + 4 * number, 16 + 4 * (number % 3)
            picture = Image.new("RGB", (80, 64))
            picture.paste((255, 255 * (number % 2), 0), (x, 8, x + side, 8 + side))
            picture.save(root / f"{part}2017" / f"{number:03d}.jpg")
            images.append(
                {"id": number, "file_name": f"{number:03d}.jpg", "width": 80, "height": 64}
            )
            outline = [x, 8, x + side, 8, x + side, 8 + side, x, 8 + side]
            objects.append(
                {
                    "id": number + 1,
                    "image_id": number,
                    "category_id": 1 + number % 2,
                    "bbox": [x, 8, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                    "segmentation": [outline],
                }
            )
        kinds = [{"id": 1, "name": "red"}, {"id": 2, "name": "yellow"}]
        told = {"images": images, "annotations": objects, "categories": kinds}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(told))


def recorded(study: Study) -> list[Run]:
    """The study's runs in MLflow, one a trial."""
    client = MlflowClient(default_uri(study.folder.parent))
    experiment = client.get_experiment_by_name(study.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return [run for run in runs if "eca.trial" in run.data.tags]


@pytest.mark.timeout(240)
def test_detectors_are_searched_like_any_network(tmp_path: Path, migrated: Path) -> None:
    """Two detectors over one backbone, trained and judged by AP: front, journal and MLflow have it,
    costs were known before, and the network is told apart by its detector.
    """
    shapes(tmp_path / "shapes")
    (tmp_path / "runs").mkdir()
    shutil.copy(migrated, tmp_path / "runs" / "mlflow.db")
    (tmp_path / "shapes.yaml").write_text(SPACE)
    study = search.run(tmp_path / "shapes.yaml", out=tmp_path / "runs", executor="inprocess")

    assert [trial.outcome for trial in study.trials] == ["finished"] * 2
    assert study.judged == "val_box_ap"
    assert study.origins["val_box_ap"] == 0.0
    assert len({trial.identity for trial in study.trials}) == 2
    for trial in study.trials:
        (epoch,) = trial.replicates[0].curve
        assert 0 <= epoch["val_box_ap"] <= epoch["val_box_ap50"] <= 1
        assert epoch["best_val_box_ap"] == epoch["val_box_ap"]
        assert trial.images == (3, 3)
    assert study.trials[0].kernels
    assert "detector=faster_rcnn" in study.trials[0].name
    assert study.pareto()
    assert search.load(study.folder).trials == study.trials
    finals = {run.data.metrics["final_val_box_ap"] for run in recorded(study)}
    assert finals == {pareto.measured(trial)["val_box_ap"] for trial in study.trials}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not FOUND.is_file(), reason="no coco-tiny below $ECA_SEARCH_DATA")
@pytest.mark.parametrize("name", ["coco_tiny_faster_rcnn", "coco_tiny_mask_rcnn"])
def test_a_ready_space_of_photographs_is_searched(name: str, tmp_path: Path) -> None:
    """On 60 real photographs: every loss falls, every trial is judged by COCO's figures, and the
    front by AP, params and MACs is in MLflow.
    """
    space = spaces.load(name, overrides=[f"dataset.root={TINY}"])
    study = search.run(space, out=tmp_path / "runs", executor="inprocess")

    metric = study.judged
    assert metric in ("val_box_ap", "val_mask_ap")
    assert list(study.objectives) == [metric, "params", "macs"]
    assert [trial.outcome for trial in study.trials] == ["finished"] * 6
    curves = [trial.replicates[0].curve for trial in study.trials]
    assert all(curve[-1]["train_loss"] < curve[0]["train_loss"] for curve in curves)
    assert all(0 <= epoch[metric] <= 1 for curve in curves for epoch in curve)
    front = {trial.number for trial in study.pareto()}
    runs = recorded(study)
    assert {int(r.data.tags["eca.trial"]) for r in runs if "eca.front" in r.data.tags} == front


TASKS = """\
{choice: [{name: detection, detector: {name: faster_rcnn, channels: 16, box_features: 16}},
  {name: instance_segmentation, detector: {name: mask_rcnn, channels: 16, box_features: 16}}]}
"""


def test_each_task_is_asked_of_the_data(tmp_path: Path) -> None:
    """Boxes without outlines suit detection, and after it still not instance segmentation."""
    root = tmp_path / "shapes"
    shapes(root)
    for file in (root / "annotations").iterdir():
        told = json.loads(file.read_text())
        for one in told["annotations"]:
            one["segmentation"] = []
        file.write_text(json.dumps(told))
    written = SPACE[: SPACE.index("search:")].replace("root: shapes", f"root: {root}")
    start, end = written.index("{name: detection"), written.index("dataset:")
    (tmp_path / "s.yaml").write_text(
        f"{written[:start]}{TASKS}{written[end:]}search: {{trials: 2}}"
    )
    space = spaces.load(tmp_path / "s.yaml")
    examine = examiner(space)
    assert examine({"task": "detection", "attention": "none"}).costs
    with pytest.raises(Unfit, match="have no outline"):
        examine({"task": "instance_segmentation", "attention": "none"})


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet", "mask_rcnn"])
def test_a_card_s_recipe_needs_no_file(name: str, tmp_path: Path) -> None:
    """Norms and stages that kept the weights of a file are as without one, and so it is read."""
    task = "instance_segmentation" if name == "mask_rcnn" else "detection"
    detector = {"name": name, "channels": 16, "frozen_stages": 2, "norms": "frozen"}
    chosen = {
        "name": "t",
        "task": {"name": task, "detector": detector},
        "dataset": {"name": "coco", "root": str(tmp_path), "image_size": 64},
        "backbone": {"name": "resnet", "depth": 18, "width": 0.25, "pretrained": "gone.pth"},
        "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
    }
    config = Config.model_validate(chosen)
    (tmp_path / "config.yaml").write_text(writer.dump(config.model_dump(mode="json")))
    said = "\n".join(card._use(config, "it is a detector"))
    found = re.search(r"overrides=(\[.*?\])", said)
    assert found is not None
    space = spaces.load(tmp_path / "config.yaml", overrides=ast.literal_eval(found[1]))
    assert trainers.build(space.at({})).state_dict()
    assert "list of images (3, h, w)" in said
    assert "logits" not in said
