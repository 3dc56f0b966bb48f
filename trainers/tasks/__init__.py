"""Tasks, one file each: the head over a backbone, what it is taught and how it is judged.

A task file NAME.py defines `task(classes, label_smoothing, *, own parameters) -> Task`, and beside
it a literal `METRICS = {name: "max" or "min"}`: what judging reports, after `val_` or `test_`; the
first is what networks are judged by. It can be read without importing torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from trainers.backbones import Backbone
    from trainers.datasets import Description
    from trainers.team import Team


class Judging(Protocol):
    """A judgement that is being formed, of one network, batch by batch."""

    def see(self, network: nn.Module, images: Any, targets: Any) -> None:
        """The network's answers to a batch, beside what is right; no gradients are kept."""

    def metrics(self) -> dict[str, float]:
        """The figures over every batch of every process of the team; all of them ask."""


class Task(Protocol):
    """What training asks of a task.

    Images and targets are a batch's, as the dataset gives them: tensors, or lists of so many.
    """

    metric: str  # what networks are judged by, 0..1 and the more the better: "accuracy"
    chance: float  # what a network that has learnt nothing scores there

    def network(self, body: Backbone, data: Description) -> nn.Module:
        """The network: a backbone, here called `backbone`, and the head over it."""

    def learn(self, network: nn.Module, images: Any, targets: Any) -> tuple[Tensor, Tensor]:
        """What training minimises, a scalar mean over the images, and its tally.

        The tally is sums over the batch, kept on the device, that add up over batches; float64.
        """

    def metrics(self, totals: Sequence[float]) -> dict[str, float]:
        """What training reports of added tallies, after `train_`; among it the `loss`."""

    def judge(self, team: Team) -> Judging:
        """A new judgement; each process of the team sees batches of its own."""
