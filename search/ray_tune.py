"""Ray Tune's Searcher, Scheduler, Callback and Trainable as thin faces of one `Study`.

Ray is a stateless executor here: one Ray trial is one attempt, nothing of Ray's is ever restored,
and Ray retries nothing by itself. What its hooks do (ray 2.60, read in its source):

* `suggest` is asked until it returns None; None with nothing running would block the loop, so the
  end is said with `FINISHED`.
* A result without `done` goes to the scheduler, before the searcher; one with `done` goes to the
  searcher's `on_trial_complete` alone.
* A worker's death reaches the searcher first and then the callback, which knows the error.
* The callback's step hooks run at least every 0.1 s: there hung attempts are killed, and there the
  journal is committed.

The only module that imports ray.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import cloudpickle, tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.errors import Unfit
from search.trial import Assignment, Ending
from search.worker import DETAIL, Workplace, attempt, here

if TYPE_CHECKING:  # a worker needs no study
    from search.study import Study

Watch = Callable[["Study"], None]
ANSI = re.compile(r"\x1b\[[0-9;]*m")

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the old reporter keeps silent at verbose=0
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # Ray's CSV, JSON and TBX cost 2 ms a report
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: Ray's own handler would exit 0
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # no snapshots: resume reads the journal
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_THRESHOLD_S": "10",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """What Ray offers: where it is, how many nodes, and what they hold together."""

    address: str
    nodes: int
    cpus: float
    gpus: float


class AttemptFailed(Exception):
    """Ends the worker's process: what is in its memory, or on its GPU, may be spoilt."""


class Attempt(tune.Trainable):  # type: ignore[misc]
    """A reusable actor: one attempt after another, PyTorch imported once.

    `attempt` is what it does with an assignment; a subclass may do something else with it.
    """

    attempt = staticmethod(attempt)

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first assignment."""
        self._take(config)

    def step(self) -> dict[str, Any]:
        """One epoch, or the ending: `done` with an outcome word."""
        message = next(self._messages)
        if isinstance(message, Ending):
            return self._over(message)
        if message["epoch"] < self._epochs:
            return {"metrics": message}
        ending = next(self._messages)  # the last epoch brings its ending along: one trip less
        assert isinstance(ending, Ending)
        return {"metrics": message, **self._over(ending)}

    def _over(self, ending: Ending) -> dict[str, Any]:
        """The ending as a result; one that may have spoilt the process ends it as well."""
        if ending.outcome in ("oom", "host_oom") or (self._gpu and ending.outcome == "crashed"):
            raise AttemptFailed(json.dumps(asdict(ending)))
        return {"done": True, "ending": asdict(ending)}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next assignment in the same process."""
        self.cleanup()
        self._take(new_config)
        return True

    def cleanup(self) -> None:
        """Drop what is running: a generator that is closed lets go of its network."""
        if isinstance(self._messages, Generator):
            self._messages.close()

    def worker(self) -> str:
        """`host:pid` of this process."""
        return here()

    def _take(self, config: dict[str, Any]) -> None:
        assignment = Assignment(**json.loads(config["assignment"]))
        workplace = Workplace(**json.loads(config["workplace"]))
        self._epochs = assignment.config["training"]["epochs"]
        self._gpu = workplace.gpu
        self._messages = self.attempt(assignment, workplace)


