"""What a space may be judged by is what its task says that it reports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import spaces
from spaces import SpaceError, catalogue
from spaces.objectives import everywhere, goals, judged_by, spoken

PLUGIN = Path(__file__).parents[1] / "plugins" / "recalled.py"
SPACE = """\
name: judged
task: {task}
dataset: {dataset}
backbone: {{name: resnet, depth: 18}}
training: {{epochs: 12, batch_size: 8, optimizer: {{name: sgd, lr: 0.01}}}}
search: {search}
"""
FASTER, MASK = "{name: detection}", "{name: instance_segmentation}"


@pytest.fixture
def load(tmp_path: Path) -> object:
    """Load a space of a task and a search."""

    def load(task: str, search: str = "{}", dataset: str = "{name: coco}") -> spaces.Space:
        path = tmp_path / "judged.yaml"
        path.write_text(SPACE.format(task=task, search=search, dataset=dataset))
        return spaces.load(path)

    return load


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        (FASTER, "val_box_ap"),
        (MASK, "val_mask_ap"),
        (f"{{choice: [{FASTER}, {MASK}]}}", "val_box_ap"),
        (f"{{choice: [{MASK}, {FASTER}]}}", "val_box_ap"),
    ],
)
def test_objectives_follow_from_the_task(load, task: str, metric: str) -> None:
    """Without any: the task's own metric, params and MACs; of several tasks what all report."""
    search = "{trials: 2}" if "choice" in task else "{}"
    found = load(task, search).search.objectives
    assert {name: goal.goal for name, goal in found.items()} == {
        metric: "max",
        "params": "min",
        "macs": "min",
    }


@pytest.mark.parametrize(
    ("task", "objective", "said"),
    [
        (FASTER, "val_mask_ap: max", "detection does not report it (allowed: val_box_ap, val_box"),
        (FASTER, "val_accuracy: max", "detection does not report it (allowed: val_box_ap, val_box"),
        (FASTER, "val_box_app: max", "no metric named 'val_box_app'; did you mean 'val_box_ap'?"),
        (FASTER, "train_loss: min", "detection does not report it"),
        (FASTER, "test_box_ap: max", "`eca-search confirm` alone (allowed: val_box_ap, "),
        (MASK, "val_mask_ap: min", "wrong way (got min; allowed: max)"),
        (
            f"{{choice: [{FASTER}, {MASK}]}}",
            "val_mask_ap: max",
            "detection and instance_segmentation do not all report it",
        ),
    ],
)
def test_an_objective_of_another_task_is_refused_in_its_place(
    load, task: str, objective: str, said: str
) -> None:
    """With the names that are allowed, at line and column of the objective."""
    with pytest.raises(SpaceError) as caught:
        load(task, f"{{trials: 2, objectives: {{{objective}}}}}")
    (problem,) = caught.value.problems
    assert problem.key == f"search.objectives.{objective.partition(':')[0]}"
    assert problem.place.line == 6
    assert said in problem.message


def test_what_a_plugin_reports_is_read_from_its_file(load) -> None:
    """Its METRICS, without importing it: names, ways and the default."""
    catalogue.plug(PLUGIN)
    space = load("{name: recalled}", dataset="{name: digits}")
    assert next(iter(space.search.objectives)) == "val_recall"
    assert judged_by(["recalled"]) == "recall"
    assert list(goals(["recalled"]))[:3] == ["val_recall", "val_accuracy", "val_loss"]
    assert everywhere()["val_recall"] == {"max"}
    assert "recalled" not in sys.modules


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[1]", "METRICS is"),
        ("{}", "METRICS is"),
        ("{'Big': 'max'}", "no metric's name"),
        ("{'score': 'up'}", 'which way score is better (got "up"; allowed: max, min)'),
        ("{'error': 'min'}", "judged by the first, and it goes up"),
        ("dict(score='max')", "is no literal"),
    ],
)
def test_a_plugin_that_says_nothing_readable_is_refused(
    tmp_path: Path, written: str, said: str
) -> None:
    """At its line, when it is plugged in."""
    file = tmp_path / "mine.py"
    file.write_text(f"METRICS = {written}\n\ndef task(classes, label_smoothing): ...\n")
    with pytest.raises(SpaceError, match=r"mine\.py:1:") as caught:
        catalogue.plug(file)
    assert said in str(caught.value)


