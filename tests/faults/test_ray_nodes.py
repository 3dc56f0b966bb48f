"""A Ray cluster of two nodes that loses one, then its head; who asks it without its token."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import search
from search.errors import JournalError
from search.study.journal import FILE
from search.study.study import Study

NODES = Path(__file__).parent / "nodes.py"
WriteSpace = Callable[..., Path]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(280)]


@dataclass
class Nodes:
    """The cluster's processes, its address and what a driver must know to enter."""

    process: subprocess.Popen[str]
    address: str
    parents: dict[int, str]  # node ids by the process that starts a node's workers
    environment: dict[str, str]

    def of(self, worker: str) -> str:
        """The id of the node that a worker (`host:pid`) lives on; empty where it lives no more."""
        try:
            stat = Path(f"/proc/{worker.rpartition(':')[2]}/stat").read_text()
        except FileNotFoundError:
            return ""
        return self.parents.get(int(stat.rpartition(")")[2].split()[1]), "")

    def lose(self, what: str) -> None:
        """`drain` or `remove` the second node, or `behead` the cluster."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def command(self, space: Path, out: Path) -> list[str]:
        """The command that searches there."""
        run = [sys.executable, "-m", "search", "run", str(space), "--out", str(out)]
        return [*run, "--executor", "ray", "--address", self.address]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two nodes that ask for a token."""
    with started(tmp_path_factory.mktemp("home")) as both:
        yield both


@contextmanager
def started(home: Path) -> Iterator[Nodes]:
    """Two nodes of one CPU that ask for a token, with a home folder of their own."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "HOME": str(home),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "5ec7e7" * 10,
    }
    process = subprocess.Popen(
        [sys.executable, str(NODES)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    parents = {int(pid): node for pid, node in json.loads(process.stdout.readline()).items()}
    yield Nodes(process, address, parents, environment)
    process.stdin.close()
    try:
        process.wait(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def epochs(folder: Path) -> Counter[int]:
    """Epochs in a study's journal, by trial, whoever writes it just now."""
    if not (folder / FILE).exists():
        return Counter()
    try:
        study = search.load(folder)
    except JournalError:
        return Counter()
    return Counter({trial.number: trial.epochs for trial in study.trials})


def wait_until(condition: Callable[[], bool], driver: subprocess.Popen[str]) -> None:
    """Poll until something holds of what a driver writes."""
    for _ in range(2400):
        if condition():
            return
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.1)
    raise AssertionError("it never happened")


def test_without_its_token_a_cluster_is_not_entered(
    nodes: Nodes, write_space: WriteSpace, tmp_path: Path
) -> None:
    """Exit code 3 and what to do about it; nothing was created."""
    refused = subprocess.run(
        nodes.command(write_space(), tmp_path / "runs"),
        env={**nodes.environment, "RAY_AUTH_TOKEN": "wrong"},
        capture_output=True,
        text=True,
    )

    assert refused.returncode == 3
    *_, said, remedy = refused.stderr.splitlines()  # Ray's own line comes before
    assert said.startswith(f"the Ray cluster at {nodes.address} refuses us")
    assert "RAY_AUTH_TOKEN" in remedy
    assert not (tmp_path / "runs").exists()


