"""A study in virtual time: its decisions are real, its trainings were recorded before.

The real `Study`, with its sampler, its pruner and the records of a journal that stays in memory,
hands its attempts to workers that take one tick of a clock for every epoch and read its value from
a curve. What a pruner would have saved, and which members of the front it would have cost, is then
known without training anything (Salinas et al., "Syne Tune", AutoML 2022, section 5 does the same
for tuning algorithms).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from search.execution.recorded import Recorded
from search.front import pareto
from search.study.journal import FORMAT, Record
from search.study.study import Study
from search.trial import Assignment, Candidate, Ending, Trial
from spaces import Space
from spaces.errors import Place
from spaces.holes import Int
from spaces.parameters import Parameter
from spaces.reader import Node
from spaces.settings import Pruner, Sampler, Search

Spec = Mapping[str, Any]
HERE = Place("replay")


class Unwritten:
    """A journal that stays in memory: a simulation is made again, not resumed."""

    fence = 0
    heard: float | None = None
    acknowledged = 0

    def __init__(self, clock: Callable[[], float]) -> None:
        self.records: list[Record] = []
        self._clock = clock

    def append(self, kind: str, **fields: Any) -> Record:
        """Keep one record, as `Journal.append` does."""
        record: Record = {"seq": len(self.records), "time": self._clock(), "kind": kind, **fields}
        self.records.append(record)
        return record

    def commit(self, *, now: bool = True) -> bool:
        """Nothing is ever behind."""
        return True

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class Run:
    """One simulated search: rows of the record by how they ended, in that order.

    `epochs` were trained in all, `ended` by the trials that ended, which would have taken `whole`.
    `after` says how many epochs had been trained when each of `finished` did.
    """

    finished: tuple[int, ...]
    stopped: tuple[int, ...]
    epochs: int
    ended: int
    whole: int
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """What a pruner was worth, a number a repeat.

    `volumes` and `unstopped` are hypervolumes of what had finished, with it and with no pruner;
    `saved` is the share of the epochs of the trials that ended which were not trained; `killed` are
    the members of the record's front that it stopped.
    """

    pruner: str
    volumes: tuple[float, ...]
    unstopped: tuple[float, ...]
    saved: tuple[float, ...]
    killed: tuple[tuple[int, ...], ...]
    runs: tuple[Run, ...] = field(repr=False)


def simulate(
    recorded: Recorded,
    pruner: Spec | None,
    *,
    sampler: Spec,
    workers: int,
    seed: int,
    budget: int | None = None,
) -> Run:
    """Search a record once, with `workers` in virtual time, until every row was tried or `budget`
    epochs are trained: what has not finished then counts for nothing.

    Raises `SpecError` for a pruner or sampler that cannot be built.
    """
    now = 0
    study = _study(recorded, pruner, sampler, seed, lambda: float(now))
    lanes: list[_Lane | None] = [None] * workers
    finished: list[int] = []
    stopped: dict[int, int] = {}  # row -> the epochs that it has trained
    after: list[int] = []
    spent = 0
    while budget is None or spent < budget:
        for worker, lane in enumerate(lanes):
            if lane is None and (assignment := study.next()) is not None:
                study.start(assignment, f"worker:{worker}")
                row = _row(study, assignment)
                stopped.pop(row, None)  # where it is promoted
                lanes[worker] = _Lane(assignment, recorded.trials[row])
        if not any(lanes):
            break
        now += 1
        for worker, lane in enumerate(lanes):
            if lane is None or spent == budget:
                continue
            spent += 1
            ending = lane.train(study)
            if ending is None:
                continue
            study.end(lane.assignment.trial, 0, ending)
            row = lane.network.number
            if ending.outcome == "finished":
                finished.append(row)
                after.append(spent)
            else:
                stopped[row] = lane.trained
            lanes[worker] = None
    lengths = {row: recorded.trials[row].epochs for row in (*finished, *stopped)}
    ended = sum(lengths[row] for row in finished) + sum(stopped.values())
    return Run(tuple(finished), tuple(stopped), spent, ended, sum(lengths.values()), tuple(after))


def compared(
    recorded: Recorded,
    pruners: Mapping[str, Spec | None],
    *,
    sampler: Spec,
    workers: int,
    repeats: int,
    budget: float | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Score]:
    """Each pruner by its name (None: none) over the same `repeats` orders of the record.

    `budget` is in full trainings. Without it all rows are tried, and no pruner at all then finishes
    all of them, which need not be simulated.
    """
    epochs = None if budget is None else round(budget * recorded.epochs)
    front = {trial.number for trial in recorded.front()}

    def run(spec: Spec | None, number: int) -> Run:
        if spec is None and epochs is None:
            return _all(recorded)
        return simulate(
            recorded, spec, sampler=sampler, workers=workers, seed=seed + number, budget=epochs
        )

    def volume(one: Run) -> float:
        return recorded.hypervolume([recorded.trials[row] for row in one.finished])

    unpruned = [run(None, number) for number in range(repeats)]
    unstopped = tuple(map(volume, unpruned))
    for name, spec in pruners.items():
        runs = []
        for number in range(repeats):
            say(f"{name}: {number + 1} of {repeats}")
            runs.append(unpruned[number] if spec is None else run(spec, number))
        yield Score(
            pruner=name,
            volumes=unstopped if spec is None else tuple(map(volume, runs)),
            unstopped=unstopped,
            saved=tuple(1 - one.ended / one.whole if one.whole else 0.0 for one in runs),
            killed=tuple(tuple(sorted(front & set(one.stopped))) for one in runs),
            runs=tuple(runs),
        )


def growth(recorded: Recorded, run: Run) -> tuple[list[int], list[float]]:
    """The hypervolume of what had finished over the epochs trained by then, from (0, 0)."""
    trials = [
        replace(recorded.trials[row], ended=float(epochs))
        for row, epochs in zip(run.finished, run.after, strict=True)
    ]
    reached = pareto.history(trials, recorded.objectives, recorded.chance, recorded.reference)
    epochs, volumes = [0], [0.0]
    for trial, volume in reached:
        epochs.append(int(trial.ended or 0))
        volumes.append(volume)
    return epochs, volumes


def spread(numbers: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 of one number)."""
    return statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else 0.0


