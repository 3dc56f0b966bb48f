"""Facts about what was tried: a trial is a point, a replicate one seed of it, an attempt one go.

Every class here is frozen: happenings live in `search.study`, which folds the journal into these.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

from spaces.latency import Latency, named

Outcome = Literal[
    "finished",  # trained to the last epoch
    "pruned",  # stopped by the pruner; its curve is kept
    "diverged",  # a loss or a metric that is not finite
    "oom",  # the device's memory was not enough
    "host_oom",  # the host's memory was not enough
    "crashed",  # an exception, or a worker process that died
    "preempted",  # the worker's node was taken away, or it was told to leave
    "timeout",  # over `search.timeouts`
    "invalid",  # the network or its training cannot be built from this config
    "bad_report",  # a report without the objective's metric, or with one that is no number
    "interrupted",  # the driver ended while it ran; it goes on at resume
]

COSTS = ("params", "macs")
"""What is known exactly before training; every other objective is a metric, or a latency."""

FAILED: frozenset[str] = frozenset(
    {"diverged", "oom", "host_oom", "crashed", "timeout", "invalid", "bad_report"}
)
"""Outcomes that count as failures of a trial."""

RETRIED: frozenset[str] = frozenset({"crashed", "preempted", "interrupted"})
"""Outcomes of an attempt after which the same config may well train: chance struck."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a proposed point before it is trained.

    `key` is the run key without its replicate: equal keys mean equal results for equal seeds.
    `costs` holds `params` and `macs` (multiply-adds; batch of one, inference).
    """

    config: dict[str, Any]
    identity: str
    key: str
    costs: dict[str, float]
    kernels: dict[str, int]
    placement: str
    label: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt for a worker: train `config` with `seed`, from the newest checkpoint under `key`.

    `known` is the last epoch the journal already holds; earlier ones need not be reported again.
    `latencies` are those known of its network, which need not be measured again; None: none is to
    be told.
    """

    trial: int
    replicate: int
    attempt: int
    seed: int
    key: str
    config: dict[str, Any]
    known: int
    latencies: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """Why an attempt is over: an outcome word, a sentence, and a traceback where there was one."""

    outcome: Outcome
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One go on a worker; times are unix seconds, `worker` is `host:pid`.

    `device` is the model of what it trained on, empty before its first epoch, `gpus` how many GPUs
    it held. `epochs` are those it has trained, known before or not; none where another study has
    paid for them. `detail` is the traceback of what it failed of, where there was one.
    """

    number: int
    started: float
    ended: float | None = None
    outcome: str | None = None
    reason: str = ""
    worker: str = ""
    detail: str = ""
    device: str = ""
    gpus: float = 0.0
    epochs: int = 0


@dataclass(frozen=True, slots=True)
class Replicate:
    """One seed of a trial; `curve` holds one dict of metrics an epoch, from epoch 1."""

    number: int
    seed: int
    key: str
    curve: tuple[dict[str, float], ...] = ()
    attempts: tuple[Attempt, ...] = ()
    outcome: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """A proposed point and all that happened to it; `outcome` is None while it waits or runs.

    `objectives` is the mean over finished replicates, `spread` their sample standard deviation
    (empty where n < 2); both only when the trial is finished. `accumulate` is the number of parts a
    batch was cut into because the device had no room for it: another recipe than the one proposed.
    `promoted` is the probability to reach the front for which it was taken up again after its
    pruner had stopped it; None: it was not.
    `latencies` are its network's on the device that its first epoch was trained on, `images` how
    many train it and how many judge it, None where no worker has said so.
    """

    number: int
    values: dict[str, Any]
    config: dict[str, Any]
    label: str
    identity: str
    key: str
    costs: dict[str, float]
    kernels: dict[str, int]
    placement: str
    replicates: tuple[Replicate, ...] = ()
    outcome: str | None = None
    reason: str = ""
    objectives: dict[str, float] | None = None
    spread: dict[str, float] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    aliases: tuple[dict[str, Any], ...] = ()
    accumulate: int = 1
    latencies: tuple[Latency, ...] = ()
    images: tuple[int, int] | None = None
    promoted: float | None = None

    def key_of(self, replicate: int) -> str:
        """The run key of one of its replicates, under which its checkpoints are kept."""
        parts = f"-x{self.accumulate}" if self.accumulate > 1 else ""
        return f"{self.key}{parts}-r{replicate}"

    @property
    def latency(self) -> dict[str, Latency]:
        """Its latencies by name: `latency_ms`, `latency_batch_ms`."""
        return named(self.latencies)

    @property
    def untrained(self) -> dict[str, float]:
        """What is known of its network whatever it has learnt: costs, and latencies in ms."""
        return {**self.costs, **{name: found.median for name, found in self.latency.items()}}

    @property
    def n(self) -> int:
        """Number of finished replicates."""
        return sum(replicate.outcome == "finished" for replicate in self.replicates)

    @property
    def epochs(self) -> int:
        """Epochs recorded, over all replicates."""
        return sum(len(replicate.curve) for replicate in self.replicates)

    @property
    def failed(self) -> bool:
        """Whether it ended in a failure (a pruned trial did not)."""
        return self.outcome in FAILED

    @property
    def name(self) -> str:
        """Its name in the MLflow UI: `#017 w0.75 eca s2,3 k3-5-5`."""
        return f"#{self.number:03d} {self.label}"


def digest_int(*parts: object) -> int:
    """A number below 2**31 that is a function of its parts alone: the same on every machine."""
    text = ":".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 2**31