class _Desk:
    """The study and which Ray trial carries which attempt."""

    def __init__(
        self, study: Study, workplace: Workplace, slots: Callable[[], int], watch: Watch
    ) -> None:
        self.study = study
        self.watch = watch
        self.workplace = json.dumps(asdict(workplace))
        self.slots = slots
        self.assigned: dict[str, Assignment] = {}
        self.begun: dict[str, float] = {}
        self.progress: dict[str, float] = {}
        self.killed: dict[str, Ending] = {}
        self.workers: dict[Any, str] = {}
        self.error: BaseException | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what goes wrong in a hook: Ray would wrap it, or blame the trial."""
        try:
            yield
        except BaseException as error:
            self.error = self.error or error
            raise

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles what it is given, for a `Tuner.restore` that is never called."""
        return {}

    def take(self, trial_id: str) -> dict[str, str] | str | None:
        """The next assignment as a Ray config; None: ask later; FINISHED: there is no more."""
        if self.error is not None:
            return str(Searcher.FINISHED)
        slots = self.slots()
        if len(self.assigned) < slots:
            assignment = self.study.next()
            if assignment is not None:
                self.assigned[trial_id] = assignment
                return {"assignment": json.dumps(asdict(assignment)), "workplace": self.workplace}
        if self.assigned:
            return None
        if not self.study.done:
            raise Unfit(f"the cluster has no room for a trial any more ({slots} slots)")
        return str(Searcher.FINISHED)

    def start(self, trial_id: str, actor: Any) -> None:
        """The attempt's actor is up."""
        key = actor._actor_id
        if key not in self.workers:
            try:
                self.workers[key] = ray.get(actor.worker.remote(), timeout=10)
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                self.workers[key] = "unknown"  # it died or hangs; what follows will tell
        self.study.start(self.assigned[trial_id], self.workers[key])
        self.begun[trial_id] = self.progress[trial_id] = time.monotonic()

    def report(self, trial_id: str, result: dict[str, Any]) -> bool:
        """One epoch came in; True: stop the attempt."""
        assignment = self.assigned[trial_id]
        self.progress[trial_id] = time.monotonic()
        metrics = _nested(result, "metrics")
        return self.study.report(assignment.trial, assignment.replicate, metrics) is not None

    def complete(self, trial_id: str, result: dict[str, Any]) -> None:
        """The attempt is over by its own word, or because `report` said stop."""
        if _nested(result, "metrics") and result.get("ending/outcome"):
            self.report(trial_id, result)
        ending = _nested(result, "ending")
        self.end(trial_id, Ending(**ending) if ending else None)

    def end(self, trial_id: str, ending: Ending | None) -> None:
        """Close the book on a Ray trial; `ending` is None when the study has ended it itself."""
        assignment = self.assigned.pop(trial_id, None)
        if assignment is not None and trial_id not in self.begun:
            self.study.start(assignment, "")  # its actor never came up: that was an attempt too
        self.begun.pop(trial_id, None)
        self.progress.pop(trial_id, None)
        self.killed.pop(trial_id, None)
        if assignment is not None and ending is not None:
            self.study.end(assignment.trial, assignment.replicate, ending)

    def overdue(self) -> Iterator[tuple[str, Ending]]:
        """Attempts over one of their times (seconds), with the words for it."""
        limits, now = self.study.space.search.timeouts, time.monotonic()
        for trial_id in self.begun.keys() - self.killed.keys():
            if limits.trial is not None and now - self.begun[trial_id] > limits.trial:
                yield trial_id, Ending("timeout", f"over {limits.trial:g} s in all")
            elif (
                limits.no_progress is not None
                and now - self.progress[trial_id] > limits.no_progress
            ):
                yield trial_id, Ending("timeout", f"no epoch for {limits.no_progress:g} s")


class _Searcher(Searcher):  # type: ignore[misc]
    def __init__(self, desk: _Desk) -> None:
        super().__init__()
        self._desk = desk

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        with self._desk.kept():
            return self._desk.take(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if not error:  # an error is told by the callback, which knows what it was
            with self._desk.kept():
                self._desk.complete(trial_id, result or {})

    def save(self, checkpoint_path: str) -> None:
        """Nothing of Ray's is restored."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing of Ray's is restored."""


class _Scheduler(FIFOScheduler):  # type: ignore[misc]
    def __init__(self, desk: _Desk) -> None:
        super().__init__()
        self._desk = desk

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        with self._desk.kept():
            stop = self._desk.report(trial.trial_id, result)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)


class _Watch(Callback):  # type: ignore[misc]
    def __init__(self, desk: _Desk) -> None:
        self._desk = desk

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with self._desk.kept():
            self._desk.start(trial.trial_id, trial.temporary_state.ray_actor)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ending = self._desk.killed.get(trial.trial_id) or _ending(_error(trial))
        with self._desk.kept():
            self._desk.end(trial.trial_id, ending)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._desk.error is not None:
            raise self._desk.error
        overdue = dict(self._desk.overdue())
        for trial in trials if overdue else ():
            if trial.trial_id in overdue and trial.temporary_state.ray_actor is not None:
                self._desk.killed[trial.trial_id] = overdue[trial.trial_id]
                ray.kill(trial.temporary_state.ray_actor)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        with self._desk.kept():
            if self._desk.study.commit(now=False):
                self._desk.watch(self._desk.study)