def test_a_metric_that_goes_down_needs_where_it_is_measured_from(load, tmp_path: Path) -> None:
    """Nobody knows what guessing scores there, as is known of a loss."""
    file = tmp_path / "mine.py"
    said = 'METRICS: dict[str, str] = {"score": "max", "error": "min"}\n'
    file.write_text(f"{said}def task(classes, label_smoothing): ...\n")
    catalogue.plug(file)
    down = "objectives: {val_score: max, val_error: min}"
    with pytest.raises(SpaceError, match=r"search\.reference\.val_error: missing"):
        load("{name: mine}", f"{{{down}}}", "{name: digits}")
    space = load("{name: mine}", f"{{{down}, reference: {{val_error: 2}}}}", "{name: digits}")
    assert space.search.reference == {"val_error": 2}


def test_a_misspelt_task_is_all_that_is_said(load) -> None:
    """Objectives of a task that there is not are no second mistake."""
    with pytest.raises(SpaceError) as caught:
        load("{name: detektion}", "{objectives: {val_box_ap: max}}")
    assert [problem.key for problem in caught.value.problems] == ["task.name"]


def test_a_task_is_refused_where_the_data_has_nothing_for_it(load) -> None:
    """Boxes are asked for, and digits has labels; coco has no labels."""
    with pytest.raises(SpaceError, match=r"task\.name: detection asks for boxes, and digits has"):
        load(FASTER, dataset="{name: digits}")
    with pytest.raises(SpaceError, match=r"classification asks for labels.*allowed: detection"):
        load("{name: classification}")


@pytest.mark.parametrize(
    ("detector", "found"),
    [
        ("", {"name": "faster_rcnn", "proposals": 1000}),
        (", detector: retinanet", {"name": "retinanet", "detections": 100}),
        (
            ", detector: {name: faster_rcnn, proposals: 50}",
            {"name": "faster_rcnn", "proposals": 50},
        ),
    ],
)
def test_a_detector_is_a_name_or_a_component(load, detector: str, found: dict) -> None:
    """Completed with its defaults either way, so that what means the same is equal."""
    config = load(f"{{name: detection{detector}}}").at({})
    assert found.items() <= config.task.params["detector"].items()
    again = spaces.Config.model_validate(config.model_dump(mode="json"))
    assert again == config


def test_a_search_chooses_among_detectors(load) -> None:
    """Each with holes of its own, named by their paths."""
    options = "{choice: [{name: faster_rcnn, proposals: {choice: [50, 100]}}, retinanet]}"
    space = load(f"{{name: detection, detector: {options}}}", "{trials: 3}")
    assert [p.name for p in space.parameters] == [
        "task.detector",
        "task.detector.faster_rcnn.proposals",
    ]
    assert space.size() == 3


@pytest.mark.parametrize(
    ("detector", "said"),
    [
        ("mask_rcnn", "no such detector.*allowed: faster_rcnn, retinanet"),
        ("{name: faster_rcnn, proposal: 3}", r"detector\.proposal: unknown key; did you mean"),
        ("{proposals: 3}", "detection has no such detector"),
        ("7", "detection has no such detector"),
    ],
)
def test_a_detector_that_does_not_fit_is_refused(load, detector: str, said: str) -> None:
    """By name where it is not the task's, by key where it has no such parameter."""
    with pytest.raises(SpaceError, match=said):
        load(f"{{name: detection, detector: {detector}}}")


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (
            "[8, 12]",
            "training.schedule.epochs: never reached (got 12; allowed: less than",
        ),
        ("[8, 8]", "training.schedule.milestones.epochs: not in order"),
        ("[]", "at least 1 entry"),
    ],
)
def test_milestones_come_one_after_the_other_and_within_the_training(
    tmp_path: Path, schedule: str, said: str
) -> None:
    """Else a drop of the learning rate would never come."""
    path = tmp_path / "judged.yaml"
    text = SPACE.format(task=FASTER, search="{}", dataset="{name: coco}")
    drops = f"schedule: {{name: milestones, epochs: {schedule}}}"
    path.write_text(text.replace("lr: 0.01}", f"lr: 0.01}}, {drops}"))
    with pytest.raises(SpaceError) as caught:
        spaces.load(path)
    assert said.removeprefix("training.schedule.milestones.") in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("val_accuracy", "accuracy"),
        ("test_box_ap50", "box AP50"),
        ("val_mask_ap_small", "mask AP small"),
        ("val_balanced_accuracy", "balanced accuracy"),
        ("macs", "macs"),
    ],
)
def test_a_metric_in_words(metric: str, words: str) -> None:
    """As a sentence has it."""
    assert spoken(metric) == words


def test_what_tasks_report_is_known_without_torch() -> None:
    """Reading a space of detectors imports nothing heavy."""
    code = (
        "import sys, spaces; spaces.load('coco_mask_rcnn'); "
        "print({'torch', 'torchvision', 'numpy', 'faster_coco_eval'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
