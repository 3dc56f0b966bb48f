"""Schedules and optimizers against PyTorch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from spaces.config import Training
from trainers.optim import optimizer, schedule

EPOCHS, STEPS = 7, 11


def recipe(**schedule_keys: Any) -> Training:
    """Seven epochs of eleven steps."""
    return Training.model_validate(
        {
            "epochs": EPOCHS,
            "optimizer": {"name": "sgd", "lr": 0.4},
            "schedule": schedule_keys,
        }
    )


def of_torch(make: Any, per_epoch: bool = False) -> list[float]:
    """The rates that one of PyTorch's schedulers gives at every step."""
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = make(sgd)
    rates = []
    for step in range(EPOCHS * STEPS):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        if not per_epoch or (step + 1) % STEPS == 0:
            scheduler.step()
    return rates


ORACLES: dict[str, tuple[dict[str, Any], Any, bool]] = {
    "cosine": (
        {"name": "cosine"},
        lambda sgd: lr_scheduler.CosineAnnealingLR(sgd, EPOCHS * STEPS),
        False,
    ),
    "step": (
        {"name": "step", "step_size": 3, "gamma": 0.2},
        lambda sgd: lr_scheduler.StepLR(sgd, 3, 0.2),
        True,
    ),
    "one_cycle": (
        {"name": "one_cycle", "pct_start": 0.4, "div_factor": 10.0, "final_div_factor": 100.0},
        lambda sgd: lr_scheduler.OneCycleLR(
            sgd,
            0.4,
            EPOCHS * STEPS,
            pct_start=0.4,
            div_factor=10,
            final_div_factor=100,
            cycle_momentum=False,
        ),
        False,
    ),
    "constant": ({"name": "constant"}, lambda sgd: lr_scheduler.ConstantLR(sgd, 1.0), False),
    "warm-up": (
        {"name": "cosine", "warmup_epochs": 2},
        lambda sgd: lr_scheduler.SequentialLR(
            sgd,
            [
                lr_scheduler.LambdaLR(sgd, lambda step: (step + 1) / (2 * STEPS)),
                lr_scheduler.CosineAnnealingLR(sgd, (EPOCHS - 2) * STEPS),
            ],
            milestones=[2 * STEPS],
        ),
        False,
    ),
}


@pytest.mark.parametrize("name", ORACLES)
def test_rates_are_pytorchs(name: str) -> None:
    """At every step the closed form gives the rate of PyTorch's scheduler."""
    keys, make, per_epoch = ORACLES[name]
    factor = schedule(recipe(**keys), STEPS)
    rates = [0.4 * factor(step) for step in range(EPOCHS * STEPS)]
    # PyTorch multiplies step by step, which adds up some roundings of float64
    assert rates == pytest.approx(of_torch(make, per_epoch), rel=1e-9, abs=1e-12)


def test_steps_count_from_the_first_epoch_of_training() -> None:
    """Drops after epochs 3 and 6 with a warm-up of two as without one (Goyal et al. 2017)."""
    warm = schedule(recipe(name="step", step_size=3, gamma=0.2, warmup_epochs=2), STEPS)
    cold = schedule(recipe(name="step", step_size=3, gamma=0.2), STEPS)
    factors = [warm(step) for step in range(EPOCHS * STEPS)]
    assert factors[: 2 * STEPS] == [(step + 1) / (2 * STEPS) for step in range(2 * STEPS)]
    assert factors[2 * STEPS :] == [cold(step) for step in range(2 * STEPS, EPOCHS * STEPS)]
    assert [factors[epoch * STEPS] for epoch in (2, 3, 5, 6)] == pytest.approx([1, 0.2, 0.2, 0.04])


def test_a_warm_up_over_the_first_drop_ends_below_the_full_rate() -> None:
    """A warm-up as long as step_size rises to the full rate, and the drop follows at once."""
    factor = schedule(recipe(name="step", step_size=3, gamma=0.2, warmup_epochs=3), STEPS)
    assert [factor(3 * STEPS - 1), factor(3 * STEPS)] == pytest.approx([1, 0.2])


def test_a_cosine_has_what_the_warm_up_leaves() -> None:
    """At full rate when the warm-up ends, at nothing after the last epoch, half-way in between."""
    factor = schedule(recipe(name="cosine", warmup_epochs=3), STEPS)
    assert [factor(3 * STEPS), factor(5 * STEPS)] == pytest.approx([1, 0.5])
    assert 0 < factor(EPOCHS * STEPS - 1) < 0.01


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("keys", [keys for keys, _, _ in ORACLES.values()], ids=list(ORACLES))
def test_the_shortest_trainings_have_rates(keys: dict[str, Any], steps: int) -> None:
    """One to three steps per epoch give rates between nothing and the full one."""
    factor = schedule(recipe(**keys), steps)
    assert all(0 <= factor(step) <= 1 for step in range(EPOCHS * steps))


def test_one_cycle_of_one_step() -> None:
    """The shortest training of all does not divide by nothing."""
    training = recipe(name="one_cycle").model_copy(update={"epochs": 1})
    assert 0 < schedule(training, 1)(0) <= 1


@pytest.mark.parametrize(
    ("chosen", "kind", "expected"),
    [
        (
            {"name": "sgd", "lr": 0.2, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
            torch.optim.SGD,
            {"lr": 0.2, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        ),
        (
            {"name": "adamw", "lr": 0.3, "weight_decay": 0.05},
            torch.optim.AdamW,
            {"lr": 0.3, "weight_decay": 0.05, "betas": (0.9, 0.999)},
        ),
    ],
)
def test_optimizers_take_their_settings(
    chosen: dict[str, Any], kind: type, expected: dict[str, Any]
) -> None:
    """Every setting reaches PyTorch's optimizer, and all parameters are in one decayed group."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    made = optimizer(net, Training.model_validate({"epochs": 1, "optimizer": chosen}))
    assert type(made) is kind
    (group,) = made.param_groups
    assert {key: group[key] for key in expected} == expected
    assert len(group["params"]) == len(list(net.parameters()))


def test_milestones_drop_after_their_epochs() -> None:
    """A tenth after 2 epochs and a hundredth after 3; the warm-up is counted in steps."""
    factor = schedule(recipe(name="milestones", epochs=[2, 3], warmup_steps=4), STEPS)
    told = [factor(step) for step in range(4 * STEPS)]
    assert told[:4] == [0.25, 0.5, 0.75, 1.0]
    assert set(told[4 : 2 * STEPS]) == {1.0}
    assert set(told[2 * STEPS : 3 * STEPS]) == {0.1}
    assert told[3 * STEPS :] == pytest.approx([0.01] * STEPS)
