"""What the processes of a node share of a dataset's images: memory and start, with their cache.

    python benchmarks/sharing.py [--data $ECA_SEARCH_DATA] [--processes 4]

So many processes open the batches of CIFAR-10's 50,000 training images (45,000 of them to train on)
on the CPU and see an epoch of them, without a network. All hold what they have until all are there.

mapped   the images lie decoded in the cache folder, and are mapped from there
private  there is no cache folder: each process decodes its own

MiB     what the images added to a process's share of the node's memory (PSS of
        /proc/self/smaps_rollup, where a page of n processes counts 1/n), and to its own pages
opened  CPU seconds from nothing to open batches: files found, images had, digest known

Medians over the processes, in benchmarks/results/sharing-<date>.json. Linux only.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from kept import RESULTS, circumstances, keep

BATCH = 128


def memory() -> dict[str, float]:
    """MiB of this process: its share of the node's, and the pages that are its own."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    sizes = {
        name: int(rest.split()[0]) / 1024 for name, _, rest in (x.partition(":") for x in lines)
    }
    return {"share": sizes["Pss"], "own": sizes["Private_Clean"] + sizes["Private_Dirty"]}


def epoch(dataset: str) -> dict[str, Any]:
    """Open the batches of a dataset and see them once; they are kept with what opening took."""
    import torch

    from spaces.config import Config
    from trainers import data
    from trainers.batches import open_batches

    config = Config.model_validate(
        {
            "name": "sharing",
            "task": {"name": "classification"},
            "dataset": {"name": dataset},
            "backbone": {"name": "resnet", "depth": 8},
            "attention": {"name": "none"},
            "training": {
                "epochs": 1,
                "batch_size": BATCH,
                "optimizer": {"name": "sgd", "lr": 0.1},
            },
        }
    )
    began = time.process_time()
    found = data.sources(config.dataset)
    data.content(found)
    training, judging = batches = open_batches(config, torch.device("cpu"), found)
    took = time.process_time() - began
    images = sum(len(labels) for _, labels in training.shuffled(0, 1))
    images += sum(len(labels) for _, labels in judging.ordered())
    return {"opened": took, "images": images, "batches": batches}


def one() -> None:
    """One process: a line in is the word to go on, a line out says what it has."""
    warnings.simplefilter("ignore")  # that there is no cache folder is meant
    epoch("digits")  # what any images take, torch and its buffers among it
    print(json.dumps({}), flush=True)
    input()
    before = memory()
    print(json.dumps(before), flush=True)
    input()
    had = epoch("cifar10")
    print(json.dumps({name: had[name] for name in ("opened", "images")}), flush=True)
    input()
    print(json.dumps({name: size - before[name] for name, size in memory().items()}), flush=True)
    input()


def measured(processes: int, data: Path, cache: Path) -> list[dict[str, float]]:
    """What each of so many processes, alive at once, came to."""
    environment = {**os.environ, "ECA_SEARCH_DATA": str(data), "ECA_SEARCH_CACHE": str(cache)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, __file__, "--one"]
    children = [subprocess.Popen(command, env=environment, **pipes) for _ in range(processes)]
    found: list[dict[str, float]] = [{} for _ in children]
    for _ in range(4):  # all have answered before any goes on
        for child, known in zip(children, found, strict=True):
            assert child.stdout is not None
            known |= json.loads(child.stdout.readline())
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
    for child in children:
        child.communicate()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("ECA_SEARCH_DATA"))
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one()
        return
    if given.data is None:
        parser.error("--data, or $ECA_SEARCH_DATA: the folder that holds cifar10/")
    about = circumstances()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        cache, nowhere = Path(scratch, "cache"), Path(scratch, "file")
        nowhere.touch()  # a file cannot be a cache folder
        measured(1, given.data, cache)  # decoded once, by the first process of a node
        for name, where in (("mapped", cache), ("private", nowhere)):
            found = measured(given.processes, given.data, where)
            rows[name] = {key: statistics.median(one[key] for one in found) for key in found[0]}
            print(f"{name}: {json.dumps(rows[name])}", flush=True)
    result = {**about, "processes": given.processes, "MiB and CPU seconds": rows}
    print(keep("sharing", result, given.out))


if __name__ == "__main__":
    main()
