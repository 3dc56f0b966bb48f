"""The main study: what Optuna's sampler knows, in the order the journal tells it.

Every proposal is one Optuna trial, whether it trained, was refused or was a duplicate. Nothing of
it is stored: a `MainStudy` is rebuilt from the journal's records, and a rebuilt one proposes what
the old one would have.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search.sampling import samplers
from search.study.journal import Record
from search.trial import Trial, digest_int
from spaces import Space

Values = dict[str, Any]
RECENT = 1000
"""Trials that are over of which TPE sees the newest, besides those that run and the front: what it
reads for one proposal grows with all that it sees."""
FORGETFUL = ("TPESampler",)


def name_objectives(study: optuna.Study, objectives: Iterable[str]) -> None:
    """Let Optuna's plots, tables and dashboard say `val_accuracy` for `Objective 0`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # the call is; what it sets is a note
        study.set_metric_names(list(objectives))


class MainStudy:
    """One Optuna trial a proposal; `optuna` is the study itself, for plots and dashboards."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._asked: optuna.Trial | None = None
        self._number: dict[int, int] = {}  # our trial -> its Optuna number, until it is told
        self._told: dict[int, int] = {}  # our trial that was pruned -> its Optuna number
        self._waiting: dict[int, list[int]] = {}  # our trial -> duplicates that wait for its end
        self._notes: dict[str, Any] = {}  # what the sampler has noted in the study itself
        self._goals = [
            -1.0 if objective.goal == "max" else 1.0
            for objective in space.search.objectives.values()
        ]
        self._storage = _Window()
        self.optuna = optuna.create_study(
            storage=self._storage,
            study_name=space.name,
            directions=[
                "maximize" if objective.goal == "max" else "minimize"
                for objective in space.search.objectives.values()
            ],
            pruner=optuna.pruners.NopPruner(),
        )
        name_objectives(self.optuna, space.search.objectives)

    def ask(self, asks: int, *, wanted: Values | None = None) -> Values:
        """The values of proposal number `asks`: the sampler's, or the `wanted` ones.

        The sampler is made anew for every ask, seeded by the study's seed and `asks` alone, so that
        a resumed search continues the sequence.
        """
        search = self._space.search
        if wanted is not None:
            self.optuna.enqueue_trial(wanted)
        self.optuna.sampler = samplers.sampler(
            search.sampler.model_dump(),
            seed=digest_int(search.seed, "ask", asks),
            space=self._space,
            objectives=search.objectives,
        )
        with self._storage.shown(search.sampler.name in FORGETFUL):
            trial = self._asked = self.optuna.ask()
            return self._space.fill(lambda parameter: samplers.suggest(trial, parameter))

    def constrain(self, violations: dict[str, float]) -> None:
        """Say how far the proposal just asked is over each limit (at most 0: within it)."""
        assert self._asked is not None
        for name, violation in violations.items():
            self._asked.set_constraint(name, violation)

    def asked(self) -> dict[str, Any]:
        """What a record must hold so that the proposal just asked can be made again."""
        assert self._asked is not None
        frozen = self.optuna.get_trials(deepcopy=False)[-1]
        notes = samplers.memory(self.optuna)
        new = {key: note for key, note in notes.items() if self._notes.get(key) != note}
        self._notes = notes
        return {
            "distributions": {
                name: distribution_to_json(d) for name, d in frozen.distributions.items()
            },
            "attributes": frozen.system_attrs,
            **({"notes": new} if new else {}),
        }

    def propose(self, record: Record) -> None:
        """Fold in an `ask`, `refuse` or `alias`; in a rebuild, make its Optuna trial again."""
        if self._asked is None:
            self._again(record)
        self._asked = None
        number = len(self.optuna.get_trials(deepcopy=False)) - 1
        self._storage.going.add(number)
        if record["kind"] == "ask":
            self._number[record["trial"]] = number
        elif record["kind"] == "refuse":
            state = samplers.refusal(self._space.search.sampler.name)
            self.optuna.tell(number, state=state)
            self._storage.over(number, None)
        else:
            self._waiting.setdefault(record["of"], []).append(number)

    def tell(self, trial: Trial) -> None:
        """The trial is over: tell it, and the duplicates that waited for it."""
        number = self._number.pop(trial.number, None)
        if number is not None and trial.outcome == "pruned":
            self._told[trial.number] = number
        numbers = ([] if number is None else [number]) + self._waiting.pop(trial.number, [])
        for told in numbers:
            if trial.objectives is not None:
                objectives = self._space.search.objectives
                values = [trial.objectives[name] for name in objectives]
                self.optuna.tell(told, values)
                self._storage.over(told, np.multiply(self._goals, values))
            else:
                lost = trial.failed or trial.outcome == "preempted"
                state = TrialState.FAIL if lost else TrialState.PRUNED
                self.optuna.tell(told, state=state)
                self._storage.over(told, None)

    def promote(self, trial: int) -> None:
        """A trial that was told PRUNED goes on: as another trial at the same point, since what is
        told stays told.
        """
        told = self.optuna.get_trials(deepcopy=False)[self._told[trial]]
        self.optuna.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=told.params,
                distributions=told.distributions,
                system_attrs=told.system_attrs,
            )
        )
        self._number[trial] = len(self.optuna.get_trials(deepcopy=False)) - 1
        self._storage.going.add(self._number[trial])

    def waits(self, trial: int) -> bool:
        """Whether a duplicate waits for that trial's end."""
        return trial in self._waiting

    def _again(self, record: Record) -> None:
        distributions = {
            name: json_to_distribution(text) for name, text in record["distributions"].items()
        }
        self.optuna.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params={name: record["values"][name] for name in distributions},
                distributions=distributions,
                system_attrs=record["attributes"],
            )
        )
        samplers.remember(self.optuna, record.get("notes", {}))
        self._notes |= record.get("notes", {})


class _Window(InMemoryStorage):
    """All trials, of which a sampler may be shown only those that run, the front and the newest."""

    def __init__(self) -> None:
        super().__init__()
        self.going: set[int] = set()
        self._newest: deque[int] = deque(maxlen=RECENT)
        self._front: dict[int, Any] = {}
        self._over = 0
        self._narrow = False

    def over(self, number: int, values: Any) -> None:
        """A trial was told, with its values (to be minimised), or without where it has none."""
        self.going.discard(number)
        self._newest.append(number)
        self._over += 1
        if values is None:
            return
        if not any((known <= values).all() for known in self._front.values()):
            beaten = [n for n, known in self._front.items() if (values <= known).all()]
            for worse in beaten:
                del self._front[worse]
            self._front[number] = values

    @contextmanager
    def shown(self, narrow: bool) -> Iterator[None]:
        """Inside, with `narrow`, the trials are those that run, the front and the newest."""
        self._narrow = narrow and self._over > RECENT
        try:
            yield
        finally:
            self._narrow = False

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        if not self._narrow or states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        trials = super().get_all_trials(study_id, deepcopy=False)
        numbers = sorted({*self.going, *self._front, *self._newest})
        seen = [trials[number] for number in numbers]
        return [trial for trial in seen if states is None or trial.state in states]
