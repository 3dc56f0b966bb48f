"""Trainings that are over: the networks of a table of curves, or those of a finished study.

Both become the same facts, finished trials with a curve each, and `search.execution.replay` trains
them again without training anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import TableError
from search.front import pareto
from search.trial import COSTS, Replicate, Trial
from spaces.errors import listed, nearest
from spaces.settings import TOLERANCES, Goal, Objective

if TYPE_CHECKING:
    from search.study.study import Study

JUDGED: dict[Goal, str] = {"max": "val_accuracy", "min": "val_loss"}
"""What the recorded value is called, whatever it was called where it was recorded."""
EPOCH = "{epoch}"


@dataclass(frozen=True)
class Recorded:
    """Networks with their whole curves, and what hypervolume is measured from.

    Each of `trials` has finished; its curve is its first replicate's, its value the last epoch's.
    `columns` says what the costs were called (a study knows two: `macs` and `params`). `notes` say
    what was left out, `called` what a study had called the value.
    """

    name: str
    trials: tuple[Trial, ...]
    objectives: Mapping[str, Objective]
    columns: Mapping[str, str]
    reference: Mapping[str, float]
    chance: float
    notes: tuple[str, ...] = ()
    called: str = ""

    @property
    def metric(self) -> str:
        """The name of the recorded value."""
        return next(iter(self.objectives))

    @property
    def epochs(self) -> int:
        """The epochs of a full training: those of the longest curve."""
        return max(trial.epochs for trial in self.trials)

    def front(self, trials: Iterable[Trial] | None = None) -> list[Trial]:
        """The front of some of the networks (of all where None), cheapest first."""
        return pareto.front(self.trials if trials is None else trials, self.objectives)

    def hypervolume(self, trials: Iterable[Trial] | None = None) -> float:
        """What that front is worth; see `search.front.pareto.study_hypervolume`."""
        return pareto.study_hypervolume(
            self.trials if trials is None else trials,
            self.objectives,
            chance=self.chance,
            reference=self.reference,
        )


def of_table(
    path: Path, *, curve: str, costs: Sequence[str], chance: float | None = None
) -> Recorded:
    """The networks of a CSV or Parquet file, one a row.

    `curve` names the columns of the value, higher being better, with `{epoch}` for the number:
    consecutive, from 0 or 1. Where a cell is empty or a column missing the curve ends. `costs` are
    one or two columns, known before training and to be small. Hypervolume is measured from the
    table's largest costs and from `chance`, else from its lowest last value.

    A row whose cost is no positive number is left out, which `notes` say; so they do where columns
    beyond a missing one are not read. Raises `TableError` for a file that cannot be read, a column
    that is not there and for a table without a whole row.
    """
    import pandas as pd

    try:
        parquet = path.suffix.lower() in (".parquet", ".pq")
        table = pd.read_parquet(path) if parquet else pd.read_csv(path)
    except (OSError, ValueError, ImportError) as error:  # pandas' own parser errors are ValueErrors
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise TableError(f"{path}: not a table that can be read: {said[0]}") from None
    names = [str(name) for name in table.columns]
    columns, beyond = _epochs(path, names, curve)
    roles = _roles(path, names, costs)
    values = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    known = {
        role: pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
        for role, column in roles.items()
    }
    trials: list[Trial] = []
    priceless: list[int] = []
    for row, numbers in enumerate(values.tolist()):
        if not all(cost[row] > 0 and math.isfinite(cost[row]) for cost in known.values()):
            priceless.append(row + 2)
            continue
        ends = next((at for at, x in enumerate(numbers) if not math.isfinite(x)), len(numbers))
        if ends:
            costs_here = {role: float(cost[row]) for role, cost in known.items()}
            trials.append(_network(len(trials), f"row {row + 2}", costs_here, numbers[:ends]))
    if not trials:
        lacking = f"a value in {columns[0]} and costs above 0 in {listed(list(roles.values()))}"
        raise TableError(f"{path}: no row has {lacking}, so there is nothing to replay")
    lost = len(table) - len(trials) - len(priceless)
    notes = [
        (lost, f"{lost} of {len(table)} rows have no curve and are left out"),
        (
            len(priceless),
            f"{len(priceless)} of {len(table)} rows have a cost that is no positive number and are "
            f"left out (the first: row {(priceless or [0])[0]})",
        ),
        (
            beyond,
            f"{beyond} columns beyond {columns[-1]} are not read: the one after it is missing",
        ),
    ]
    return Recorded(
        name=path.name,
        trials=tuple(trials),
        objectives=_objectives("max", {role: TOLERANCES[role] for role in roles}),
        columns=roles,
        reference={role: max(trial.costs[role] for trial in trials) for role in roles},
        chance=_lowest(trials) if chance is None else chance,
        notes=tuple(said for count, said in notes if count),
    )


def of_study(study: Study) -> Recorded:
    """The networks that a study has trained to the end, judged as it judged them.

    Of several seeds of a network the first counts. Raises `TableError` where nothing was trained
    for, or to the end, and where no objective is a cost that is known before training.
    """
    metric, tolerances = study.judged, pareto.foreseen(study.objectives)
    if metric is not None and not study.rising() and not metric.endswith("loss"):
        raise TableError(f"{study.folder}: a replay knows what goes up, and losses (got {metric})")
    if metric is None or not tolerances:
        raise TableError(
            f"{study.folder}: a replay needs one objective that is trained for and a cost known "
            f"before\n  (got {listed(study.objectives)})"
        )
    goal = study.objectives[metric].goal
    kept = [trial for trial in study.trials if trial.outcome == "finished"]
    trials: list[Trial] = []
    for trial in kept:
        numbers = [epoch[metric] for epoch in trial.replicates[0].curve]
        costs = {name: trial.costs[name] for name in tolerances}
        made = _network(len(trials), trial.name, costs, numbers, goal)
        trials.append(replace(made, identity=trial.identity))
    if not trials:
        raise TableError(f"{study.folder}: no trial has finished, so there is nothing to replay")
    lost = len(study.trials) - len(trials)
    said = f"{lost} of {len(study.trials)} trials did not finish: nobody knows what they were worth"
    return Recorded(
        name=study.name,
        trials=tuple(trials),
        objectives=_objectives(goal, tolerances),
        columns={name: name for name in tolerances},
        reference={name: study.reference[name] for name in tolerances},
        chance=_chance(study, metric),
        called=metric,
        notes=(said,) if lost else (),
    )


def _chance(study: Study, metric: str) -> float:
    """What guessing scores; of a loss that has a reference of its own, what would have that."""
    if metric not in study.origins:
        return study.chance
    origin = study.origins[metric]
    return math.exp(-origin) if study.objectives[metric].goal == "min" else origin


def _epochs(path: Path, names: Sequence[str], curve: str) -> tuple[list[str], int]:
    """The columns of the curve in the order of their epochs, up to the first that is missing, and
    how many there are beyond that.
    """
    if curve.count(EPOCH) != 1:
        raise TableError(
            f"--curve: {EPOCH} must stand in it once (got {curve!r}; e.g. acc_{EPOCH})"
        )
    before, after = map(re.escape, curve.split(EPOCH))
    found = {
        int(match[1]): name
        for name in names
        if (match := re.fullmatch(f"{before}([0-9]{{1,9}}){after}", name))
    }
    if not found:
        like = sorted({re.sub(r"[0-9]+", EPOCH, name, count=1) for name in names if "1" in name})
        guess = f"; such columns there are: {listed(like[:8])}" if like else ""
        raise TableError(f"{path}: no columns {curve!r} with a curve's epochs{guess}")
    first = min(found)
    if first > 1:
        got = f"got {found[first]!r} first; allowed: from 0 or 1"
        raise TableError(f"{path}: the curve does not begin with its first epoch ({got})")
    last = next(epoch for epoch in range(first, first + len(found) + 1) if epoch not in found)
    return [found[epoch] for epoch in range(first, last)], sum(epoch > last for epoch in found)


def _roles(path: Path, names: Sequence[str], costs: Sequence[str]) -> dict[str, str]:
    """Which column is which of the two costs that a study knows."""
    for column in costs:
        if column not in names:
            near = nearest(column, list(names))
            raise TableError(f"{path}: no column {column!r}{near} (there are: {listed(names)})")
    if not 1 <= len(set(costs)) == len(costs) <= len(COSTS):
        raise TableError(f"--costs: one or two columns, each once (got {listed(costs) or 'none'})")
    second = len(costs) == 2 and re.search("mac|flop|madd", costs[0], re.IGNORECASE) is None
    order = COSTS if second else tuple(reversed(COSTS))
    return dict(zip(order, costs, strict=False))


def _network(
    number: int,
    label: str,
    costs: Mapping[str, float],
    numbers: Sequence[float],
    goal: Goal = "max",
) -> Trial:
    metric, key = JUDGED[goal], f"{number:06d}"
    curve: tuple[dict[str, Any], ...] = tuple(
        {"epoch": epoch, metric: value} for epoch, value in enumerate(numbers, start=1)
    )
    return Trial(
        number=number,
        values={"row": number},
        config={"training": {"epochs": len(curve)}},
        label=label,
        identity=key,
        key=key,
        costs=dict(costs),
        kernels={},
        placement="",
        replicates=(Replicate(0, seed=0, key=key, curve=curve, outcome="finished"),),
        outcome="finished",
        objectives={metric: numbers[-1]},
    )


def _objectives(goal: Goal, tolerances: Mapping[str, float]) -> dict[str, Objective]:
    costs = {name: Objective(goal="min", tolerance=tol) for name, tol in tolerances.items()}
    return {JUDGED[goal]: Objective(goal=goal), **costs}


def _lowest(trials: Iterable[Trial]) -> float:
    return min(value for trial in trials for value in (trial.objectives or {}).values())