def specified(pruner: Spec) -> Pruner:
    """A pruner as a space file would say it; raises ValidationError where none could."""
    return Pruner.model_validate(dict(pruner))


class _Lane:
    """A worker and the attempt that it trains."""

    def __init__(self, assignment: Assignment, network: Trial) -> None:
        self.assignment = assignment
        self.network = network
        self.trained = assignment.known

    def train(self, study: Study) -> Ending | None:
        """One epoch more; how the attempt ends, if it does."""
        curve = self.network.replicates[0].curve
        ending = study.report(self.assignment.trial, 0, curve[self.trained])
        self.trained += 1
        if ending is None and self.trained == len(curve):
            return Ending("finished", "trained to the last epoch")
        return ending


def _row(study: Study, assignment: Assignment) -> int:
    """The recorded network: its run key is its number."""
    return int(study.history.trials[assignment.trial].key)


def _all(recorded: Recorded) -> Run:
    """Every row to its end, one after the other."""
    rows = tuple(range(len(recorded.trials)))
    after, spent = [], 0
    for trial in recorded.trials:
        spent += trial.epochs
        after.append(spent)
    return Run(rows, (), spent, spent, spent, tuple(after))


def _study(
    recorded: Recorded,
    pruner: Spec | None,
    sampler: Spec,
    seed: int,
    clock: Callable[[], float],
) -> Study:
    """A study whose one hole is the row, the rows in the order of their first cost.

    So a sampler that learns from values has something to learn: how size pays.
    """
    first = next(iter(recorded.columns))
    order = sorted(range(len(recorded.trials)), key=lambda row: recorded.trials[row].costs[first])
    last = len(order) - 1
    search = Search(
        trials=len(order),
        seed=seed,
        objectives=dict(recorded.objectives),
        sampler=Sampler(**sampler),
        pruner=None if pruner is None else specified(pruner),
        executor="inprocess",
    )
    space = Space(
        name="replay",
        search=search,
        tree=Node({"size": Node(Int(0, last), HERE)}, HERE),
        parameters=(Parameter("size", "int", low=0, high=last, step=1),),
        notes=(),
        source=Path("replay"),
        written=Node({}, HERE),
    )

    def examine(values: dict[str, Any]) -> Candidate:
        trial = recorded.trials[order[values["size"]]]
        facts = ("config", "identity", "key", "costs", "kernels", "placement", "label")
        return Candidate(**{fact: getattr(trial, fact) for fact in facts})

    journal = Unwritten(clock)
    journal.append(
        "study",
        version=FORMAT,
        uuid="",
        name=space.name,
        trials=len(order),
        reference=dict(recorded.reference),
        chance=recorded.chance,
    )
    return Study(
        Path("replay"), space, journal.records, journal=journal, examine=examine, clock=clock
    )
