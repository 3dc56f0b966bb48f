"""What every task promises."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import trainers
from spaces import catalogue
from spaces.config import Config
from spaces.errors import VariantError
from trainers import variants
from trainers.tasks import LABELS, check, targets, task_of


@pytest.fixture(params=[name for name in variants.names("task") if targets(name) == LABELS])
def make(request: pytest.FixtureRequest) -> object:
    """The function of every task that is taught labels."""
    return variants.load("task", request.param)


def test_there_are_tasks() -> None:
    """The folder is found."""
    assert variants.names("task") == ["classification", "detection", "instance_segmentation"]


def recipe(name: str, **training: Any) -> Config:
    """Any config of a task; its data need not be there."""
    dataset = "digits" if targets(name) == LABELS else "coco"
    return Config.model_validate(
        {
            "name": "t",
            "task": {"name": name},
            "dataset": {"name": dataset, "root": "/nowhere"},
            "backbone": {"name": "resnet", "depth": 18, "width": 0.125},
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}} | training,
        }
    )


@pytest.mark.parametrize("name", variants.names("task"))
def test_a_task_says_how_it_is_judged(name: str) -> None:
    """In its file, where it is read without torch, the first as the task itself says."""
    told = catalogue.metrics(name)
    task = task_of(recipe(name))
    assert next(iter(told)) == task.metric
    assert told[task.metric] == "max"
    assert set(told.values()) <= {"max", "min"}
    assert 0 <= task.chance < 1
    assert told == variants.module("task", name).METRICS


@pytest.mark.parametrize("name", variants.names("task"))
def test_a_task_heads_a_backbone(name: str) -> None:
    """Its network asks nothing of the data but what is described, and learns: loss and tally."""
    config = recipe(name)
    task, network = task_of(config), trainers.build(config).train()
    if targets(name) == LABELS:
        images: Any = torch.randn(4, 1, 8, 8)
        truth: Any = torch.tensor([0, 1, 2, 3])
    else:
        images = [torch.randn(3, 64, 96), torch.randn(3, 64, 64)]
        one = {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([80])}
        one["masks"] = torch.ones(1, 64, 96, dtype=torch.uint8)
        none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
        truth = [one, none | {"masks": torch.zeros(0, 64, 64, dtype=torch.uint8)}]
    loss, tally = task.learn(network, images, truth)
    loss.backward()
    assert loss.shape == ()
    assert tally.dtype == torch.float64
    assert not tally.requires_grad
    told = task.metrics(tally.tolist())
    assert told["loss"] == pytest.approx(loss.item(), rel=1e-5)
    twice = task.metrics((2 * tally).tolist())
    assert twice == pytest.approx(told)


@pytest.mark.parametrize("name", variants.names("task"))
def test_a_task_fits_some_dataset(name: str) -> None:
    """And says which it does not fit, before any data are looked at."""
    check(recipe(name))
    others = {LABELS: "coco"}.get(targets(name), "digits")
    whole = recipe(name).model_dump(mode="json") | {"dataset": {"name": others}}
    with pytest.raises(
        ValueError, match=rf"task\.name: {name} asks for {targets(name)}, and {others}"
    ):
        Config.model_validate(whole)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    monkeypatch.setattr("trainers.tasks.find_spec", lambda name: None)
    check(recipe("classification"))
    with pytest.raises(VariantError) as raised:
        check(recipe("detection"))
    assert str(raised.value) == (
        "task.name: detection needs faster_coco_eval: pip install 'eca-search[detection]'"
    )


def test_tallies_add_up(make: object) -> None:
    """The metrics of two batches' added tallies are those of the two batches together."""
    task = make(4, 0.1)  # type: ignore[operator]
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(10, 4, generator=generator)
    labels = torch.randint(4, (10,), generator=generator)
    parts = task.tally(outputs[:3], labels[:3]) + task.tally(outputs[3:], labels[3:])
    whole = task.metrics(task.tally(outputs, labels).tolist())
    assert task.metrics(parts.tolist()) == pytest.approx(whole, rel=1e-6)  # float32 sums
    assert {"loss", "accuracy"} <= set(whole)


def test_loss_can_be_minimised(make: object) -> None:
    """A scalar with a gradient, lower for the right answer than for a wrong one."""
    task = make(3, 0.0)  # type: ignore[operator]
    labels = torch.tensor([0, 1])
    right = (10 * torch.eye(3)[labels]).requires_grad_()
    loss = task.loss(right, labels)
    loss.backward()
    assert loss.shape == ()
    assert right.grad is not None
    assert loss < task.loss(10 * torch.eye(3)[(labels + 1) % 3], labels)


def test_chance_is_what_constant_answers_score(make: object) -> None:
    """A network that always says the same reaches the chance level on balanced classes."""
    task = make(5, 0.0)  # type: ignore[operator]
    outputs = torch.tensor([[1.0, 0, 0, 0, 0]]).expand(5, 5)
    metrics = task.metrics(task.tally(outputs, torch.arange(5)).tolist())
    assert metrics["accuracy"] == task.chance == 0.2


def test_classification_is_cross_entropy() -> None:
    """Loss with smoothed labels, metrics without; by hand for two images of two classes."""
    task = variants.load("task", "classification")(2, 0.2)
    outputs, labels = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    # probabilities 3/4 and 1/4, then 1/2 and 1/2; smoothed targets 0.9 and 0.1
    plain = (math.log(4 / 3) + math.log(2)) / 2
    smoothed = (0.9 * math.log(4 / 3) + 0.1 * math.log(4) + math.log(2)) / 2
    metrics = task.metrics(task.tally(outputs, labels).tolist())
    assert metrics == pytest.approx({"loss": plain, "accuracy": 0.5})
    assert task.loss(outputs, labels).item() == pytest.approx(smoothed)


def test_half_precision_outputs_are_judged_in_full() -> None:
    """bf16 logits give the loss of their float32 values."""
    task = variants.load("task", "classification")(3, 0.0)
    outputs, labels = torch.randn(4, 3).bfloat16(), torch.tensor([0, 1, 2, 0])
    expected = cross_entropy(outputs.float(), labels)
    assert torch.equal(task.loss(outputs, labels), expected)


@pytest.mark.parametrize(
    ("said", "taught"),
    [
        ('("boxes", "masks")', "masks"),
        ('{"boxes"}', "boxes"),
        ('("labels",)', LABELS),
        ('"masks"', "masks"),
    ],
)
def test_what_a_person_s_task_is_taught(tmp_path: Path, said: str, taught: str) -> None:
    """However its file writes it."""
    file = tmp_path / "mine.py"
    file.write_text(f"TARGETS = {said}\n\ndef task(classes, label_smoothing): ...\n")
    catalogue.plug(file)
    assert targets("mine") == taught
