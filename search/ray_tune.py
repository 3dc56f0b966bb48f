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
* `ray.kill` reaches a worker that spins in C at once and one stopped with SIGSTOP within 5 s: the
  node sends SIGKILL to who does not answer.

The only module that imports ray.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray import cloudpickle, tune
from ray.air.execution._internal import RayActorManager
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.execution import tune_controller
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.utils.object_cache import _ObjectCache
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from search import notice
from search.cluster import (
    LOOPBACK,
    Cluster,
    HeadGone,
    Node,
    Pulse,
    environment,
    forget,
    knock,
    own,
    withheld,
)
from search.errors import Unfit
from search.meeting import Meeting, called
from search.trial import Assignment, Ending
from search.worker import DETAIL, Workplace, attempt, freed, here

if TYPE_CHECKING:  # a worker needs no study
    from search.desk import Desk, Watch
    from search.study import Study

Answer = TypeVar("Answer")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
GUESSES = " Some common causes include:"
"""What Ray has to say of any death of a worker from here on, 500 characters that tell nothing."""
IDLE = 30.0
"""Seconds after which a worker that has nothing to do is ended."""
SPOILT = ("oom", "host_oom", "crashed", "preempted")
"""Endings after which a process is not used again: its memory may be spoilt, or it is to leave."""
LOOK = 2.0
"""Seconds between two looks of a worker at whether its node is being drained."""


class AttemptFailed(Exception):
    """Ends the worker's process, which is not used again; its text is the ending."""


class Attempt(tune.Trainable):  # type: ignore[misc]
    """A reusable actor: one attempt after another, PyTorch imported once.

    `attempt` is what it does with an assignment, `freed` says whether that has left the GPU's
    memory free; a subclass may do something else.
    """

    attempt = staticmethod(attempt)
    freed = staticmethod(freed)

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first assignment, without what a job's own environment told of MLflow."""
        _settle_in()
        self._take(config)

    def step(self) -> dict[str, Any]:
        """One epoch, or the ending: `done` with an outcome word."""
        message = next(self._messages)
        if isinstance(message, Ending):
            return self._over(self._mates.reason(message))
        if message["epoch"] < self._epochs or notice.given():
            return {"metrics": message}
        ending = next(self._messages)  # the last epoch brings its ending along: one trip less
        assert isinstance(ending, Ending)
        if not self._reusable(ending):  # what ends with its process is told after the epoch
            self._messages: Iterator[dict[str, Any] | Ending] = iter([ending])
            return {"metrics": message}
        return {"metrics": message, **self._over(ending)}

    def _over(self, ending: Ending) -> dict[str, Any]:
        """The ending as a result, or as the end of a process that is not used again."""
        if not self._reusable(ending):
            raise AttemptFailed(json.dumps(asdict(ending)))
        return {"done": True, "ending": asdict(ending)}

    def _reusable(self, ending: Ending) -> bool:
        """Whether another attempt may follow here: not in a process that may be spoilt, is to leave
        or holds memory, as the next trial would find its GPU fuller than it was told.
        """
        self._drop()
        return ending.outcome not in SPOILT and not notice.given() and self.freed()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next assignment in the same process."""
        self.cleanup()
        self._take(new_config)
        return True

    def cleanup(self) -> None:
        """Drop what is running."""
        self._mates.leave()  # they may be waiting for us
        self._drop()

    def _drop(self) -> None:
        """A generator that is closed lets go of its network."""
        if isinstance(self._messages, Generator):
            self._messages.close()

    def worker(self) -> tuple[str, str]:
        """`host:pid` of this process, and its node."""
        return here(), ray.get_runtime_context().get_node_id()

    def _take(self, config: dict[str, Any]) -> None:
        assignment = Assignment(**json.loads(config["assignment"]))
        workplace = Workplace(**json.loads(config["workplace"]))
        self._epochs = assignment.config["training"]["epochs"]
        self._mates = _Mates(assignment, workplace)
        meeting = self._mates.meeting
        self._messages = self.attempt(assignment, workplace, *([meeting] if meeting else []))


class Mate:
    """A process of a trial that several train together, the first of which is its `Attempt`."""

    def __init__(self) -> None:
        _settle_in()

    def train(self, assignment: Assignment, workplace: Workplace, meeting: Meeting) -> Ending:
        """Do the same as the first process, which alone is listened to."""
        meeting = replace(meeting, here=ray.util.get_node_ip_address())
        for message in attempt(assignment, replace(workplace, logs=""), meeting):
            if isinstance(message, Ending):
                return message
        return Ending("crashed", "the attempt ended without a word")


class _Mates:
    """The other processes of a trial, each in its bundle of the trial's placement group."""

    def __init__(self, assignment: Assignment, workplace: Workplace) -> None:
        self.meeting: Meeting | None = None
        self._actors: list[Any] = []
        self._endings: list[Any] = []
        if workplace.processes == 1:
            return
        self.meeting = called(ray.util.get_node_ip_address(), workplace.processes)
        group = ray.util.get_current_placement_group()
        theirs = replace(assignment, latencies=None)
        for rank in range(1, workplace.processes):
            bundle = group.bundle_specs[rank]
            actor = ray.remote(Mate).options(
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, rank),
            )
            self._actors.append(actor.remote())
            told = self._actors[-1].train.remote(theirs, workplace, self.meeting.guest(rank))
            self._endings.append(told)

    def reason(self, ending: Ending) -> Ending:
        """What an attempt ended of: where it lost the others, what one of them says."""
        if ending.outcome != "crashed" or not self._endings:
            return ending
        over, _ = ray.wait(self._endings, num_returns=len(self._endings), timeout=5)
        for each in over:
            try:
                theirs = ray.get(each)
            except ray.exceptions.RayError as error:
                return _ending(error)
            if theirs.outcome not in ("finished", "crashed"):
                return Ending(**asdict(theirs))
        return ending

    def leave(self) -> None:
        """End them."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []


def _settle_in() -> None:
    """Make a process of Ray's a worker of ours."""
    forget()
    notice.listen()
    node = ray.get_runtime_context().get_node_id()
    threading.Thread(target=_until_drained, args=(node,), name="drain", daemon=True).start()