def test_two_nodes_train_one_trial(nodes: Nodes, write_space: WriteSpace, tmp_path: Path) -> None:
    """A trial of two processes where no node has room for both: each takes one, to the figures of
    one process but for the order of sums (float32; of 60 images two may be seen otherwise).
    """
    small = {"trials": 1, "width": "0.25", "attention": "{name: eca}", "epochs": 2}
    team = "resources: {cpu: 2, processes: 2}"
    alone = search.run(write_space(**small), out=tmp_path / "alone", executor="inprocess")
    ran = subprocess.run(
        nodes.command(write_space(**small, search=team), tmp_path / "both"),
        env=nodes.environment,
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stderr
    (one,), (two,) = alone.trials, search.load(tmp_path / "both" / "small").trials
    assert one.key == two.key
    assert len(two.replicates[0].curve) == 2
    for some, others in zip(one.replicates[0].curve, two.replicates[0].curve, strict=True):
        assert others["train_loss"] == pytest.approx(some["train_loss"], rel=5e-3)
        assert others["val_accuracy"] == pytest.approx(some["val_accuracy"], abs=2 / 60 + 1e-9)


def workers(folder: Path) -> list[str]:
    """Who has taken up attempts so far, also while somebody writes the journal."""
    try:
        study = search.load(folder)
    except JournalError:
        return []
    return [a.worker for t in study.trials for r in t.replicates for a in r.attempts if a.worker]


def test_no_worker_outlives_a_killed_driver(
    nodes: Nodes, write_space: WriteSpace, tmp_path: Path
) -> None:
    """Within 30 seconds of a SIGKILL no process of its trials is left on a cluster that goes on."""
    space = write_space(trials=4, epochs=2000, search="sampler: {name: RandomSampler}")
    folder = tmp_path / "runs" / "small"
    with subprocess.Popen(
        nodes.command(space, tmp_path / "runs"),
        env=nodes.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as driver:
        wait_until(lambda: sum(n >= 1 for n in epochs(folder).values()) >= 2, driver)
        seen = {worker: nodes.of(worker) for worker in workers(folder)}
        driver.kill()

    assert set(seen.values()) <= set(nodes.parents.values())
    assert len(seen) == 2
    for _ in range(300):
        if not any(map(nodes.of, seen)):
            break
        time.sleep(0.1)
    assert not any(map(nodes.of, seen))


def test_a_node_that_goes_takes_no_trial_along(
    nodes: Nodes,
    write_space: WriteSpace,
    tmp_path: Path,
    came_to: Callable[[Study], list[Any]],
) -> None:
    """A search over both nodes loses one: what it came to is what it comes to undisturbed.

    The attempt that was there is preempted, which is no failure; its trial goes on on the other.
    """
    space = write_space(
        trials=4, epochs=40, search="sampler: {name: RandomSampler}\nfailures: {crashed: 0}"
    )
    folder = tmp_path / "runs" / "small"
    seen: dict[str, str] = {}

    def both_at_work() -> bool:
        seen.update({worker: nodes.of(worker) for worker in workers(folder) if worker not in seen})
        begun = sum(n >= 2 for n in epochs(folder).values())
        return begun >= 2 and set(seen.values()) == set(nodes.parents.values())

    with subprocess.Popen(
        nodes.command(space, tmp_path / "runs"),
        env=nodes.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as driver:
        wait_until(both_at_work, driver)
        nodes.lose("remove")
        said, _ = driver.communicate()
    study = search.load(folder)
    alone = search.run(space, out=tmp_path / "alone", executor="inprocess")

    assert driver.returncode == 0, said
    attempts = [a for t in study.trials for r in t.replicates for a in r.attempts]
    assert sorted(str(a.outcome) for a in attempts) == ["finished"] * 4 + ["preempted"]
    (lost,) = (a.worker for a in attempts if a.outcome == "preempted")
    _, gone = nodes.parents.values()
    assert seen[lost] == gone
    assert study.outcomes() == {"finished": 4, "pruned": 0, "failed": 0}
    assert came_to(study) == came_to(alone)  # the same networks with the same curves
    assert [t.number for t in study.pareto()] == [t.number for t in alone.pareto()]
    assert study.hypervolume() == alone.hypervolume()


@pytest.mark.timeout(600)
def test_a_node_that_is_drained_is_left_in_time(
    write_space: WriteSpace, tmp_path: Path, came_to: Callable[[Study], list[Any]]
) -> None:
    """Told that it will go, its worker stores what it has; nothing new begins there.

    That attempt is preempted; its trial goes on on the other node, to what it would have come to.
    """
    space = write_space(
        trials=2, epochs=150, search="sampler: {name: RandomSampler}\nfailures: {crashed: 0}"
    )
    folder = tmp_path / "runs" / "small"
    seen: dict[str, str] = {}
    with started(tmp_path / "home") as nodes:
        _, drained = nodes.parents.values()

        def both_at_work() -> bool:
            new = [worker for worker in workers(folder) if worker not in seen]
            seen.update({worker: nodes.of(worker) for worker in new})
            return set(seen.values()) == set(nodes.parents.values())

        with subprocess.Popen(
            nodes.command(space, tmp_path / "runs"),
            env=nodes.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as driver:
            wait_until(both_at_work, driver)
            nodes.lose("drain")
            said, _ = driver.communicate()
    study = search.load(folder)
    assert driver.returncode == 0, said
    attempts = [a for t in study.trials for r in t.replicates for a in r.attempts]
    assert sorted(str(a.outcome) for a in attempts) == ["finished"] * 2 + ["preempted"]
    (lost,) = (a for a in attempts if a.outcome == "preempted")
    assert seen[lost.worker] == drained
    assert lost.reason.startswith("its node is drained: left after")
    alone = search.run(space, out=tmp_path / "alone", executor="inprocess")
    assert came_to(study) == came_to(alone)


def test_a_study_outlives_its_cluster(
    nodes: Nodes, write_space: WriteSpace, tmp_path: Path, cluster: None
) -> None:
    """Its head gone, the driver says so and exits 75; another cluster goes on from the storage.

    Where its loop hung in a call of Ray's it could end no attempt: the next driver does.
    """
    folder = tmp_path / "runs" / "small"
    with subprocess.Popen(
        nodes.command(write_space(trials=2, epochs=40), tmp_path / "runs"),
        env=nodes.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as driver:
        wait_until(lambda: any(n >= 2 for n in epochs(folder).values()), driver)
        nodes.lose("behead")
        said, _ = driver.communicate()
    study = search.resume(folder, executor="ray")

    assert driver.returncode == 75, said
    assert f"Ray's head at {nodes.address} answers no more" in said
    assert said.splitlines()[-1].startswith("paused; go on with: eca-search resume")
    attempts = [a for t in study.trials for r in t.replicates for a in r.attempts]
    assert {a.outcome for a in attempts} <= {"interrupted", "preempted", "finished"}
    assert study.outcomes() == {"finished": 2, "pruned": 0, "failed": 0}
    for trial in study.trials:
        assert [epoch["epoch"] for epoch in trial.replicates[0].curve] == list(range(1, 41))
