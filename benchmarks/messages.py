"""What a message of a worker costs the driver, and what is left of it where epochs are gathered.

    python benchmarks/messages.py [--epochs 1500] [--gathered 0 0.01 0.1 0.5] [--rounds 3]

Two trials on two workers of a real Ray, whose epochs sleep 2 ms and train nothing; study and
journal are the real ones, nobody watches. Epochs are sent as they come (0), or wait for one another
for so many seconds. CPU time of the driver's process, all threads, from its first epoch to its last
and divided by the epochs between them: starting and ending Ray is not in it. Rounds alternate;
medians and ranges go to benchmarks/results/messages-<date>.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import argparse
import json
import logging
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kept import RESULTS, circumstances, keep

import spaces
from search.beforehand.examine import examiner
from search.execution import ray_tune
from search.execution.ray_tune import driving
from search.execution.worker import Workplace
from search.study.study import Study
from search.trial import Assignment, Ending

WORKERS = 2
SECONDS = 0.002
SPACE = """\
name: messages
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5]}}
training: {epochs: EPOCHS, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
search: {trials: 2, sampler: {name: RandomSampler}}
"""


def sleeping(
    assignment: Assignment, workplace: Workplace, meeting: object = None
) -> Iterator[dict[str, Any] | Ending]:
    """An attempt whose epochs sleep."""
    for epoch in range(1, assignment.config["training"]["epochs"] + 1):
        time.sleep(SECONDS)
        rest = 0.5 ** min(epoch, 50)
        yield {
            "epoch": epoch,
            "val_accuracy": 1 - rest,
            "val_loss": rest,
            "train_accuracy": 1 - rest,
            "train_loss": rest,
        }
    yield Ending("finished", "")


class Sleeping(ray_tune.Attempt):
    """Ray actors that sleep."""

    attempt = staticmethod(sleeping)


def measured(epochs: int, gathered: float) -> dict[str, Any]:
    """One search of two trials, whose epochs wait for one another for `gathered` seconds."""
    driving.MESSAGES = WORKERS / gathered if gathered else math.inf
    seen: list[tuple[float, int]] = []

    def watch(study: Study) -> None:
        seen.append((time.process_time(), sum(trial.epochs for trial in study.trials)))

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "messages.yaml"
        path.write_text(SPACE.replace("EPOCHS", str(epochs)), encoding="utf-8")
        space = spaces.load(path)
        folder = Path(scratch) / "messages"
        reference = {"params": 1e5, "macs": 1e6}
        study = Study.create(folder, space, examiner(space), reference=reference, chance=0.1)
        workplace = Workplace(checkpoints=str(folder / "checkpoints"))
        ray_tune.drive(
            study,
            workplace,
            cpu=1,
            gpu=0,
            slots=lambda: WORKERS,
            watch=watch,
            trainable=Sleeping,
        )
        study.close()
    first = next(at for at, (_, told) in enumerate(seen) if told)
    last = next(at for at, (_, told) in enumerate(seen) if told == WORKERS * epochs)
    spent, between = (seen[last][place] - seen[first][place] for place in (0, 1))
    return {"gathered_s": gathered, "epochs": between, "cpu_per_epoch_ms": 1000 * spent / between}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The median and the range of every way to send, over its rounds."""
    lines = []
    for gathered in dict.fromkeys(row["gathered_s"] for row in rows):
        spent = [row["cpu_per_epoch_ms"] for row in rows if row["gathered_s"] == gathered]
        known = {"median": statistics.median(spent), "low": min(spent), "high": max(spent)}
        lines.append({"gathered_s": gathered, "cpu_per_epoch_ms": known})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=1500, help="of each of the two trials")
    parser.add_argument("--gathered", type=float, nargs="+", default=[0.0, 0.01, 0.1, 0.5])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if max(given.gathered) > driving.LONGEST:
        parser.error(f"--gathered: a driver waits {driving.LONGEST} s at most")
    about = circumstances()
    logging.getLogger("ray").setLevel(logging.ERROR)
    rows = []
    with ray_tune.connected("local", cpus=WORKERS):
        measured(200, 0.0)  # the first search of a Ray starts its workers
        for number in range(given.rounds):
            for gathered in given.gathered:
                rows.append({"round": number, **measured(given.epochs, gathered)})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    result = {**about, "summary": summary(rows), "rounds": rows}
    print(json.dumps(result["summary"], indent=1))
    print(keep("messages", result, given.out))


if __name__ == "__main__":
    main()
