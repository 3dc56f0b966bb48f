"""What one driver and one journal bear: trials that only report, in virtual time.

    python benchmarks/driver_scale.py [--trials 100 1000 10000] [--reports 100] [--at-once 1000]
                                      [--sampler RandomSampler] [--pruner ParetoPruner|none]

Study, journal, sampler, pruner and MLflow are the real ones. The workers are simulated: each of
`--at-once` reports an epoch of a made-up curve when a virtual clock says so, and costs nothing.
What is not measured: Ray's own loop, counting a network's parameters, and a network's delays.

Every size runs in a process of its own. Times are CPU seconds of that process, all threads, so that
a busy machine changes them little; nothing here is wall time. The result is one JSON on stdout.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kept import circumstances

import spaces
from search import text
from search.store import default_uri
from search.study import journal
from search.study.study import Study
from search.tracking import following
from search.trial import Assignment, Candidate, Ending

SPACE = """\
name: scale
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {float: [0.25, 2.0]}}
attention:
  choice:
    - {name: none}
    - name: eca
      placement: {name: stages, stages: {subset: [1, 2, 3]}}
      mapping: {name: log2, gamma: {float: [1, 4], step: 0.5}, b: {float: [-1, 3], step: 1}}
"""
PAGE = os.sysconf("SC_PAGE_SIZE")
ASKS = 10
"""Proposals that are timed once a study is whole."""
SHARE = following.SHARE
"""Of its time that a driver gives MLflow while it drives."""


class Clock:
    """Virtual unix seconds."""

    now = 1.8e9

    def __call__(self) -> float:
        return self.now


class Meter:
    """CPU seconds spent in one kind of call: in all, and over the last tenth of the calls."""

    def __init__(self) -> None:
        self.each: list[float] = []

    def __call__(self, call: Callable[[], Any]) -> Any:
        begun = time.process_time()
        answer = call()
        self.each.append(time.process_time() - begun)
        return answer

    def milliseconds(self) -> dict[str, float]:
        """Means over all calls, and over the last tenth of them."""
        last = self.each[-max(1, len(self.each) // 10) :]
        return {
            "mean_ms": round(1000 * sum(self.each) / max(1, len(self.each)), 4),
            "last_tenth_ms": round(1000 * sum(last) / max(1, len(last)), 4),
            "calls": len(self.each),
        }


def examiner(space: spaces.Space) -> Callable[[dict[str, Any]], Candidate]:
    """A network as large as its width says, without building one."""

    def examine(values: dict[str, Any]) -> Candidate:
        key = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        params = 80_000.0 * values["backbone.width"] ** 2
        config = space.at(values).model_dump(mode="json")
        costs = {"params": params, "macs": 150 * params}
        return Candidate(config, key, key, costs, {"stage1.block1": 3}, "s1", f"w{params:.0f}")

    return examine


def accuracy(assignment: Assignment, epoch: int) -> float:
    """A curve that rises with width, with the trial's own noise."""
    width = assignment.config["backbone"]["width"]
    noise = random.Random(assignment.trial * 100_003 + epoch).random()
    return float((1 - 2.0**-width) * (1 - 0.97**epoch) * (0.9 + 0.1 * noise))


def drive(study: Study, clock: Clock, at_once: int, reports: int) -> dict[str, Meter]:
    """The study to its end on virtual workers, one event after another."""
    pace = random.Random(0)
    meters = {name: Meter() for name in ("next", "report", "end", "commit")}
    events: list[tuple[float, int, Assignment, int]] = []

    def fill() -> None:
        while len(events) < at_once:
            assignment = meters["next"](study.next)
            if assignment is None:
                return
            study.start(assignment, "virtual:1")
            heapq.heappush(events, (clock.now + pace.random(), assignment.trial, assignment, 1))

    fill()
    while events:
        clock.now, _, it, epoch = heapq.heappop(events)
        metrics = {"epoch": epoch, "val_accuracy": accuracy(it, epoch), "train_loss": 1 / epoch}
        place = (it.trial, it.replicate)
        ending = meters["report"](lambda: study.report(*place, metrics))  # noqa: B023
        if ending is None and epoch == reports:
            ending = Ending("finished", "")
            meters["end"](lambda: study.end(*place, ending))  # noqa: B023
        if ending is None:
            again = clock.now + 0.5 + pace.random()
            heapq.heappush(events, (again, it.trial, it, epoch + 1))
        meters["commit"](lambda: study.commit(now=False))
        if ending is not None:
            fill()
    return meters


