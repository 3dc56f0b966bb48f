"""What the desk between Ray's hooks and the study makes of workers and nodes that go.

Here Ray is what calls: its trials are ids and its clock is ours. The study is real.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import spaces
from search.errors import Unfit
from search.execution import notice
from search.execution.cluster import Pulse
from search.execution.desk import DOUBT, FINISHED, RESET, Desk
from search.execution.worker import Workplace
from search.study.logs import tail
from search.study.study import Study
from search.trial import Assignment, Candidate, Ending
from spaces import durable

EPOCHS = 3
SPACE = f"""\
name: desk
task: {{name: classification}}
dataset: {{name: digits}}
backbone: {{name: resnet, depth: 8, width: {{float: [0.25, 8], step: 0.25}}}}
attention: {{name: none}}
training: {{epochs: {EPOCHS}, batch_size: 32, optimizer: {{name: sgd, lr: 0.1}}}}
"""


def examine(values: dict[str, Any]) -> Candidate:
    """A network as large as it is wide."""
    width = values["backbone.width"]
    config = {"training": {"epochs": EPOCHS, "batch_size": 32}, "attention": {"name": "none"}}
    costs = {"params": 1000 * width, "macs": 1e6 * width}
    return Candidate(config, f"w{width}", f"w{width}", costs, {}, "", f"w{width}")


@dataclass
class Ray:
    """A cluster as the desk sees it, and what its hooks would tell."""

    study: Study
    free: int = 2
    nodes: set[str] = field(default_factory=lambda: {"here", "there"})
    now: float = 1000.0
    why: str = ""

    def __post_init__(self) -> None:
        self.desk = Desk(
            self.study,
            Workplace("checkpoints"),
            slots=lambda: self.free,
            nodes=lambda: self.nodes,
            leaving=lambda: self.why,
            clock=lambda: self.now,
        )

    def take(self, name: str) -> dict[str, Any]:
        """Hand an attempt out; its assignment."""
        config = self.desk.take(name)
        assert isinstance(config, dict)
        assignment: dict[str, Any] = json.loads(config["assignment"])
        return assignment

    def begin(self, name: str, node: str = "here") -> dict[str, Any]:
        """Hand an attempt out, and a worker takes it up."""
        assignment = self.take(name)
        self.desk.start(name, f"{node}:1", node)
        return assignment

    def kills(self) -> list[str]:
        """Whom the step hook kills now."""
        return self.desk.condemned()

    def outcomes(self, number: int = 0) -> list[str | None]:
        """How the attempts of a trial ended."""
        return [a.outcome for a in self.study.trials[number].replicates[0].attempts]


def epoch(number: int) -> dict[str, float]:
    return {"epoch": number, "val_accuracy": 0.5}


CRASHED = Ending("crashed", "the actor died")


@pytest.fixture
def ray(tmp_path: Path) -> Callable[..., Ray]:
    """A cluster of two nodes and a study with a search section of one's own."""

    def make(**search: Any) -> Ray:
        path = tmp_path / "desk.yaml"
        path.write_text(f"{SPACE}search: {json.dumps({'trials': 3, **search})}\n")
        study = Study.create(
            tmp_path / "desk",
            spaces.load(path),
            examine,
            reference={"params": 8000, "macs": 8e6},
            chance=0.1,
        )
        return Ray(study)

    return make


def test_a_worker_that_never_comes_up_was_an_attempt(ray: Callable[..., Ray]) -> None:
    """An actor that dies before it takes the attempt up costs an attempt, which is tried again."""
    cluster = ray()
    first = cluster.take("a")
    cluster.desk.died("a", CRASHED, lost=False)
    again = cluster.begin("b")

    assert cluster.outcomes() == ["crashed", None]
    assert (again["trial"], again["attempt"]) == (first["trial"], 2)


