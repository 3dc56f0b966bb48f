"""Tasks, one file each: what the network is asked, how it is judged, what chance would score.

A task file NAME.py defines `task(classes, label_smoothing, *, own parameters) -> Task`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Task(Protocol):
    """What training asks of a task."""

    chance: float  # the accuracy of a network that has learnt nothing, 0..1

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The scalar that training minimises, a mean over the batch."""

    def tally(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Sums over a batch, kept on the device, that add up over batches; float64."""

    def metrics(self, totals: Sequence[float]) -> dict[str, float]:
        """The metrics of added tallies; among them `loss` and `accuracy`."""