class WorkerLost(ray.exceptions.RayActorError):  # type: ignore[misc]
    """A worker is gone in a way Tune has no case for; `memory`: its node had too little of it."""

    def __init__(self, said: str = "", *, memory: bool = False) -> None:
        super().__init__(error_msg=said)
        self.memory = memory


class _Manager(RayActorManager):  # type: ignore[misc]
    """Tune's, with every death told: in ray 2.60 one for want of memory would end the search."""

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, _as_death(exception))

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        super()._actor_task_failed(tracked_actor_task, _as_death(exception))


def _as_death(error: Exception) -> Exception:
    known = (ray.exceptions.RayActorError, ray.exceptions.RayTaskError)
    if not isinstance(error, ray.exceptions.RayError) or isinstance(error, known):
        return error
    memory = isinstance(error, ray.exceptions.OutOfMemoryError)
    return WorkerLost(str(error), memory=memory)


class _Idle(_ObjectCache):  # type: ignore[misc]
    """Tune's actors without a trial: it would keep one of them, and its GPU, until the search ends.

    One that has had nothing to do for `IDLE` seconds is ended, so that others, or an autoscaler,
    have its place.
    """

    def __init__(self, may_keep_one: bool = True) -> None:
        super().__init__(may_keep_one)
        self._since: dict[Any, float] = {}

    def cache_object(self, key: Any, obj: Any) -> bool:
        self._since[obj] = time.monotonic()
        return bool(super().cache_object(key, obj))

    def flush_cached_objects(self, force_all: bool = False) -> Iterator[Any]:
        yield from super().flush_cached_objects(force_all)
        now = time.monotonic()
        for objects in self._cached_objects.values():
            for idle in [one for one in objects if now - self._since[one] > IDLE]:
                objects.remove(idle)
                self._num_cached_objects -= 1
                yield idle


@contextmanager
def _tune_as_wanted() -> Iterator[None]:
    """Tune with every death told, and no actor kept for nothing."""
    tune_controller.RayActorManager, tune_controller._ObjectCache = _Manager, _Idle
    try:
        yield
    finally:
        tune_controller.RayActorManager, tune_controller._ObjectCache = (
            RayActorManager,
            _ObjectCache,
        )