def test_a_cluster_without_room_is_no_end(ray: Callable[..., Ray]) -> None:
    """With nothing running and no slot left the search is unfit to go on, never finished."""
    cluster = ray()
    cluster.begin("a")
    cluster.desk.died("a", CRASHED, lost=False)
    cluster.free = 0

    with pytest.raises(Unfit, match=r"no room[^\n]*\n[^\n]*eca-search resume"):
        cluster.desk.take("b")
    assert not cluster.study.done


def test_an_attempt_without_a_place_is_not_waited_for(ray: Callable[..., Ray]) -> None:
    """What was handed out before the last node went is not waited for; what runs, is."""
    cluster = ray()
    cluster.begin("a")
    cluster.take("b")
    cluster.free = 0
    cluster.desk.refuse_to_wait()
    cluster.desk.died("a", CRASHED, lost=False)

    with pytest.raises(Unfit, match="no room"):
        cluster.desk.refuse_to_wait()


def test_a_driver_that_is_to_leave_begins_nothing_new(ray: Callable[..., Ray]) -> None:
    """What its workers have stored meanwhile was interrupted: it is the driver that ends."""
    cluster = ray()
    cluster.begin("a")
    cluster.why = "SIGTERM"

    assert cluster.desk.take("b") is None
    cluster.desk.died("a", Ending("preempted", "left after 6 steps of epoch 2"), lost=False)
    assert cluster.outcomes() == ["interrupted"]
    assert cluster.desk.take("c") == FINISHED
    assert not cluster.study.done


def test_a_worker_that_is_told_to_leave_is_preempted(ray: Callable[..., Ray]) -> None:
    """Its trial is handed out again, whatever the budget for crashes."""
    cluster = ray(failures={"crashed": 0})
    first = cluster.begin("a")
    cluster.desk.died("a", Ending("preempted", "left after 6 steps of epoch 2"), lost=False)
    again = cluster.begin("b")

    assert cluster.outcomes() == ["preempted", None]
    assert (again["trial"], again["attempt"]) == (first["trial"], 2)


def test_a_lost_worker_is_preempted_when_its_node_is_gone(ray: Callable[..., Ray]) -> None:
    """A connection that breaks says nothing: the cluster notices a while later what has gone."""
    cluster = ray(failures={"crashed": 0})
    cluster.begin("a", "there")
    cluster.desk.report("a", epoch(1))
    cluster.desk.died("a", Ending("crashed", "socket closed"), lost=True)
    cluster.desk.decide()
    undecided = cluster.outcomes()
    assert cluster.desk.take("b") is not None  # the other slot is free meanwhile
    cluster.nodes = {"here"}
    cluster.now += DOUBT / 2
    cluster.desk.decide()
    again = cluster.begin("c")

    assert undecided == [None]
    assert cluster.outcomes() == ["preempted", None]
    assert (again["trial"], again["attempt"], again["known"]) == (0, 2, 1)


def test_a_lost_worker_whose_node_lives_has_crashed(ray: Callable[..., Ray]) -> None:
    """When the node is still there after a while, it was the worker."""
    cluster = ray()
    cluster.begin("a", "there")
    cluster.desk.died("a", Ending("crashed", "socket closed"), lost=True)
    cluster.now += DOUBT + 1
    cluster.desk.take("b")

    assert cluster.outcomes()[0] == "crashed"


def test_a_death_on_a_dead_node_is_no_crash(ray: Callable[..., Ray]) -> None:
    """Ray may say of a worker that it died where in truth its node did."""
    cluster = ray(failures={"crashed": 0})
    cluster.begin("a", "there")
    cluster.nodes = {"here"}
    cluster.desk.died("a", CRASHED, lost=False)

    assert cluster.outcomes() == ["preempted"]
    assert cluster.study.trials[0].outcome is None


