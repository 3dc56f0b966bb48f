"""What `training.compile` costs before the first step, and what a step gains by it, on digits.

    python benchmarks/compiling.py [--depth 20] [--widths 0.5 0.75 0.5] [--epochs 10]

Trials of one process, one after the other as in a reused worker, with one thread: each trains eager
and compiled, whose epochs alternate. The first begins with an empty cache on disk; a later one has
the code of equal blocks there, and compiles whatever blocks of its are new.

start   seconds of the first compiled epoch less those of a later one: what compiling took
ratio   seconds of the steps of an epoch, compiled over eager: below 1 is faster

Written to benchmarks/results/compiling-<date>.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from kept import RESULTS, circumstances, keep

import trainers
from spaces.config import Config


def config(depth: int, width: float, epochs: int, *, compile: bool) -> Config:
    """A ResNet with ECA everywhere on all of digits, one epoch more than are counted."""
    return Config.model_validate(
        {
            "name": "compiling",
            "dataset": {"name": "digits"},
            "backbone": {"name": "resnet", "depth": depth, "width": width},
            "attention": {"name": "eca"},
            "training": {
                "epochs": epochs + 1,
                "batch_size": 128,
                "optimizer": {"name": "sgd", "lr": 0.05},
                "compile": compile,
            },
        }
    )


def trial(depth: int, width: float, epochs: int) -> dict[str, Any]:
    """The figures of one network, trained eager and compiled in turns."""
    eager, fast = (
        trainers.train(config(depth, width, epochs, compile=on), device="cpu")
        for on in (False, True)
    )
    turns = list(zip(eager, fast, strict=True))
    (_, first), *rest = turns
    later = statistics.median(compiled["seconds"] for _, compiled in rest)
    ratios = [one["images_per_second"] / other["images_per_second"] for one, other in rest]
    return {
        "width": width,
        "start, seconds": first["seconds"] - later,
        "epoch, seconds": {
            "eager": statistics.median(one["seconds"] for one, _ in rest),
            "compiled": later,
        },
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "last train_loss": [epoch["train_loss"] for epoch in turns[-1]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--widths", type=float, nargs="+", default=[0.5, 0.75, 0.5])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    about = circumstances()
    trials = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for width in asked.widths:
            trials.append(trial(asked.depth, width, asked.epochs))
            print(json.dumps(trials[-1]), flush=True)

    settings = {"depth": asked.depth, "epochs": asked.epochs, "threads": torch.get_num_threads()}
    print(keep("compiling", {**about, **settings, "trials": trials}, asked.out))


if __name__ == "__main__":
    main()
