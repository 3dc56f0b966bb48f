"""One label of several per image: cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainers.backbones import Backbone

if TYPE_CHECKING:
    from trainers.datasets import Description
    from trainers.team import Team

METRICS = {"accuracy": "max", "loss": "min"}


class Classifier(nn.Module):
    """A backbone, the mean over its last map, dropout, one linear layer.

    Images (N, C, H, W) -> logits (N, classes).
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(backbone.dropout)
        self.fc = nn.Linear(backbone.channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The logits (N, classes) of images x (N, C, H, W)."""
        y = self.backbone(x).mean((2, 3))
        logits: Tensor = self.fc(self.dropout(y))
        return logits


class Classification:
    """The task that `task` makes: logits (N, classes) against labels (N,)."""

    metric = "accuracy"

    def __init__(self, classes: int, label_smoothing: float) -> None:
        self.chance = 1.0 / classes
        self.label_smoothing = label_smoothing

    def network(self, body: Backbone, data: Description) -> Classifier:
        """A linear classifier over the pooled features."""
        return Classifier(body, data.classes)

    def learn(self, network: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """`loss` and `tally` of the network's outputs."""
        outputs = network(images)
        return self.loss(outputs, targets), self.tally(outputs.detach(), targets)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats against smoothed labels, in float32 whatever the precision."""
        return cross_entropy(outputs.float(), labels, label_smoothing=self.label_smoothing)

    def tally(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Summed cross-entropy (labels as they are), hits and images, (3,) float64."""
        loss = cross_entropy(outputs.float(), labels, reduction="sum")
        hits = (outputs.argmax(1) == labels).sum()
        return torch.stack([loss, hits, torch.full_like(hits, len(labels))]).double()

    def metrics(self, totals: Sequence[float]) -> dict[str, float]:
        """Mean loss per image in nats, accuracy 0..1."""
        loss, hits, images = totals
        return {"loss": loss / images, "accuracy": hits / images}

    def judge(self, team: Team) -> Counting:
        """The same figures of images that judge."""
        return Counting(self, team)


class Counting:
    """A judgement by tallies, which stay on the device until all are there."""

    def __init__(self, task: Classification, team: Team) -> None:
        self.task = task
        self.team = team
        self.tallies: list[Tensor] = []

    def see(self, network: nn.Module, images: Tensor, targets: Tensor) -> None:
        """Tally a batch."""
        self.tallies.append(self.task.tally(network(images), targets))

    def metrics(self) -> dict[str, float]:
        """Mean loss per image in nats, accuracy 0..1, over the whole team."""
        return self.task.metrics(self.team.summed(torch.stack(self.tallies).sum(0)).tolist())


def task(classes: int, label_smoothing: float = 0.0) -> Classification:
    """Classification: top-1 accuracy; labels smoothed in training only.

    Reported losses are the plain cross-entropy, in training and in validation, so that they compare
    across amounts of smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7).
    """
    return Classification(classes, label_smoothing)