@pytest.mark.parametrize(
    ("timeouts", "reported", "reason"),
    [
        ({"trial": 100}, 90.0, "over 100 s in all"),
        ({"no_progress": 60}, 40.0, "no epoch for 60 s"),
        ({"trial": 500, "no_progress": 60}, 40.0, "no epoch for 60 s"),
    ],
)
def test_an_attempt_over_its_time_is_killed_once(
    ray: Callable[..., Ray], timeouts: dict[str, float], reported: float, reason: str
) -> None:
    """Both times count from the start; an epoch renews the one without progress alone."""
    cluster = ray(timeouts=timeouts)
    cluster.begin("a")
    cluster.now += reported
    cluster.desk.report("a", epoch(1))
    early = cluster.kills()
    cluster.now += 61
    late = [cluster.kills(), cluster.kills()]
    cluster.desk.died("a", CRASHED, lost=False)

    assert early == []
    assert late == [["a"], []]
    assert cluster.outcomes() == ["timeout"]
    assert cluster.study.trials[0].reason == reason


def test_a_trial_stopped_by_hand_is_killed_at_once(ray: Callable[..., Ray]) -> None:
    """It does not go on to its next epoch, and an epoch under way is not counted."""
    cluster = ray()
    cluster.begin("a")
    cluster.study.stop(0)
    killed = cluster.kills()
    went_on = not cluster.desk.report("a", epoch(1))
    cluster.desk.died("a", CRASHED, lost=False)

    assert killed == ["a"]
    assert went_on
    assert cluster.study.trials[0].outcome == "pruned"
    assert cluster.study.trials[0].reason == "stopped by hand"
    assert not cluster.study.trials[0].epochs


def test_a_worker_that_hangs_between_attempts_is_killed(ray: Callable[..., Ray]) -> None:
    """One that does not take an attempt up is ended, which counts against nobody."""
    cluster = ray(failures={"crashed": 0})
    cluster.take("a")
    cluster.desk.ask("a")
    cluster.now += RESET - 1
    cluster.desk.ask("a")
    early = cluster.kills()
    cluster.now += 2
    late = cluster.kills()
    cluster.desk.died("a", CRASHED, lost=False)

    assert (early, late) == ([], ["a"])
    assert cluster.outcomes() == ["interrupted"]
    assert cluster.take("b")["trial"] == 0


def test_last_words_of_a_killed_worker_count(ray: Callable[..., Ray]) -> None:
    """It finished while it was being killed: that stands. Who is next on it has not crashed."""
    cluster = ray(timeouts={"trial": 100}, failures={"crashed": 0})
    cluster.begin("a")
    for number in range(1, EPOCHS):
        cluster.desk.report("a", epoch(number))
    cluster.now += 101
    killed = cluster.kills()
    cluster.desk.complete("a", [epoch(EPOCHS)], Ending("finished", ""))
    cluster.take("b")
    cluster.desk.died("b", CRASHED, lost=False)

    assert killed == ["a"]
    assert cluster.outcomes(0) == ["finished"]
    assert cluster.study.trials[0].epochs == EPOCHS
    assert cluster.outcomes(1) == ["interrupted"]


def test_what_ray_says_of_a_death_is_in_the_log(ray: Callable[..., Ray]) -> None:
    """A worker that is killed leaves no last line of its own: the driver adds Ray's."""
    cluster = ray()
    cluster.begin("a")
    cluster.desk.died("a", CRASHED, lost=False, said="worker died by signal 9")

    assert "signal 9" in tail(cluster.study.folder, 0, 0, 1)


def test_after_an_error_nothing_more_is_handed_out(ray: Callable[..., Ray]) -> None:
    """A hook that failed ends the search: its error is kept for whoever drives."""
    cluster = ray()
    with pytest.raises(OSError, match="full"), cluster.desk.kept():
        raise OSError("full")

    assert cluster.desk.take("a") == FINISHED
    assert isinstance(cluster.desk.error, OSError)