def drive(
    study: Study,
    workplace: Workplace,
    *,
    cpu: float,
    gpu: float,
    slots: Callable[[], int],
    watch: Watch = lambda study: None,
    trainable: type[Attempt] = Attempt,
) -> None:
    """Run the study on the Ray cluster this process is connected to, until it is done.

    `cpu` and `gpu` are what one trial is given, `slots` says how many may run now.
    `watch` is called in the loop, after commits. Exceptions of the driver (Ctrl-C among them) pass
    through; attempts then die with their actors and are taken up again at `resume`.
    """
    desk = _Desk(study, workplace, slots, watch)
    with tempfile.TemporaryDirectory(prefix="eca-search-") as scratch, environment(slots()):
        tuner = Tuner(
            tune.with_resources(trainable, {"cpu": cpu, "gpu": gpu}),
            tune_config=TuneConfig(
                search_alg=_Searcher(desk),
                scheduler=_Scheduler(desk),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: f"attempt_{trial.trial_id}",
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=RunConfig(
                name=study.name,
                storage_path=scratch,
                verbose=0,
                callbacks=[_Watch(desk)],
                failure_config=FailureConfig(max_failures=0),
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                log_to_file=False,
            ),
        )
        try:
            tuner.fit()
        except Exception:
            if desk.error is None:
                raise
        if desk.error is not None:
            raise desk.error
    study.commit()
    watch(study)


def slots(cpu: float, gpu: float, at_most: int | None) -> Callable[[], int]:
    """How many trials of that size the cluster holds; asked anew as it grows or shrinks."""

    def fit() -> int:
        have = ray.cluster_resources()
        wanted = {"CPU": cpu, "GPU": gpu}
        fits = [int(have.get(name, 0) / each + 1e-9) for name, each in wanted.items() if each]
        return min([*fits, at_most or 10**9])

    return _remember(fit, seconds=5)


@contextmanager
def connected(address: str | None = None, *, cpus: int | None = None) -> Iterator[Cluster]:
    """A connection to a Ray cluster: `address`, else `$RAY_ADDRESS`, else one started here.

    One started here has `cpus` CPUs, or as many as the machine. An existing connection of this
    process is used as it is and left open.
    """
    ours = not ray.is_initialized()
    with environment():
        if ours:
            where = address or os.environ.get("RAY_ADDRESS") or "local"
            _knock(where)
            ray.init(
                address=where,
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
        logging.getLogger("ray").setLevel(logging.ERROR)
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # endings are told by us
        try:
            have = ray.cluster_resources()
            nodes = sum(node["Alive"] for node in ray.nodes())
            where = ray.get_runtime_context().gcs_address
            yield Cluster(where, nodes, have.get("CPU", 0), have.get("GPU", 0))
        finally:
            if ours:
                ray.shutdown()


def _knock(address: str) -> None:
    """Raise ConnectionError where nobody listens: Ray would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return  # "local", "auto": nothing to knock at
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        said = f"no Ray cluster at {address} ({error.strerror or error})"
        raise ConnectionError(
            f"{said}\n  start one with `ray start --head`, or leave --address out"
        ) from None


@contextmanager
def environment(slots: int | None = None) -> Iterator[None]:
    """Ray's switches, for as long as they are wanted."""
    wanted = dict(ENVIRONMENT)
    if slots is not None:
        wanted["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _error(trial: Any) -> BaseException | str:
    """Why a Ray trial ended in error; Ray leaves it in files of this process, not in the trial."""
    if trial.pickled_error_file:
        error: BaseException = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        return error
    return Path(trial.error_file).read_text() if trial.error_file else ""


def _ending(error: BaseException | str) -> Ending:
    """What a worker's death was, in our words."""
    lines = ANSI.sub("", str(error)).strip().splitlines()
    whole = "\n".join(lines)
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, AttemptFailed):
        return Ending(**json.loads(str(error.cause)))
    if isinstance(error, ray.exceptions.RayTaskError):  # its last line is the exception's own
        sentence = lines[-1].strip()
    else:
        sentence = next((line.strip() for line in lines if line.strip()), "its worker died")
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return Ending("host_oom", sentence)
    lost = isinstance(error, ray.exceptions.RayActorError) and (
        error.preempted or "node has died" in whole or "node was terminated" in whole
    )
    return Ending("preempted", sentence) if lost else Ending("crashed", sentence, whole[-DETAIL:])


def _nested(result: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The entries Ray has flattened to `prefix/name`."""
    head = f"{prefix}/"
    return {name[len(head) :]: value for name, value in result.items() if name.startswith(head)}


def _remember(function: Callable[[], int], *, seconds: float) -> Callable[[], int]:
    """The function's answer, asked again only after some seconds: a cluster may grow or shrink."""
    answer, until = 0, 0.0

    def remembered() -> int:
        nonlocal answer, until
        if time.monotonic() >= until:
            answer, until = function(), time.monotonic() + seconds
        return answer

    return remembered
