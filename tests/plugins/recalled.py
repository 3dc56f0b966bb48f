"""A task of one's own: labels as ever, but every class counts the same, however rare it is."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from trainers.tasks.classification import Classification

METRICS = {"recall": "max", "accuracy": "max", "loss": "min"}


class Recalled(Classification):
    """Judged by the mean over the classes of the share that is found of each."""

    metric = "recall"

    def __init__(self, classes: int, label_smoothing: float, floor: float) -> None:
        super().__init__(classes, label_smoothing)
        self.classes = classes
        self.floor = floor

    def tally(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """What classification sums up, then hits and images by class."""
        right = one_hot(labels, self.classes) * (outputs.argmax(1) == labels)[:, None]
        by_class = torch.cat([right.sum(0), one_hot(labels, self.classes).sum(0)])
        return torch.cat([super().tally(outputs, labels), by_class.double()])

    def metrics(self, totals: Sequence[float]) -> dict[str, float]:
        """Those of classification, and the mean recall of the classes that there are."""
        hits, images = totals[3 : 3 + self.classes], totals[3 + self.classes :]
        shares = [max(h / n, self.floor) for h, n in zip(hits, images, strict=True) if n]
        return {"recall": sum(shares) / len(shares), **super().metrics(totals[:3])}


def task(classes: int, label_smoothing: float = 0.0, *, floor: float = 0.0) -> Recalled:
    """Mean recall over the classes; no class counts less than `floor`."""
    return Recalled(classes, label_smoothing, floor)
