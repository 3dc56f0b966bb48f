"""What the fronts of benchmarks/time_to_front.py are worth: networks trained anew, hypervolumes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import spaces
from search.beforehand.examine import examiner
from search.beforehand.survey import reference
from search.front import pareto
from search.trial import Trial, digest_int
from spaces import Space

Row = dict[str, Any]
CONTENDERS = ("ours", "ray", "ray-reuse", "optuna")
TIMES = 24
NEARLY = 0.99
"""Where both have found the same front, the noise of its scores decides who is ahead by the last
thousandth: this share of an end is looked at too."""


class Scales:
    """What fronts of one space are measured by: costs in bands, one reference, chance."""

    def __init__(self, space: Space) -> None:
        import trainers

        self.objectives = space.search.objectives
        self.metric = str(pareto.judged(self.objectives))
        self.reference = reference(space)
        self.chance = trainers.chance(space.at(space.sample(seed=0)))
        self._examine = examiner(space)
        self._known: dict[str, Trial] = {}

    def trial(self, values: dict[str, Any], accuracy: float) -> Trial:
        """A point as a finished trial of such an accuracy; its key is the network's run key."""
        named = json.dumps(values, sort_keys=True)
        if named not in self._known:
            found = self._examine(values)
            self._known[named] = Trial(
                number=len(self._known),
                values=values,
                config=found.config,
                label=found.label,
                identity=found.identity,
                key=found.key,
                costs=found.costs,
                kernels=found.kernels,
                placement=found.placement,
                outcome="finished",
            )
        return replace(self._known[named], objectives={self.metric: accuracy})

    def front(self, rows: Sequence[Row]) -> list[Trial]:
        """The networks that whoever saw these accuracies believed in."""
        seen = [row for row in rows if row["accuracy"] is not None]
        trials = [self.trial(row["values"], row["accuracy"]) for row in seen]
        return pareto.front(trials, self.objectives)

    def worth(self, members: Sequence[Trial], scores: dict[str, Row]) -> float:
        """The hypervolume of these networks by the accuracies that they were trained anew to."""
        known = [member for member in members if member.key in scores]
        anew = [
            self.trial(member.values, statistics.fmean(scores[member.key]["accuracy"].values()))
            for member in known
        ]
        return pareto.study_hypervolume(anew, self.objectives, self.chance, self.reference)


def fronts(scales: Scales, one: Row, seconds: float) -> Iterator[tuple[float, list[Trial]]]:
    """A contender's own front at each of the times."""
    for number in range(1, TIMES + 1):
        at = seconds * number / TIMES
        yield at, scales.front([row for row in one["rows"] if row["at"] <= at])


def retrained(file: str, recipe: list[str], values: dict[str, Any], index: int) -> float:
    """The test accuracy of a network by the common recipe and one of the fresh seeds.

    For a process of its own.
    """
    import torch

    import trainers

    torch.set_num_threads(1)
    point = spaces.load(file, overrides=recipe).at(values)
    *_, last = trainers.train(point, seed=digest_int("front", index), judge="test")
    return last["test_accuracy"]


def summary(scales: Scales, record: Row) -> Row:
    """Hypervolumes over time, what each came to, and when ours was as good as each peer's end."""
    seconds = record["minutes"] * 60
    volumes: dict[str, list[float]] = {}
    epochs: dict[str, list[int]] = {}
    lines: Row = {}
    for name, one in record["searches"].items():
        courses = list(fronts(scales, one, seconds))
        volumes[name] = [round(scales.worth(front, record["scores"]), 4) for _, front in courses]
        epochs[name] = [
            sum(row["epochs"] for row in one["rows"] if row["at"] <= at) for at, _ in courses
        ]
    for contender in CONTENDERS:
        mine = [name for name in volumes if name.split()[0] == contender]
        if not mine:
            continue
        searches = [record["searches"][name] for name in mine]
        lines[contender] = {
            "seeds": len(mine),
            "first trial, s": _spread([one["first"] for one in searches]),
            "trials": _spread([one["trials"] for one in searches]),
            "epochs": _spread([one["epochs"] for one in searches]),
            **{
                f"hypervolume at {share} %": _spread(
                    [volumes[name][TIMES * share // 100 - 1] for name in mine]
                )
                for share in (25, 50, 100)
            },
        }
        pairs = [(f"ours {name.split()[1]}", name) for name in mine if contender != "ours"]
        pairs = [pair for pair in pairs if pair[0] in volumes]
        for said, turned in (("ours reached its end", False), ("it reached our end", True)):
            for part in (1.0, NEARLY):
                at, after = {}, {}
                for pair in pairs:
                    one, other = reversed(pair) if turned else pair
                    seed = f"seed {one.split()[1]}"
                    number = reached(volumes[one], part * volumes[other][-1])
                    at[seed] = None if number is None else round(number / TIMES, 3)
                    trained = epochs[one][(number or 0) - 1] / max(1, epochs[other][-1])
                    after[seed] = None if number is None else round(trained, 3)
                if pairs:
                    how = said if part == 1.0 else f"{said} but for 1 %"
                    lines[contender][f"{how}, share of the clock"] = _shares(at)
                    lines[contender][f"{how}, share of the epochs"] = _shares(after)
    return {"contenders": lines, "hypervolume by time": volumes, "epochs by time": epochs}


def reached(curve: Sequence[float], wanted: float) -> int | None:
    """From which place on, counted from 1, a curve is at what is wanted, or above; None: never."""
    short = [number for number, volume in enumerate(curve, start=1) if volume < wanted]
    last = max(short, default=0)
    return None if last == len(curve) else last + 1


def _shares(found: dict[str, float | None]) -> Row:
    """By seed, with the median, in which not reached stands behind all that was."""
    ordered = [float("inf") if share is None else share for share in found.values()]
    median = statistics.median_high(ordered)
    return {"median": None if median == float("inf") else median, **found}


def _spread(values: Sequence[float | None]) -> Row:
    known = [value for value in values if value is not None]
    if not known:
        return {"median": None}
    return {"median": statistics.median(known), "low": min(known), "high": max(known)}
