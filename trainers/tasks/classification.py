"""One label of several per image: cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

METRICS: dict[str, str] = {"accuracy": "max", "loss": "min"}


class Classification:
    """The task that `task` makes: logits (N, classes) against labels (N,)."""

    def __init__(self, classes: int, label_smoothing: float) -> None:
        self.chance = 1.0 / classes
        self.label_smoothing = label_smoothing

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


def task(classes: int, label_smoothing: float = 0.0) -> Classification:
    """Classification: top-1 accuracy; labels smoothed in training only.

    Reported losses are the plain cross-entropy, in training and in validation, so that they compare
    across amounts of smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7).
    """
    return Classification(classes, label_smoothing)
