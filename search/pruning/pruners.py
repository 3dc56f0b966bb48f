"""Which trials stop early: any Optuna pruner by name, under any number of objectives.

Optuna refuses `report` and `should_prune` in a study with several objectives. So beside the main
study stands a single-objective *curve study* of what trials are judged by. It gets every
report, and it is what the pruner is asked about.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner, PatientPruner
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.front.pareto import band, judged
from search.pruning import stop_reason
from search.pruning.pareto_pruner import ParetoPruner
from search.pruning.rungs import Rungs
from search.sampling.by_name import SpecError, build, find
from spaces.objectives import spoken

__all__ = ["ParetoPruner", "Pruning", "SpecError", "pruner", "warning"]

PRUNERS: dict[str, type[BasePruner]] = {
    name: cls
    for name in (*optuna.pruners.__all__, "ParetoPruner")
    if not inspect.isabstract(cls := getattr(optuna.pruners, name, ParetoPruner))
}
OURS = {"among": "all", "promote": None}
"""Keys of any pruner that its class does not read, and what they are as a rule."""
_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
_PEERLESS = ("NopPruner", "ThresholdPruner", "ParetoPruner")  # who cannot stop a front by its peers


def pruner(
    spec: Mapping[str, Any] | None, *, costs: Mapping[str, float] | None = None
) -> BasePruner:
    """The pruner a space file names: `{name: MedianPruner, n_startup_trials: 5}`.

    `costs` are ParetoPruner's (name -> tolerance). `PatientPruner` takes the pruner it delays as
    `wrapped: {name: ...}`; without it, it judges the trial's own gain alone. No spec is no pruner.
    Raises `SpecError`, a ValueError, for an unknown name or argument and for a value that the
    pruner refuses.
    """
    if spec is None:
        return NopPruner()
    cls = find("pruner", PRUNERS, spec.get("name"))
    given = {key: value for key, value in spec.items() if key != "name"}
    if given.get("wrapped", ...) is None:
        del given["wrapped"]
    if cls is ParetoPruner:
        return build(cls, given, besides=OURS, costs=costs)
    if cls is PatientPruner:
        wrapped = _wrapped(given.pop("wrapped", None), costs)
        return build(cls, given, besides=(*OURS, "wrapped"), wrapped_pruner=wrapped)
    return build(cls, given, besides=OURS)


def _wrapped(spec: object, costs: Mapping[str, float] | None) -> BasePruner | None:
    if spec is None:
        return None
    if not isinstance(spec, Mapping):
        raise SpecError("wrapped", f"a pruner is a mapping (got {spec!r}; allowed {{name: ...}})")
    inner = dict(spec)
    for key, usual in OURS.items():
        if inner.pop(key, usual) != usual:
            raise SpecError(
                f"wrapped.{key}", "it belongs to the outer pruner (allowed: leave it out)"
            )
    try:
        return pruner(inner, costs=costs)
    except SpecError as error:
        raise error.below("wrapped") from None


def warning(spec: Mapping[str, Any] | None, objectives: Collection[str]) -> str | None:
    """What a person should know of a pruner before it runs: where it does harm, or nothing."""
    if spec is None:
        return None
    metric = judged(objectives)
    if metric is None:
        return f"{spec['name']} never stops a trial: all objectives are costs, known beforehand"
    if len(objectives) < 2 or spec.get("among") == "cheaper":
        return None
    if spec["name"] == "PatientPruner":
        return warning(spec.get("wrapped"), objectives)
    if spec["name"] in _PEERLESS:
        return None
    return (
        f"{spec['name']} compares {spoken(metric)} alone and stops trials that are on the front: "
        "small networks look like bad ones. In a replay of 440 recorded curves median stopping "
        "killed 22.4 of 25 front members. Use ParetoPruner, or `among: cheaper`."
    )


class Pruning:
    """The curve study, from the first trial that begins to the last that ends.

    Its trials bear the caller's numbers, which may begin in any order and have gaps: Hyperband
    draws a trial's bracket from `name` and number. Epochs are Optuna's steps as they are, so with
    epochs counted from 1 `n_warmup_steps: 5` first judges epoch 5.

    `spared` are the trials that ParetoPruner would have stopped, had they not been of its control
    arm. An instance is a function of the calls made so far. Replaying them in the same order gives
    the same answers; `stop` twice without a new report gives the same answer twice.
    """

    def __init__(
        self,
        spec: Mapping[str, Any] | None,
        *,
        name: str,
        goal: str = "max",
        costs: Mapping[str, float] | None = None,
    ) -> None:
        """Start with no trials.

        Args:
            spec: the pruner as `pruner` reads it and `among`: `all` (the default: a trial is
                compared with all peers, as Optuna means it) or `cheaper` (only with those whose
                costs are all no more than its own, in bands).
            name: the curve study's name; it must be the same in every replay.
            goal: of the reported values, `max` or `min`.
            costs: what is known of a trial before it trains and should be small, with the relative
                tolerance that makes two costs equal.

        Raises:
            SpecError: for a pruner that cannot be built.
        """
        self._spec = dict(spec or {"name": "NopPruner"})
        self._spec.pop("promote", None)  # the study's own: see `search.study.promotion`
        self._among = self._spec.pop("among", None) or "all"
        if self._among not in ("all", "cheaper"):
            raise SpecError("among", f"no such peers (got {self._among!r}; allowed all, cheaper)")
        self._tolerances = dict(costs or {})
        self._peers = _Peers()
        self.study = optuna.create_study(
            storage=self._peers,
            study_name=name,
            direction=_DIRECTIONS[goal],
            sampler=RandomSampler(seed=0),
            pruner=pruner(self._spec, costs=self._tolerances),
        )
        built = self.study.pruner
        self._rungs: Rungs | None = None  # what a ParetoPruner is asked from, with its answers
        if isinstance(built, ParetoPruner) and built.costs == self._tolerances:
            cheaper = self._among == "cheaper"
            self._rungs = Rungs(built, maximize=goal == "max", cheaper=cheaper)
        self._trials: list[optuna.Trial] = []
        self._bands: dict[int, tuple[float, ...]] = {}
        self._epochs: dict[int, int | None] = {}
        self._curves: dict[int, dict[int, float]] = {}
        self._answers: dict[int, tuple[int, str | None]] = {}
        self._promoted: set[int] = set()
        self.spared: set[int] = set()

    def begin(self, number: int, costs: Mapping[str, float], *, epochs: int | None = None) -> None:
        """A trial starts training, for `epochs` epochs in all. Beginning again changes nothing.

        Raises ValueError when a cost that the study compares is missing or negative.
        """
        if number in self._bands:
            return
        missing = [name for name in self._tolerances if name not in costs]
        if missing:
            raise ValueError(f"trial {number} begins without its costs: {', '.join(missing)}")
        bands = tuple(band(costs[name], tol) for name, tol in self._tolerances.items())
        while len(self._trials) <= number:  # a gap stays a trial without reports: nobody's rival
            self._trials.append(self.study.ask())
        for name in self._tolerances:
            self._trials[number].set_user_attr(name, costs[name])
        self._bands[number] = bands
        self._epochs[number] = epochs
        self._curves[number] = {}
        if self._rungs is not None:
            self._rungs.begin(number, bands)

    def report(self, number: int, epoch: int, value: float) -> None:
        """The trial's value after that epoch; an epoch known already (a retry) is ignored."""
        if epoch not in self._curves[number]:
            self._curves[number][epoch] = value
            self._trials[number].report(value, epoch)
            if self._rungs is not None:
                self._rungs.report(number, epoch, value)

    def anew(self, number: int) -> None:
        """The trial begins again with another recipe: what it has reported was not its own."""
        known = self._trials[number]._trial_id
        self._peers.forget(known)
        self._trials[number] = optuna.Trial(self.study, known)
        self._curves[number] = {}
        self._answers.pop(number, None)
        if self._rungs is not None:
            self._rungs.drop(number)

    def promote(self, number: int) -> None:
        """A trial that was stopped goes on, to its end: nobody is asked about it again."""
        self._promoted.add(number)
        self._peers.reopen(self._trials[number]._trial_id)

    def stop(self, number: int) -> str | None:
        """Why the trial should stop now, in words and with its rivals; None: it goes on.

        At its last epoch the pruner is asked all the same, since some note there what later rivals
        are compared with, but the answer is None: the trial is trained, there is nothing to save.
        """
        known = len(self._curves[number])
        if known == 0 or number in self._promoted:
            return None
        if self._answers.get(number, (0, None))[0] != known:
            self._answers[number] = known, self._ask(number)
        return self._answers[number][1]

    def end(self, number: int, outcome: str) -> None:
        """The trial is over for good: `finished`, `pruned`, or else it failed.

        One that finished without a number to show counts as failed.
        """
        curve = self._curves[number]
        value = curve[max(curve)] if curve else math.nan
        if outcome == "finished" and not math.isnan(value):
            self.study.tell(number, value)
            if self._rungs is not None:
                self._rungs.complete(number)
        elif outcome == "pruned":
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            self.study.tell(number, state=TrialState.FAIL)
            if self._rungs is not None:
                self._rungs.drop(number)

    def _ask(self, number: int) -> str | None:
        last = self._epochs[number]
        if self._rungs is not None:
            if last is not None and max(self._curves[number]) >= last:
                return None
            verdict = self._rungs.doomed(number)
            if verdict is not None and not self._rungs.ends(number, verdict):
                self.spared.add(number)
                return None
            return None if verdict is None else f"{self._spec['name']}: {verdict}"
        trial = self._trials[number]
        peers = None if self._among == "all" else self._cheaper(number)
        with self._peers.only(peers):
            stops = trial.should_prune()
            if not stops or (last is not None and max(self._curves[number]) >= last):
                return None
            frozen = self._peers.get_trial(trial._trial_id)
            return stop_reason.words(self._spec, self._tolerances, self.study, frozen)

    def _cheaper(self, number: int) -> frozenset[int]:
        own = self._bands[number]
        return frozenset(
            rival
            for rival, bands in self._bands.items()
            if all(theirs <= ours for theirs, ours in zip(bands, own, strict=True))
        )