def measured(
    trials: int, reports: int, at_once: int, sampler: str, pruner: str, mlflow: bool
) -> dict[str, Any]:
    """One size, in this process."""
    with tempfile.TemporaryDirectory(prefix="eca-scale-") as scratch:
        out = Path(scratch)
        space = _space(out, trials, reports, sampler, pruner)
        folder, clock = out / "scale", Clock()
        reference = {"params": 400_000.0, "macs": 6e7}
        study = Study.create(
            folder, space, examiner(space), reference=reference, chance=0.1, clock=clock
        )
        study.begin(pid=os.getpid(), host="virtual", executor="virtual", gpu=0.0)
        before, begun = _resident(), time.process_time()
        meters = drive(study, clock, at_once, reports)
        driven, after = time.process_time() - begun, _resident()
        study.close()
        results, asked = len(meters["report"].each), sum(meters["next"].each)
        size = (folder / journal.FILE).stat().st_size
        look = Meter()
        look(lambda: (text.tally(study), study.pareto(), study.hypervolume()))
        read, taken = Meter(), Meter()
        facts = read(lambda: Study.read(folder, space))
        assert facts.outcomes() == study.outcomes()
        again = taken(lambda: Study.drive(folder, space, examiner(space), clock=clock))
        again.close()
        asks = {
            name: _asked(folder, _space(out, trials, reports, name, pruner), clock)
            for name in ("TPESampler", "NSGAIISampler")
        }
        return {
            "trials": trials,
            "reports": reports,
            "at_once": min(at_once, trials),
            "pruner": pruner,
            "outcomes": study.outcomes(),
            "results": results,
            "cpu_per_result_ms": round(1000 * (driven - asked) / results, 4),
            "sampler": {"name": sampler, **meters["next"].milliseconds()},
            "report": meters["report"].milliseconds(),
            "memory_per_trial_kib": round((after - before) / trials / 1024, 1),
            "journal_mib": round(size / 2**20, 2),
            "journal_bytes_per_result": round(size / results),
            "read_cpu_s": round(read.each[0], 3),
            "take_up_cpu_s": round(taken.each[0], 3),
            "status_cpu_s": round(look.each[0], 4),
            "ask_ms": asks,
            **({"mlflow": _told(facts, out)} if mlflow else {}),
        }


def _asked(folder: Path, space: spaces.Space, clock: Clock) -> float:
    """CPU ms of one proposal by the space's sampler, when all that the folder holds is known.

    The first of a process, which compiles and fills caches, is not counted.
    """
    study = Study.drive(folder, space, examiner(space), clock=clock)
    study.extend(len(study.trials) + ASKS + 1)
    meter = Meter()
    for _ in range(ASKS + 1):
        meter(study.next)
    study.close()
    return round(1000 * sum(meter.each[1:]) / ASKS, 3)


def _told(study: Study, out: Path) -> dict[str, float]:
    """MLflow brought level with all of it; how many trials an hour a driver keeps up with."""
    tracking = following.Tracking(default_uri(out), "scale", study)
    meter = Meter()
    meter(lambda: tracking.project(study))
    each = meter.each[0] / len(study.trials)
    return {
        "cpu_per_trial_ms": round(1000 * each, 1),
        "trials_an_hour_without_lag": round(3600 * SHARE / each),
    }


def _space(out: Path, trials: int, reports: int, sampler: str, pruner: str) -> spaces.Space:
    path = out / "scale.yaml"
    stops = "" if pruner == "none" else f", pruner: {{name: {pruner}}}"
    path.write_text(
        f"{SPACE}training: {{epochs: {reports}, batch_size: 32, "
        "optimizer: {name: sgd, lr: {float: [0.01, 1.0], log: true}}}\n"
        f"search: {{trials: {trials}, sampler: {{name: {sampler}}}"
        f"{stops}}}\n"
    )
    return spaces.load(path)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--reports", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=1000)
    parser.add_argument("--sampler", nargs="+", default=["RandomSampler"])
    parser.add_argument("--pruner", default="ParetoPruner", help="or `none`: all train to the end")
    parser.add_argument("--mlflow", type=int, default=1000, help="for up to so many trials")
    parser.add_argument("--one", action="store_true", help="this one size in this process")
    asked = parser.parse_args()
    if asked.one:
        (trials,), (sampler,) = asked.trials, asked.sampler
        wanted = trials <= asked.mlflow
        how = (asked.reports, asked.at_once, sampler, asked.pruner, wanted)
        print(json.dumps(measured(trials, *how)))
        return
    about = circumstances()
    runs = []
    for sampler in asked.sampler:
        for trials in asked.trials:
            size = ["--trials", str(trials), "--reports", str(asked.reports)]
            more = ["--at-once", str(asked.at_once), "--sampler", sampler]
            more += ["--pruner", asked.pruner]
            command = [sys.executable, __file__, "--one", *size, *more]
            done = subprocess.run(
                [*command, "--mlflow", str(asked.mlflow)], check=True, stdout=subprocess.PIPE
            )
            runs.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    note = "CPU seconds; workers are simulated"
    print(json.dumps({**about, "note": note, "runs": runs}, indent=1))


def table(runs: list[dict[str, Any]]) -> list[str]:
    """The runs as docs/scale.md shows them, a line each, their heading first."""
    heading = [
        "trials",
        "pruner",
        "results",
        "CPU per result",
        "ask",
        "memory a trial",
        "journal",
        "read",
        "take up",
    ]
    rows = [
        [
            f"{run['trials']:,}",
            run["pruner"],
            f"{run['results']:,}",
            f"{run['cpu_per_result_ms']:.2f} ms",
            f"{run['ask_ms']['TPESampler']:.0f} ms",
            f"{run['memory_per_trial_kib']:.0f} KiB",
            f"{run['journal_mib']:.1f} MiB",
            f"{run['read_cpu_s']:.1f} s",
            f"{run['take_up_cpu_s']:.1f} s",
        ]
        for run in runs
    ]
    lines = [heading, ["---:" if name != "pruner" else "---" for name in heading], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


if __name__ == "__main__":
    main()
