"""Optimizers, and learning-rate schedules as plain functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from spaces.config import SGD, Cosine, Milestones, OneCycle, Step, Training


def optimizer(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    """SGD or AdamW over all parameters but frozen ones, each decayed as in the paper's runs."""
    chosen = training.optimizer
    free = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if isinstance(chosen, SGD):
        return torch.optim.SGD(
            free,
            chosen.lr,
            momentum=chosen.momentum,
            nesterov=chosen.nesterov,
            weight_decay=chosen.weight_decay,
        )
    return torch.optim.AdamW(free, chosen.lr, weight_decay=chosen.weight_decay)


def schedule(training: Training, steps: int) -> Callable[[int], float]:
    """What the learning rate is multiplied by at each step (from 0), for epochs of `steps` steps.

    A function without state: where a run stands in its schedule is the number of its steps. In
    `warmup_epochs` the factor rises linearly from one step's share to 1. Then `cosine` falls to 0
    over the epochs that are left. `step` counts its epochs from the first of training, so that its
    drops come where they would without a warm-up (Goyal et al. 2017, arXiv:1706.02677, section
    5.1: 5 epochs of warm-up, drops after 30, 60 and 80); so does `milestones`, whose warm-up is a
    number of steps. `one_cycle` rises by itself.
    """
    chosen = training.schedule
    total = training.epochs * steps
    match chosen:
        case OneCycle():
            warm = 0
        case Milestones():
            warm = chosen.warmup_steps
        case _:
            warm = chosen.warmup_epochs * steps

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        match chosen:
            case Cosine():
                return cosine(step - warm, total - warm)
            case Step():
                return float(chosen.gamma ** (step // steps // chosen.step_size))
            case Milestones():
                passed = sum(step // steps >= epoch for epoch in chosen.epochs)
                return float(chosen.gamma**passed)
            case OneCycle():
                return one_cycle(step, total, chosen)
            case _:
                return 1.0

    return factor


def cosine(step: int, total: int) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5)."""
    return _between(1.0, 0.0, step / total)


def one_cycle(step: int, total: int, cycle: OneCycle) -> float:
    """Half a cosine up to 1, another down, reached at the last step.

    Smith and Topin 2018 (arXiv:1708.07120) in the form of PyTorch's `OneCycleLR`, without its
    cycling of the momentum.
    """
    first = 1 / cycle.div_factor
    top = cycle.pct_start * total - 1
    if step < top:
        return _between(first, 1.0, step / top)
    return _between(1.0, first / cycle.final_div_factor, (step - top) / (total - 1 - top))


def _between(start: float, end: float, share: float) -> float:
    """Half a cosine from `start` (share 0) to `end` (share 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