class _Workers:
    """Ray's actors: which attempt each carries, who it is. None of them is waited for."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._actors: dict[str, Any] = {}  # by the id of Ray's trial
        self._known: dict[Any, tuple[str, str]] = {}  # by actor: `host:pid`, node
        self._asked: dict[str, Any] = {}  # trials whose actors were asked who they are
        self._waiting: list[Any] = []  # Ray's trials that no actor has taken up
        self._seen = 0
        self._sent_off: float | None = None  # when the driver was to end
        self._telling: list[Any] = []

    def begin(self, trial: Any) -> None:
        """An actor has come up, or was reset, for a trial."""
        actor = self._actors[trial.trial_id] = trial.temporary_state.ray_actor
        if actor._actor_id in self._known:
            self._desk.start(trial.trial_id, *self._known[actor._actor_id])
        else:
            self._desk.ask(trial.trial_id)
            self._asked[trial.trial_id] = actor.worker.remote()

    def greet(self, trial_id: str | None = None) -> None:
        """Begin the attempts whose actors have said who they are; `trial_id`'s has, for sure."""
        for asked in [trial_id] if trial_id else list(self._asked):
            if asked in self._asked and self._answered(asked, sure=bool(trial_id)):
                actor = self._actors[asked]._actor_id
                try:
                    self._known[actor] = ray.get(self._asked.pop(asked))
                except ray.exceptions.RayActorError:
                    continue  # Ray will tell of its end
                self._desk.start(asked, *self._known[actor])

    def _answered(self, trial_id: str, *, sure: bool) -> bool:
        return bool(ray.wait([self._asked[trial_id]], timeout=5 if sure else 0)[0])

    def look_at_resets(self, trials: list[Any]) -> None:
        """Tell the desk which attempts were put to actors that did something else before."""
        self._waiting += trials[self._seen :]
        self._seen = len(trials)
        if self._waiting:
            self._waiting = [trial for trial in self._waiting if trial.status == trial.PENDING]
        for trial in self._waiting:
            if trial.temporary_state.ray_actor is not None:
                self._actors[trial.trial_id] = trial.temporary_state.ray_actor
                self._desk.ask(trial.trial_id)

    def let_go(self, trial_id: str) -> None:
        """The attempt is over; its actor may do something else."""
        self._actors.pop(trial_id, None)
        self._asked.pop(trial_id, None)

    def send_off(self) -> bool:
        """Tell every worker, once, to store its state and leave; whether one is still to do so.

        One that is not known yet has nothing to store.
        """
        if self._sent_off is None:
            self._sent_off = time.monotonic()
            for actor in self._actors.values():
                if actor._actor_id in self._known:
                    worker, node = self._known[actor._actor_id]
                    there = NodeAffinitySchedulingStrategy(node, soft=False)
                    tell = _tell.options(scheduling_strategy=there)
                    self._telling.append(tell.remote(int(worker.rpartition(":")[2])))
        begun = any(attempt.begun for attempt in self._desk.carried.values())
        return begun and time.monotonic() - self._sent_off < notice.GRACE - 5

    def kill(self, trial_id: str) -> None:
        """End the actor of an attempt; Ray tells of its death."""
        if trial_id in self._actors:
            ray.kill(self._actors[trial_id])