def test_a_full_disk_comes_out_of_rays_hooks(ray: Callable[..., Ray]) -> None:
    """The hook in which the journal fails raises, and the next one raises the same error again."""
    from search.execution.ray_tune.actors import Actors
    from search.execution.ray_tune.hooks import StudyCallback, StudyScheduler

    cluster = ray()
    cluster.begin("a")
    actors = Actors(cluster.desk)
    result = {"metrics": [epoch(1)]}
    durable.arm("append.begun:1:enospc")
    try:
        with pytest.raises(OSError, match="No space left") as full:
            StudyScheduler(cluster.desk, actors).on_trial_result(
                None, SimpleNamespace(trial_id="a"), result
            )
    finally:
        durable.arm(None)
    with pytest.raises(OSError, match="No space left") as again:
        StudyCallback(cluster.desk, actors, Pulse("127.0.0.1:1")).on_step_begin(0, [])

    assert again.value is full.value
    assert not cluster.study.trials[0].epochs


def test_a_worker_killed_for_memory_is_a_death_like_others() -> None:
    """Ray's memory monitor tells of it by an error that Tune has no case for: it would end all."""
    from ray import cloudpickle
    from ray.exceptions import OutOfMemoryError

    from search.execution.ray_tune.deaths import ending_of
    from search.execution.ray_tune.mended import Manager

    told: list[Exception] = []
    actor = SimpleNamespace(actor_id=7, _on_error=lambda actor, error: told.append(error))
    task = SimpleNamespace(_tracked_actor=actor, _on_error=None)
    manager = object.__new__(Manager)
    manager._failed_actor_ids = set()
    manager._cleanup_actor = lambda tracked_actor: None
    manager._actor_task_failed(task, OutOfMemoryError("1 worker was killed\nlow on memory"))
    error = cloudpickle.loads(cloudpickle.dumps(told[0]))  # Tune keeps it in a file

    assert manager._failed_actor_ids == {7}
    assert ending_of(error) == Ending("host_oom", "1 worker was killed")


def test_the_reason_of_a_death_is_what_is_known_of_it() -> None:
    """Ray's list of what may have been the cause stands in the detail, not in the one line."""
    from ray.exceptions import RayActorError

    from search.execution.ray_tune.deaths import ending_of

    known = (
        "The actor is dead because its worker process has died. Worker exit detail: End of file."
    )
    guessed = (
        " Some common causes include: (1) the process was killed by the OOM killer, (2) others."
    )
    ending = ending_of(
        RayActorError(error_msg=f"The actor died.\n\tclass_name: Worker\n{known}{guessed}")
    )

    assert (ending.outcome, ending.reason) == ("crashed", known)
    assert ending.detail.endswith(guessed)


def test_fewer_at_a_time_interrupts_the_newest_after_their_epoch(ray: Callable[..., Ray]) -> None:
    """What a person wants fewer of goes on later; the oldest are left alone, and no place is
    given out until it may be.
    """
    there = ray()
    there.free = 3
    for name in "abc":
        there.begin(name)
        assert there.desk.report(name, epoch(1)) is False
    there.study.narrow(1)
    there.free = 1
    assert there.desk.report("a", epoch(2)) is False
    assert there.desk.report("c", epoch(2)) is True
    there.desk.complete("c", [], None)
    assert there.desk.report("b", epoch(2)) is True
    there.desk.complete("b", [], None)
    assert there.desk.take("d") is None
    assert there.outcomes(1) == there.outcomes(2) == ["interrupted"]

    there.study.narrow(2)
    there.free = 2
    again = there.begin("d")
    assert (again["trial"], again["known"]) == (1, 2)


def test_a_last_epoch_is_never_interrupted(ray: Callable[..., Ray]) -> None:
    """It is trained, there is nothing left to hand back."""
    there = ray()
    there.free = 2
    for name in "ab":
        there.begin(name)
        for number in range(1, EPOCHS):
            there.desk.report(name, epoch(number))
    there.study.narrow(1)
    there.desk.complete("b", [epoch(EPOCHS)], Ending("finished", ""))
    assert there.study.trials[1].outcome == "finished"


