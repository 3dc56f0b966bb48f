"""Search: everything under ``search:``, all that is neither the network nor its training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from spaces.catalogue import Goal as Goal
from spaces.config import Component, Strict
from spaces.errors import VariantError, listed, nearest, shown
from spaces.latency import LATENCIES
from spaces.objectives import COSTS, USUAL, goals, refuse_unknown, shared

TOLERANCES = {"params": 0.01, "macs": 0.01, "latency_ms": 0.05, "latency_batch_ms": 0.05}
SINGLE_OBJECTIVE = ("CmaEsSampler",)


class Objective(Strict):
    """Which way a metric is better, and how near two values count as equal.

    ``tolerance`` is relative: costs c lie in band round(ln c / ln(1 + tolerance)); 0 is exact.
    """

    goal: Goal
    tolerance: float = Field(default=0.0, ge=0, le=1)


def _tasks(info: ValidationInfo) -> Sequence[str]:
    """The tasks of the space whose search is read, which its reader says."""
    of: Sequence[str] = (info.context or {}).get("tasks") or USUAL
    return of


def _objectives(value: Any, info: ValidationInfo) -> Any:
    """The short form ``params: min`` spelled out; tolerances are those of `TOLERANCES`."""
    if not isinstance(value, dict):
        return value
    if not value:
        said = f"no objective (got {{}}; allowed: one or more of {listed(goals(_tasks(info)))})"
        raise VariantError(("", said))
    spelled = {}
    for metric, objective in value.items():
        refuse_unknown(str(metric), _tasks(info))
        if isinstance(objective, str):
            if objective not in ("max", "min"):
                said = f"unknown goal{nearest(objective, ['max', 'min'])}"
                raise VariantError((metric, f"{said} (got {shown(objective)}; allowed: max, min)"))
            objective = {"goal": objective}
        if isinstance(objective, dict) and metric in TOLERANCES:
            objective = {"tolerance": TOLERANCES[metric], **objective}
        spelled[metric] = objective
    return spelled


def usual_objectives(of: Sequence[str] = USUAL) -> dict[str, Objective]:
    """What a search without objectives goes by: what the tasks are judged by, params and MACs.

    Costs alone where the tasks report nothing that is the same.
    """
    first = list(shared(of).items())[:1]
    costs = {name: Objective(goal="min", tolerance=TOLERANCES[name]) for name in COSTS}
    return {**{f"val_{name}": Objective(goal=goal) for name, goal in first}, **costs}


def _limits(value: Any) -> Any:
    for name in value if isinstance(value, dict) else ():
        if name in LATENCIES:
            said = "it is measured when a network trains, too late for a limit"
            raise VariantError((name, f"{said} (allowed: {listed(COSTS)})"))
    return _costs(value, COSTS)


def _origins(value: Any, info: ValidationInfo) -> Any:
    return _costs(value, (*COSTS, *LATENCIES), list(goals(_tasks(info))))


def _costs(value: Any, known: Sequence[str], besides: Sequence[str] = ()) -> Any:
    for cost in value if isinstance(value, dict) else ():
        if cost not in (*known, *besides):
            said = f"no cost named {cost!r}{nearest(cost, known)}"
            raise VariantError((str(cost), f"{said} (there are: {listed(known)})"))
    return value


Positive = Annotated[float, Field(gt=0)]
Limits = Annotated[dict[str, Positive], BeforeValidator(_limits)]
Origins = Annotated[dict[str, Positive], Field(min_length=1), BeforeValidator(_origins)]


class Sampler(Component):
    """An Optuna sampler, or ParetoSampler, by its class name, beside it its keyword arguments."""

    name: str = "TPESampler"


class Pruner(Component):
    """An Optuna pruner, or ParetoPruner, by its class name, beside it its keyword arguments.

    ``among`` says which peers a trial is compared with: ``all``, as in Optuna, or those that are
    ``cheaper``. PatientPruner has another pruner as ``wrapped``. With ``promote`` no stop is final
    before all are proposed (with a budget: are over): then a stopped one whose probability to reach
    the front is at least that goes on from its checkpoint to its last epoch.
    """

    name: str
    among: Literal["all", "cheaper"] = "all"
    wrapped: Pruner | None = None
    promote: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _can_prune(self) -> Pruner:
        factor = self.params.get("reduction_factor")
        if isinstance(factor, int) and factor < 2:
            got = f"got {shown(factor)}; allowed: 2 or more"
            raise VariantError(("reduction_factor", f"it would halve nothing ({got})"))
        return self


class Resources(Strict):
    """What one trial may use: CPU cores, and GPUs (``auto``: one a process where there are any).

    So many ``processes`` train it together, each with its share of the cores and one of the GPUs,
    on one node or several (null: one for each whole GPU). The figures are those of one process but
    for the order of sums, so they are no part of a run key.
    """

    cpu: float = Field(default=1.0, gt=0, le=1024)
    gpu: Literal["auto"] | Annotated[float, Field(ge=0, le=64)] = "auto"
    processes: int | None = Field(default=None, ge=1, le=1024)

    @model_validator(mode="after")
    def _whole_gpus(self) -> Resources:
        if self.gpu != "auto" and self.gpu > 1 and self.gpu != int(self.gpu):
            said = f"out of range (got {self.gpu}; allowed: auto, a fraction of one, or whole GPUs)"
            raise VariantError(("gpu", said))
        if self.processes is None or self.gpu in ("auto", 0, self.processes):
            return self
        if self.processes > 1 or (self.gpu != "auto" and self.gpu > 1):
            said = f"each trains on a GPU of its own (got {self.processes}; allowed: {self.gpu:g})"
            raise VariantError(("processes", said))
        return self

    @property
    def team(self) -> int:
        """How many processes train one trial."""
        whole = 1 if self.gpu == "auto" else max(1, int(self.gpu))
        return self.processes or whole


class Budget(Strict):
    """What a study may spend, retries and further seeds included (null: as much as it takes).

    ``epochs`` are those trained, ``gpu_hours`` the GPUs of each attempt times the hours it held
    them, ``hours`` those in which a driver was at work. No training begins that what is left does
    not pay for; one that is running when it is spent is interrupted after its epoch.
    """

    epochs: int | None = Field(default=None, gt=0)
    gpu_hours: float | None = Field(default=None, gt=0)
    hours: float | None = Field(default=None, gt=0)


class Further(Strict):
    """Further seeds for the networks whose place on the front is least certain.

    Once all trials are over, at most so many ``seeds`` are trained in all, each for the network
    whose probability to be on the front is nearest to a half, no network with more than ``most``
    (those of ``replicates`` included). They end when it is above ``sure``, or below 1 - ``sure``,
    for each.
    """

    seeds: int = Field(ge=1, le=1_000_000)
    most: int = Field(default=10, ge=2, le=100)
    sure: float = Field(default=0.95, gt=0.5, lt=1)


class Timing(Strict):
    """How latency is measured: in inference, once for each network and kind of device.

    ``batch_sizes`` are the images of a pass: that of 1 is ``latency_ms``, the largest
    ``latency_batch_ms``. At most ``repeats`` passes are timed, fewer of a slow network. The worker
    that trains measures, before its first epoch: what else runs on its device makes noise, and for
    the timeouts it is part of that epoch.
    """

    batch_sizes: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default=[1, 128], min_length=1, max_length=8
    )
    repeats: int = Field(default=50, ge=6, le=1000)

    @model_validator(mode="after")
    def _each_once(self) -> Timing:
        if len(set(self.batch_sizes)) < len(self.batch_sizes):
            got = f"got {shown(self.batch_sizes)}"
            raise VariantError(("batch_sizes", f"one stands there twice ({got}; allowed: once)"))
        return self


class Failures(Strict):
    """How many failures a study bears.

    ``max`` is the largest share of failed trials (above it: exit 4), ``consecutive`` how many in a
    row may fail for one reason before the search is given up, ``crashed`` and ``preempted`` how
    often one replicate is tried again after a crash, and after its node was taken away (null:
    always).
    """

    max: float = Field(default=0.2, ge=0, le=1)
    consecutive: int = Field(default=3, ge=1)
    crashed: int | None = Field(default=1, ge=0)
    preempted: int | None = Field(default=None, ge=0)


class Timeouts(Strict):
    """Seconds after which an attempt is ended: in all, and without a new epoch.

    Both count one attempt: a replicate that is tried again, or handed back by `resume`, starts
    from 0.
    """

    trial: float | None = Field(default=None, gt=0)
    no_progress: float | None = Field(default=None, gt=0)


class Checkpoints(Strict):
    """Where training states go (a folder or an fsspec URI; null: the study's own folder).

    One is written at the end of each epoch, and within a longer one ``every`` so many seconds;
    ``keep`` of them are kept per replicate. They are kept ``of`` what is on the front or may come
    back to it, runs, waits or may go on: those of other trials are deleted while the search runs,
    unless it is ``all``. A comparison and a confirmation keep them all.
    """

    uri: str | None = None
    keep: int = Field(default=2, ge=1, le=1000)
    every: float = Field(default=600.0, gt=0)
    of: Literal["front", "all"] = "front"


class Tracking(Strict):
    """The MLflow store (null: ``mlflow.db`` beside the study) and experiment (null: its name)."""

    uri: str | None = None
    experiment: str | None = Field(default=None, min_length=1, max_length=200)


class Compare(Strict):
    """How arms are compared, said before anything trains.

    ``margin`` is the largest difference that counts as none, in the metric's own unit (0.002 is
    0.2 points of accuracy); ``alpha`` the probability of a false alarm over all pairs together;
    ``against`` the one arm that all others are compared with (null: every pair).
    """

    margin: float = Field(default=0.002, gt=0, le=1)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    against: str | None = None


class Confirms(Strict):
    """Which study is confirmed: its name and uuid, and what it had said of each arm.

    ``values`` are the arms' results there, in its ``metric``; ``epochs`` those they were trained
    for; ``overrides`` what of the training was changed, as it was typed.
    """

    study: str
    uuid: str
    metric: str
    values: dict[str, float]
    epochs: dict[str, int] = Field(default_factory=dict)
    overrides: list[str] = Field(default_factory=list)


class Search(Strict):
    """How the space is searched. ``trials`` counts the networks trained.

    ``replicates`` is how many seeds each network is trained with, ``further`` says how many more go
    where the front is least certain; ``duplicates`` whether a network
    proposed again is answered with the known outcome or trained with another seed; ``limits`` and
    ``reference`` are costs by name; ``latency`` is measured where it is asked for, or an objective;
    ``baselines`` are partial configs that are asked first. ``oom``
    says what follows when the device's memory is not enough: the trial fails, or it is trained anew
    with its batches cut in halves whose gradients add up (another recipe, and tagged so).
    ``compare`` says how the arms of a comparison are judged. ``mirror`` is an fsspec URI below
    which the journal is kept a second time, so that another machine can go on from there.
    ``confirms`` is written by `eca-search confirm`: the study whose networks are trained here anew,
    on the validation images too, and judged by the test images. Nothing else reads those.
    """

    trials: int | None = Field(default=None, ge=1, le=1_000_000)
    seed: int = Field(default=0, ge=0, lt=2**32)
    replicates: int = Field(default=1, ge=1, le=100)
    further: Further | None = None
    duplicates: Literal["copy", "replicate"] = "copy"
    budget: Budget | None = None
    objectives: Annotated[dict[str, Objective], BeforeValidator(_objectives)] = Field(
        default_factory=usual_objectives, min_length=1
    )
    limits: Limits = Field(default_factory=dict)
    reference: Origins | None = None
    latency: Timing | None = None
    sampler: Sampler = Sampler()
    pruner: Pruner | None = None
    baselines: list[dict[str, Any]] = Field(default_factory=list, max_length=1000)
    resources: Resources = Resources()
    max_concurrent: int | None = Field(default=None, ge=1, le=100_000)
    executor: Literal["ray", "inprocess"] = "ray"
    compare: Compare = Compare()
    confirms: Confirms | None = None
    failures: Failures = Failures()
    oom: Literal["fail", "halve_batch"] = "fail"
    timeouts: Timeouts = Timeouts()
    checkpoints: Checkpoints = Checkpoints()
    mirror: str | None = Field(default=None, min_length=1, max_length=1000)
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _built_and_sensible(self, info: ValidationInfo) -> Search:
        of = _tasks(info)
        found = [*self._wrong_ways(of), *self._sampling(), *self._unjudged(of)]
        found += [*self._untimed(), *self._unmeasured(of), *self._unfit_for_further()]
        if found:
            raise VariantError(*found)
        return self

    @property
    def judge(self) -> Literal["val", "test"]:
        """Which images trials are judged by."""
        return "val" if self.confirms is None else "test"

    @property
    def timing(self) -> Timing | None:
        """How latency is measured, also where only an objective asks for it; None: it is not."""
        wanted = any(name in LATENCIES for name in self.objectives)
        return self.latency or (Timing() if wanted else None)

    @property
    def promote(self) -> float | None:
        """The probability to reach the front that gives a stopped trial a second chance."""
        return None if self.pruner is None else self.pruner.promote

    def _untimed(self) -> list[tuple[str, str]]:
        """What a latency among the objectives lacks."""
        found = []
        sizes = [] if self.timing is None else self.timing.batch_sizes
        wanted = [name for name in LATENCIES if name in self.objectives]
        for name in wanted:
            if name not in (self.reference or {}):
                said = "missing: hypervolume is measured from it, and no latency is known before"
                found.append((f"reference.{name}", f"{said} (allowed: a number of ms)"))
        if LATENCIES[0] in wanted and 1 not in sizes:
            said = f"no 1 for {LATENCIES[0]} (got {shown(sizes)}; allowed: with 1 among them)"
            found.append(("latency.batch_sizes", said))
        if LATENCIES[1] in wanted and max(sizes) == 1:
            said = f"no batch for {LATENCIES[1]} (got {shown(sizes)}; allowed: one above 1)"
            found.append(("latency.batch_sizes", said))
        return found

    def _unmeasured(self, of: Sequence[str]) -> Iterator[tuple[str, str]]:
        """What goes down, is no cost and has no value of guessing, as a loss has."""
        known = goals(of)
        for name in self.objectives:
            foreseen = name in (*COSTS, *LATENCIES) or name.endswith("loss")
            if known.get(name) == "min" and not foreseen and name not in (self.reference or {}):
                said = "missing: hypervolume is measured from it, and grows towards 0"
                yield f"reference.{name}", f"{said} (allowed: the largest value that counts)"

    def _unfit_for_further(self) -> list[tuple[str, str]]:
        """Why no network can have further seeds."""
        if self.further is None:
            return []
        found = []
        if self.further.most <= self.replicates:
            got = f"got {self.further.most} and replicates {self.replicates}"
            said = f"every network has as many anyway ({got}; allowed: above replicates)"
            found.append(("further.most", said))
        if self.duplicates == "replicate":
            said = "duplicates ask for the same seeds (allowed: duplicates: copy)"
            found.append(("further", said))
        if all(metric in (*COSTS, *LATENCIES) for metric in self.objectives):
            got = f"got objectives {listed(self.objectives)}"
            said = f"no seed changes any of them ({got}; allowed: with one that is trained for)"
            found.append(("further", said))
        return found

    def _unjudged(self, of: Sequence[str]) -> list[tuple[str, str]]:
        other = "val_" if self.confirms else "test_"
        why = "the test images are for `eca-search confirm` alone"
        if self.confirms:
            why = "validation images are trained on where a study is confirmed"
        allowed = listed(f"{self.judge}_{name}" for name in shared(of))
        return [
            (f"objectives.{metric}", f"{why} (allowed: {allowed})")
            for metric in self.objectives
            if metric.startswith(other)
        ]

    def _wrong_ways(self, of: Sequence[str]) -> list[tuple[str, str]]:
        known = goals(of)
        return [
            (f"objectives.{metric}", f"wrong way (got {objective.goal}; allowed: {better})")
            for metric, objective in self.objectives.items()
            if objective.goal != (better := known.get(metric, objective.goal))
        ]

    def _sampling(self) -> list[tuple[str, str]]:
        found = []
        if "seed" in self.sampler.params:
            said = "the sampler's seed is search.seed (allowed: leave it out)"
            found.append(("sampler.seed", said))
        if self.sampler.name in SINGLE_OBJECTIVE and len(self.objectives) > 1:
            got = f"got {self.sampler.name} and {len(self.objectives)} objectives"
            allowed = "one, or a sampler such as TPESampler, NSGAIISampler"
            found.append(("sampler.name", f"it takes one objective ({got}; allowed: {allowed})"))
        return found
