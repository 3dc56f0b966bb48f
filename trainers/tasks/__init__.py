"""Tasks, one file each: the head over a backbone, what it is taught and how it is judged.

A task file NAME.py defines `task(classes, label_smoothing, *, own parameters) -> Task`, and beside
it literals, which can be read without importing torch. `METRICS = {name: "max" or "min"}` is what
judging reports, after `val_` or `test_`; the first is what networks are judged by. `TARGETS`, where
it is not `"labels"`, says what of a dataset's it is taught: `"boxes"`, or also `"masks"`. `NEEDS`
are libraries that an extra of ours brings: `{module: extra}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from spaces import catalogue
from spaces.errors import VariantError
from trainers import variants

if TYPE_CHECKING:
    from spaces.config import Config
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


LABELS = "labels"


def task_of(config: Config) -> Task:
    """The config's task, which knows its number of classes.

    Raises VariantError for a recipe that the task does not know.
    """
    make = variants.load("task", config.task.name)
    data = variants.module("dataset", config.dataset.name).describe(config.dataset)
    task: Task = make(data.classes, config.training.label_smoothing, **config.task.params)
    return task


def targets(name: str) -> str:
    """What of a dataset's a task is taught: labels, boxes, or boxes and masks."""
    said = catalogue.targets("task", name)
    if said <= {LABELS}:
        return LABELS
    return "masks" if "masks" in said else "boxes"


def check(config: Config) -> None:
    """Refuse a recipe that the task does not know, and a library that is missing.

    Raises VariantError; looks at no data. That the dataset has what the task is taught, a Config
    has made sure of.
    """
    name = config.task.name
    for library, extra in catalogue.needs(name).items():
        if find_spec(library) is None:
            said = f"{name} needs {library}: pip install 'eca-search[{extra}]'"
            raise VariantError(("task.name", said))
    task_of(config)