def test_a_worker_that_is_to_leave_begins_nothing() -> None:
    """An attempt that it is put to all the same has not failed, and its process ends with it."""
    from search.execution.ray_tune import Attempt
    from search.execution.ray_tune.deaths import AttemptFailed

    config = {"training": {"epochs": 3}}
    assignment = Assignment(0, 0, 1, seed=0, key="k", config=config, known=0)
    worker = object.__new__(Attempt)
    notice.give("SIGTERM")
    try:
        worker._take(
            {
                "assignment": json.dumps(asdict(assignment)),
                "workplace": json.dumps(asdict(Workplace("none"))),
            }
        )
        with pytest.raises(AttemptFailed) as told:
            worker.step()
    finally:
        notice.withdraw()

    assert json.loads(str(told.value))["outcome"] == "interrupted"


def worker_of(messages: list[Any], seconds: list[float], monkeypatch: pytest.MonkeyPatch) -> Any:
    """An actor whose attempt has these messages, each after so many seconds."""
    from search.execution.ray_tune import Attempt, trainable

    now = 0.0

    def told() -> Iterator[Any]:
        nonlocal now
        for message, after in zip(messages, seconds, strict=True):
            now += after
            yield message

    monkeypatch.setattr(trainable, "time", SimpleNamespace(monotonic=lambda: now))
    worker = object.__new__(Attempt)
    worker._messages, worker._epochs, worker._pace = told(), EPOCHS, 0.1
    worker._mates = SimpleNamespace(reason=lambda ending: ending)
    return worker


def test_epochs_that_take_their_time_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was always: one message each, the last with its ending."""
    messages = [*map(epoch, range(1, EPOCHS + 1)), Ending("finished", "")]
    worker = worker_of(messages, [0.2] * len(messages), monkeypatch)
    steps = [worker.step() for _ in range(EPOCHS)]
    assert [step["metrics"] for step in steps] == [[epoch(n)] for n in range(1, EPOCHS + 1)]
    assert steps[-1]["ending"]["outcome"] == "finished"


def test_short_epochs_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first, which takes longer as a network is built; what a training ends of is told
    after its epochs.
    """
    ending = Ending("diverged", "nan")
    messages = [*map(epoch, range(1, 6)), ending]
    worker = worker_of(messages, [3.0, 0.04, 0.04, 0.04, 0.04, 0.01], monkeypatch)
    worker._epochs = 100
    assert worker.step() == {"metrics": [epoch(1)]}
    assert worker.step() == {"metrics": [epoch(2), epoch(3), epoch(4)]}
    assert worker.step() == {"metrics": [epoch(5)]}
    assert worker.step() == {"done": True, "ending": asdict(ending)}


def test_a_process_that_may_be_spoilt_begins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the driver stops the attempt at an epoch before, and never hears of the crash."""
    from search.execution.ray_tune.deaths import AttemptFailed

    worker = worker_of([epoch(1), Ending("oom", "CUDA")], [0.01, 0.01], monkeypatch)
    worker._mates.leave = lambda: None
    assert worker.step() == {"metrics": [epoch(1)]}
    assignment = Assignment(0, 0, 1, seed=0, key="k", config={"training": {"epochs": 3}}, known=0)
    facts = {"assignment": assignment, "workplace": Workplace("none")}
    worker.reset_config({name: json.dumps(asdict(fact)) for name, fact in facts.items()})
    with pytest.raises(AttemptFailed, match="its memory may be spoilt") as told:
        worker.step()
    assert json.loads(str(told.value))["outcome"] == "interrupted"


def test_what_came_after_a_stop_is_forgotten(ray: Callable[..., Ray]) -> None:
    """Of epochs that came together those up to the decision count, as if each had come alone."""
    from search.execution.ray_tune.actors import Actors
    from search.execution.ray_tune.hooks import StudyScheduler

    cluster = ray()
    cluster.begin("a")
    number = cluster.desk.carried["a"].assignment.trial
    cluster.study.stop(number)
    decision = StudyScheduler(cluster.desk, Actors(cluster.desk)).on_trial_result(
        None, SimpleNamespace(trial_id="a"), {"metrics": [epoch(1), epoch(2)]}
    )
    assert decision == "STOP"
    assert cluster.study.trials[number].outcome == "pruned"
    assert cluster.study.trials[number].epochs == 1
