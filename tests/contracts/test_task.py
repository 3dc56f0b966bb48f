"""What every task promises."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from trainers import variants


@pytest.fixture(params=variants.names("task"))
def make(request: pytest.FixtureRequest) -> object:
    """The function of every task."""
    return variants.load("task", request.param)


def test_there_are_tasks() -> None:
    """The folder is found."""
    assert variants.names("task") == ["classification"]


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