class _Peers(InMemoryStorage):
    """The curve study's trials, of which a pruner sees only some while it is asked.

    The choice is made here, below the study, because Hyperband reads its storage past any study
    that could be put before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._visible: frozenset[int] | None = None

    @contextmanager
    def only(self, numbers: frozenset[int] | None) -> Iterator[None]:
        """Inside, the trials are those of these numbers; None: all."""
        self._visible = numbers
        try:
            yield
        finally:
            self._visible = None

    def forget(self, trial_id: int) -> None:
        """Drop the reports of a trial, and what a pruner has noted there."""
        trial = self.get_trial(trial_id)
        trial.intermediate_values = {}
        trial.system_attrs = {}

    def reopen(self, trial_id: int) -> None:
        """Let a trial that was told go on, its reports kept."""
        trial = self.get_trial(trial_id)
        trial.state, trial.value, trial.datetime_complete = TrialState.RUNNING, None, None

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        trials = super().get_all_trials(study_id, deepcopy, states)
        if self._visible is None:
            return trials
        return [trial for trial in trials if trial.number in self._visible]

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        if self._visible is None:
            return super().get_best_trial(study_id)
        trials = self.get_all_trials(study_id, states=(TrialState.COMPLETE,))
        if not trials:
            raise ValueError("No trials are completed yet.")
        maximize = self.get_study_directions(study_id)[0] == StudyDirection.MAXIMIZE
        return (max if maximize else min)(trials, key=lambda trial: trial.values[0])
