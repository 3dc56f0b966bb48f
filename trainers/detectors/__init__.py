"""Detectors, one a file: `detector(body, classes, *, own parameters) -> nn.Module`.

A detector is torchvision's, around a backbone of ours and a feature pyramid. Training, it takes
images and targets and gives its losses by name, those of the literal `LOSSES` in its file;
evaluating, it takes images and gives each one's boxes, labels, scores, and masks where it has any,
(n, 1, 28, 28) inside their boxes. Images are a list of (3, h, w) float tensors, normalised and
resized before: they are only padded, to a common multiple of 32. Boxes are x1, y1, x2, y2 in those
pixels; labels are 1 to `classes` in targets and answers, 0 is nothing's.

torchvision is imported in these files alone, and only where a detector is built.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from trainers.backbones import Backbone
from trainers.weights import First

if TYPE_CHECKING:
    from typing_extensions import TypeIs

WIDER = 1.6
"""The longer side of the input that a detector's cost is counted at, in shorter sides."""
STEP = 32
"""Pixels that a padded image's sides are multiples of."""


@dataclass(frozen=True)
class Pass:
    """A part that computes by itself: `times` runs on one (1, *shape) each; None: on the image."""

    module: nn.Module
    shape: tuple[int, ...] | None = None
    times: int = 1


class Detector(Protocol):
    """What the rest of the program asks of a detector, which is a module besides.

    `structure` says in JSON what was built around the body, `first` how its layers start.
    """

    structure: Mapping[str, Any]
    first: Mapping[str, First]

    @property
    def body(self) -> Backbone:
        """The backbone below the pyramid."""

    def passes(self) -> list[Pass]:
        """All that computes on one image in evaluation, convolutions and matrix products."""

    def hold(self, loaded: Collection[str]) -> None:
        """Freeze what is to be frozen of the body, whose entries `loaded` are from a file.

        Nothing that is not in `loaded` is ever frozen. Called at most once, before training.
        """


def detects(network: object) -> TypeIs[Detector]:
    """Whether it is a detector.

    No `isinstance`: from Python 3.12 that does not see a `body` which the module has registered.
    """
    asked = ("structure", "first", "body", "passes", "hold")
    return all(hasattr(network, name) for name in asked)


def padded(size: int) -> int:
    """A side of so many pixels after padding."""
    return -(-size // STEP) * STEP
