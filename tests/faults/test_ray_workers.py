"""Workers that hang, spin, die and are spoilt, on one local cluster; and that cluster's doors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import search
import spaces
from search.commands.run import verdict
from search.execution import ray_tune
from search.execution.worker import Workplace
from search.study.study import Study
from search.trial import Assignment, Attempt, Candidate, Ending, Trial

PLUGIN = Path(__file__).parent.parent / "plugins" / "faulty.py"
WriteSpace = Callable[..., Path]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def by_fault(study: Study) -> dict[str, Trial]:
    """Trials by what was broken in them; the whole one is `none`."""
    return {trial.config["attention"].get("fault", "none"): trial for trial in study.trials}


def attempts(study: Study) -> Iterator[Attempt]:
    for trial in study.trials:
        for replicate in trial.replicates:
            yield from replicate.attempts


def outcomes(trial: Trial) -> list[str | None]:
    return [attempt.outcome for attempt in trial.replicates[0].attempts]


def epochs(trial: Trial) -> list[float]:
    return [epoch["epoch"] for epoch in trial.replicates[0].curve]


def gone(pid: str, within: float = 30) -> bool:
    """Whether a process leaves in time (s): Ray ends one under SIGSTOP only 5 s after it is told,
    and a search that ends meanwhile waits for none.
    """
    until = time.monotonic() + within
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture
def create(write_space: WriteSpace, tmp_path: Path) -> Callable[..., Study]:
    """Start a study of one network that nobody trains: its one epoch is told."""

    def examine(values: dict[str, object]) -> Candidate:
        config = {"training": {"epochs": 1, "batch_size": 32}, "attention": {"name": "none"}}
        return Candidate(config, "w", "w", {"params": 1000, "macs": 1e6}, {}, "", "w")

    def make(replicates: int = 1) -> Study:
        fixed = {"width": "0.25", "attention": "{name: none}", "epochs": 1, "trials": 1}
        space = spaces.load(write_space(**fixed, search=f"replicates: {replicates}"))
        reference = {"params": 1000, "macs": 1e6}
        return Study.create(tmp_path / "told", space, examine, reference=reference, chance=0.1)

    return make


@pytest.mark.slow
def test_a_worker_that_cannot_hear_is_ended(
    write_space: WriteSpace, tmp_path: Path, cluster: None
) -> None:
    """One spins in C, one is stopped by SIGSTOP, one sleeps and is stopped by hand.

    Each ends with its word, its slot is free for the next, and the driver has waited for none.
    """
    faulty = "{name: faulty, after: 12, fault: {choice: [spin, stop, hang]}}"
    path = write_space(
        trials=4,
        width="0.25",
        attention=f"{{choice: [{faulty}, {{name: none}}]}}",
        search="sampler: {name: BruteForceSampler}\ntimeouts: {no_progress: 20}",
    )

    def watch(study: Study) -> None:
        hanging = by_fault(study).get("hang")
        if hanging is not None and hanging.epochs:
            study.stop(hanging.number)

    study = search.run(path, out=tmp_path / "runs", executor="ray", plugins=[PLUGIN], watch=watch)

    ended = by_fault(study)
    assert {fault: trial.outcome for fault, trial in ended.items()} == {
        "none": "finished",
        "spin": "timeout",
        "stop": "timeout",
        "hang": "pruned",
    }
    assert ended["hang"].reason == "stopped by hand"
    assert all(epochs(ended[fault]) == [1] for fault in ("spin", "stop", "hang"))
    assert all(attempt.outcome for attempt in attempts(study))
    for fault in ("spin", "stop", "hang"):
        pid = ended[fault].replicates[0].attempts[0].worker.rpartition(":")[2]
        assert gone(pid), fault


@pytest.mark.slow
def test_workers_that_die_cost_their_own_trial_alone(
    write_space: WriteSpace, tmp_path: Path, cluster: None
) -> None:
    """Killed once: one attempt more. Dying every time, or a spoilt GPU: crashed, and exit code 4.

    A process whose CUDA context is poisoned takes no other attempt.
    """
    faults = [
        {"fault": "kill", "once": str(tmp_path / "killed")},
        {"fault": "exit"},
        {"fault": "cuda"},
    ]
    options = [{"name": "faulty", "after": 12, **fault} for fault in faults]
    path = write_space(
        trials=4,
        width="0.25",
        attention=json.dumps({"choice": [*options, {"name": "none"}]}),
        search="sampler: {name: BruteForceSampler}",
    )
    study = search.run(path, out=tmp_path / "runs", executor="ray", plugins=[PLUGIN])

    ended = by_fault(study)
    assert {fault: outcomes(trial) for fault, trial in ended.items()} == {
        "none": ["finished"],
        "kill": ["crashed", "finished"],
        "exit": ["crashed", "crashed"],
        "cuda": ["crashed", "crashed"],
    }
    assert epochs(ended["kill"]) == [1, 2, 3]
    assert "illegal memory access" in ended["cuda"].reason
    for spoilt in ended["cuda"].replicates[0].attempts:
        assert spoilt.ended is not None
        assert not [a for a in attempts(study) if a.started >= spoilt.ended and same(a, spoilt)]
    assert verdict(study) == 4


def same(one: Attempt, other: Attempt) -> bool:
    return one.worker == other.worker


def test_a_worker_that_fails_to_come_up_costs_an_attempt(
    create: Callable[..., Study], tmp_path: Path, cluster: None
) -> None:
    """Its setup raises once, before it has taken anything up: the trial is tried again."""
    failed = tmp_path / "failed"

    def told(assignment: Assignment, workplace: Workplace) -> Iterator[dict[str, float] | Ending]:
        yield {"epoch": 1, "val_accuracy": 0.5}
        yield Ending("finished", "")

    class Sick(ray_tune.Attempt):
        """Comes up the second time."""

        attempt = staticmethod(told)

        def setup(self, config: dict[str, object]) -> None:
            if not failed.exists():
                failed.touch()
                raise RuntimeError("no good morning")
            super().setup(config)

    study = create()
    ray_tune.drive(study, Workplace("none"), cpu=1, gpu=0, slots=lambda: 1, trainable=Sick)
    study.close()

    (trial,) = study.trials
    assert outcomes(trial) == ["crashed", "finished"]
    assert "no good morning" in trial.replicates[0].attempts[0].reason
    assert study.history.ended == "1 of 1 trial"


def test_a_worker_that_holds_its_memory_is_replaced(
    create: Callable[..., Study], cluster: None
) -> None:
    """Its attempt has finished and stays so; the next one gets a process of its own."""

    def told(assignment: Assignment, workplace: Workplace) -> Iterator[dict[str, float] | Ending]:
        yield {"epoch": 1, "val_accuracy": 0.5}
        yield Ending("finished", "")

    class Full(ray_tune.Attempt):
        """Never lets go of what it has taken."""

        attempt = staticmethod(told)
        freed = staticmethod(lambda: False)

    study = create(replicates=2)
    ray_tune.drive(study, Workplace("none"), cpu=1, gpu=0, slots=lambda: 1, trainable=Full)
    study.close()

    (trial,) = study.trials
    attempts = [attempt for replicate in trial.replicates for attempt in replicate.attempts]
    assert [attempt.outcome for attempt in attempts] == ["finished", "finished"]
    assert not same(*attempts)


@pytest.mark.gpu
def test_the_memory_of_a_gpu_is_free_after_an_attempt() -> None:
    """What a generator that was closed held is given back; what is still held is noticed."""
    import torch

    from search.execution.worker import freed

    held = torch.zeros(256 << 20, dtype=torch.uint8, device="cuda")
    assert not freed()
    del held
    assert freed()
    assert torch.cuda.memory_reserved() <= 64 << 20


def test_a_cluster_of_our_own_is_closed(tmp_path: Path, cluster: None) -> None:
    """It listens on the loopback alone, and who has no token is refused there too."""
    import ray

    where = ray.get_runtime_context().gcs_address
    stranger = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    stranger |= {"HOME": str(tmp_path), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    enter = f"import ray; ray.init({where!r}, _node_ip_address='127.0.0.1')"
    refused = subprocess.run(
        [sys.executable, "-c", enter], env=stranger, capture_output=True, text=True
    )

    listening = set(listeners(children(os.getpid())))
    assert int(where.rpartition(":")[2]) in {port for _, port in listening}
    assert {host for host, _ in listening} <= {"127.0.0.1", "::1"}
    assert refused.returncode == 1
    assert "AuthenticationError" in refused.stderr


def children(pid: int) -> set[int]:
    """Processes that a process has started, and theirs."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        parents[int(stat.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def listeners(pids: set[int]) -> Iterator[tuple[str, int]]:
    """Addresses and ports on which processes listen, from /proc."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue  # closed meanwhile
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            host, port = fields[1].split(":")
            if fields[3] == "0A" and fields[9] in inodes:
                yield spelled(host), int(port, 16)


def spelled(host: str) -> str:
    """An address of /proc/net, which holds words of four bytes, each from its last to its first."""
    import ipaddress

    data = bytes.fromhex(host)
    words = b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))
    address = ipaddress.ip_address(words)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