class _Searcher(Searcher):  # type: ignore[misc]
    def __init__(self, desk: Desk, workers: _Workers) -> None:
        super().__init__()
        self._desk = desk
        self._workers = workers

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles what it is given, for a `Tuner.restore` that is never called."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        with self._desk.kept():
            return self._desk.take(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if not error:  # an error is told by the callback, which knows what it was
            ending = _nested(result or {}, "ending")
            metrics = _nested(result or {}, "metrics")
            with self._desk.kept():
                self._workers.greet(trial_id)
                self._desk.complete(trial_id, metrics, Ending(**ending) if ending else None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing of Ray's is restored."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing of Ray's is restored."""


class _Scheduler(FIFOScheduler):  # type: ignore[misc]
    def __init__(self, desk: Desk, workers: _Workers) -> None:
        super().__init__()
        self._desk = desk
        self._workers = workers

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        with self._desk.kept():
            self._workers.greet(trial.trial_id)
            stop = self._desk.report(trial.trial_id, _nested(result, "metrics"))
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)


class _Watch(Callback):  # type: ignore[misc]
    def __init__(self, desk: Desk, workers: _Workers, pulse: Pulse) -> None:
        self._desk = desk
        self._workers = workers
        self._pulse = pulse

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with self._desk.kept():
            self._workers.begin(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._workers.let_go(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = _error(trial)
        died = isinstance(error, ray.exceptions.RayActorError)
        with self._desk.kept():
            self._workers.kill(trial.trial_id)  # out of reach, it may yet write where the next will
            self._workers.let_go(trial.trial_id)
            self._desk.died(
                trial.trial_id,
                _ending(error),
                lost=isinstance(error, ray.exceptions.ActorUnavailableError),
                said=_whole(error) if died else "",
            )

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._desk.error is not None:
            raise self._desk.error
        with self._desk.kept():
            self._pulse.check()
            self._workers.greet()
            self._workers.look_at_resets(trials)
            self._desk.decide()
            if notice.given() and not self._workers.send_off():
                raise KeyboardInterrupt
            for trial_id in self._desk.condemned():
                self._workers.kill(trial_id)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        with self._desk.kept():
            self._pulse.check()
            if self._desk.study.commit(now=False):
                self._desk.watch(self._desk.study)
                self._desk.refuse_to_wait()


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
    through; attempts then die with their actors and are taken up again at `resume`. Where this
    process is told to leave (`search.notice`), workers store their states first.

    Raises `ConnectionError` when the cluster's head answers no more, `Unfit` when the cluster has
    become too small for one trial.
    """
    from search.desk import Desk

    desk = Desk(study, workplace, slots, _remember(_nodes, seconds=1), watch)
    farewell = f"paused; go on with: eca-search resume {study.folder}"
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="eca-search-"))
        stack.enter_context(environment({"TUNE_MAX_PENDING_TRIALS_PG": str(slots())}))
        workers = _Workers(desk)
        pulse = Pulse(ray.get_runtime_context().gcs_address, farewell)
        tuner = Tuner(
            tune.with_resources(trainable, _bundles(cpu, gpu, workplace.processes)),
            tune_config=TuneConfig(
                search_alg=_Searcher(desk, workers),
                scheduler=_Scheduler(desk, workers),
                num_samples=-1,
                reuse_actors=workplace.processes == 1,
                trial_name_creator=lambda trial: f"attempt_{trial.trial_id}",
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=RunConfig(
                name=study.name,
                storage_path=scratch,
                verbose=0,
                callbacks=[_Watch(desk, workers, pulse)],
                failure_config=FailureConfig(max_failures=0),
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                log_to_file=False,
            ),
        )
        stack.enter_context(pulse)
        stack.enter_context(_tune_as_wanted())
        try:
            with notice.heeded():
                tuner.fit()
        except HeadGone as error:
            raise ConnectionError(str(error)) from None
        except Exception:
            if desk.error is None:
                raise
        if desk.error is not None:
            raise desk.error
        if notice.given():
            raise KeyboardInterrupt
    study.commit()
    watch(study)


def _bundles(cpu: float, gpu: float, processes: int) -> tune.PlacementGroupFactory:
    """What a trial is given, evenly for each of its processes; near one another where they fit."""
    each = {"CPU": cpu / processes, **({"GPU": gpu / processes} if gpu else {})}
    return tune.PlacementGroupFactory([each] * processes, strategy="PACK")


def slots(cpu: float, gpu: float, *, processes: int = 1) -> Callable[[], int]:
    """How many trials of that size the cluster holds; asked anew as it grows or shrinks."""

    def fit() -> int:
        wanted, leaving = {"CPU": cpu / processes, "GPU": gpu / processes}, _draining()
        places = 0
        for node in ray.nodes():
            have = node["Resources"] if node["Alive"] and node["NodeID"] not in leaving else {}
            places += min(
                int(have.get(name, 0) / each + 1e-9) for name, each in wanted.items() if each
            )
        return places // processes

    return _remember(fit, seconds=5)


@contextmanager
def connected(address: str | None = None, *, cpus: int | None = None) -> Iterator[Cluster]:
    """A connection to a Ray cluster: `address`, else `$RAY_ADDRESS`, else one started here.

    One started here has `cpus` CPUs, or as many as the machine; it listens on this machine's
    loopback alone and asks for a token. An existing connection of this process is used as it is and
    left open. Raises `Unfit` where nobody listens, or who listens refuses us.
    """
    ours = not ray.is_initialized()
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    with environment(own() if ours and where == "local" else {}):
        if ours:
            _init(where, cpus)
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


def everywhere(
    module: ModuleType, look: Callable[[Any], Any], question: Any, *, timeout: float = 120
) -> Iterator[tuple[Node, Any]]:
    """What `look(question)` answers on each node that trials may go to; a str: why it did not.

    The function and its module travel as source, so that a node need not have them. It is given no
    CPU, so that it need not wait for trials to end, and `timeout` seconds.
    """
    cloudpickle.register_pickle_by_value(module)
    try:
        asked = []
        for node in ray.nodes():
            have = node["Resources"]
            if node["Alive"] and (have.get("CPU") or have.get("GPU")):
                name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                there = Node(name, node["NodeID"], have.get("CPU", 0), have.get("GPU", 0))
                only_there = NodeAffinitySchedulingStrategy(there.id, soft=False)
                task = ray.remote(num_cpus=0, max_retries=0)(look)
                asked.append((there, task.options(scheduling_strategy=only_there).remote(question)))
        until = time.monotonic() + timeout
        for there, answer in asked:
            try:
                yield there, ray.get(answer, timeout=max(1.0, until - time.monotonic()))
            except ray.exceptions.GetTimeoutError:
                yield there, f"no answer within {timeout:g} s"
            except ray.exceptions.RayError as error:
                yield there, _sentence(_whole(error).splitlines(), error)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _init(where: str, cpus: int | None) -> None:
    knock(where, _as_ray_reads(where))
    constants = ray._private.ray_constants
    several = constants.ENABLE_RAY_CLUSTER  # on Linux Ray takes no loopback address unless told
    constants.ENABLE_RAY_CLUSTER = several and where != "local"
    try:
        with withheld():
            ray.init(
                address=where,
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
                **({"_node_ip_address": LOOPBACK} if where == "local" else {}),
            )
    except (ray.exceptions.AuthenticationError, ConnectionError):
        raise Unfit(
            f"the Ray cluster at {where} refuses us: it asks for another token, or is no Ray\n"
            "  set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to what it has"
        ) from None
    finally:
        constants.ENABLE_RAY_CLUSTER = several


def _as_ray_reads(address: str) -> str:
    """An address with this machine's own for `localhost`, as Ray takes it."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit() or not host:
        return address
    return f"{ray._private.services.resolve_ip_for_localhost(host.strip('[]'))}{colon}{port}"


@ray.remote(num_cpus=0, max_retries=0)  # type: ignore[untyped-decorator]
def _tell(pid: int) -> None:
    """Tell a worker on this node to leave."""
    os.kill(pid, signal.SIGTERM)


def _draining() -> set[str]:
    """Nodes that are to be taken away: Ray puts nothing new on them."""
    return set(ray._private.state.state.get_draining_nodes())


def _until_drained(node: str) -> None:
    """Wait until the node of this worker is drained, and say so."""
    while True:
        with suppress(ray.exceptions.RpcError):  # the head is busy, or gone: then we go too
            if node in _draining():
                break
        time.sleep(LOOK)
    notice.give("its node is drained")


def _nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _error(trial: Any) -> BaseException | str:
    """Why a Ray trial ended in error; Ray leaves it in files of this process, not in the trial."""
    if trial.pickled_error_file:
        error: BaseException = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        return error
    return Path(trial.error_file).read_text() if trial.error_file else ""


def _whole(error: BaseException | str) -> str:
    return "\n".join(ANSI.sub("", str(error)).strip().splitlines())


def _ending(error: BaseException | str) -> Ending:
    """What a worker's death was, in our words."""
    whole = _whole(error)
    lines = whole.splitlines()
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, AttemptFailed):
        return Ending(**json.loads(str(error.cause)))
    sentence = _sentence([line.strip() for line in lines if line.strip()], error)
    if isinstance(error, WorkerLost) and error.memory:
        return Ending("host_oom", sentence)
    lost = isinstance(error, ray.exceptions.RayActorError) and (
        error.preempted or "node has died" in whole or "node was terminated" in whole
    )
    return Ending("preempted", sentence) if lost else Ending("crashed", sentence, whole[-DETAIL:])


def _sentence(lines: list[str], error: BaseException | str) -> str:
    """The one line that says most: an exception's own is the last, a death's gives the cause."""
    if not lines:
        return "its worker died"
    if isinstance(error, ray.exceptions.RayTaskError) or "creation task" in lines[0]:
        return lines[-1]
    line = next((line for line in lines if line.startswith("The actor is dead")), lines[0])
    return line.partition(GUESSES)[0]


def _nested(result: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The entries Ray has flattened to `prefix/name`."""
    head = f"{prefix}/"
    return {name[len(head) :]: value for name, value in result.items() if name.startswith(head)}


def _remember(function: Callable[[], Answer], *, seconds: float) -> Callable[[], Answer]:
    """The function's answer, asked again only after some seconds: a cluster may grow or shrink."""
    answer: list[Answer] = []
    until = 0.0

    def remembered() -> Answer:
        nonlocal until
        if not answer or time.monotonic() >= until:
            answer[:] = [function()]
            until = time.monotonic() + seconds
        return answer[0]

    return remembered
