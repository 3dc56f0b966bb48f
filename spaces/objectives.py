"""Objectives: what trials may be judged by, which the tasks of a space say, and costs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from spaces import catalogue
from spaces.arms import ARM
from spaces.catalogue import Goal
from spaces.errors import VariantError, listed, nearest
from spaces.holes import Choice
from spaces.latency import LATENCIES
from spaces.reader import Node

COSTS = ("params", "macs")
USUAL = ("classification",)
"""The task of a space that names none."""
AP = re.compile(r"^ap(?=\d*$)")
FEW = 3
"""So many metrics are listed where one is wrong: COCO has a dozen of boxes, and one of masks."""


def tasks(tree: Node) -> tuple[str, ...]:
    """The tasks that a tree with holes names, of every arm and every option, each once.

    Those that there are not are left out: what is wrong with a misspelt one is said elsewhere.
    """
    known = catalogue.names("task")
    return tuple(name for name in dict.fromkeys(_named(tree)) if name in known)


def _named(tree: Node) -> Iterator[str]:
    inside = tree.value
    if ARM in inside and isinstance(inside[ARM].value, Choice):
        for option in inside[ARM].value.options:
            yield from _named(option.node)
    elif "task" not in inside:
        yield from USUAL
    else:
        task = inside["task"]
        options = [o.node for o in task.value.options] if isinstance(task.value, Choice) else [task]
        for option in options:
            name = option.value.get("name") if isinstance(option.value, dict) else None
            if name is not None and isinstance(name.value, str):
                yield name.value


def goals(of: Sequence[str] = USUAL) -> dict[str, Goal]:
    """Every objective that a space of these tasks may have, and which way it is better.

    The first is what the first of them is judged by on the validation images, if all report it.
    A loss is reported of the training images too.
    """
    both = shared(of)
    named = {f"{part}_{name}": goal for part in ("val", "test") for name, goal in both.items()}
    if "loss" in both:
        named["train_loss"] = both["loss"]
    costs: dict[str, Goal] = dict.fromkeys((*COSTS, *LATENCIES), "min")
    return {**named, **costs}


def shared(of: Sequence[str]) -> dict[str, Goal]:
    """The metrics that all of these tasks report, in the order of the first."""
    first, *others = (catalogue.metrics(name) for name in of)
    return {name: g for name, g in first.items() if all(o.get(name) == g for o in others)}


def judged_by(of: Sequence[str]) -> str:
    """The first metric of the first task; that of `USUAL` where there is no task."""
    return next(iter(catalogue.metrics((*of, *USUAL)[0])))


def everywhere() -> dict[str, set[Goal]]:
    """Every objective of any task, with the ways in which one or another is better by it."""
    found: dict[str, set[Goal]] = {}
    for task in dict.fromkeys((*USUAL, *catalogue.names("task"))):
        for name, goal in goals((task,)).items():
            found.setdefault(name, set()).add(goal)
    return found


def refuse_unknown(metric: str, of: Sequence[str]) -> None:
    """Raise VariantError for an objective that these tasks, all of them, do not report."""
    known = goals(of)
    if metric in known:
        return
    if metric not in everywhere():
        said = f"no metric named {metric!r}{nearest(metric, list(known))}"
        raise VariantError((metric, f"{said} (there are: {listed(known)})"))
    costs = (*COSTS, *LATENCIES)
    part = metric.partition("_")[0]
    allowed = [name for name in known if name.partition("_")[0] == part and name not in costs]
    do = "does not report it" if len(of) == 1 else "do not all report it"
    among = ", ".join([*([listed(allowed, FEW)] if allowed else []), *costs])
    raise VariantError((metric, f"{' and '.join(of)} {do} (allowed: {among})"))


def spoken(metric: str) -> str:
    """A result in words, without the images it is of: ``val_box_ap50`` is ``box AP50``."""
    part, _, name = metric.partition("_")
    words = (name if part in ("val", "test", "train") else metric).split("_")
    return " ".join(AP.sub("AP", word) for word in words)
