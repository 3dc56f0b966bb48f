"""How long it takes to know a network's cost, ours beside torch's counter and ptflops.

    python benchmarks/complexity.py [--repeats 5]

ECA-ResNet-50 at 224 and ECA-ResNet-20 at 32 pixels. *Cold* is the first measurement of a fresh
process that has imported torch and the tool, *cpu* the processor time of it, which other work on
the machine does not stretch; *fresh* the first of a network in a process that has measured others;
*warm* a network that was measured before. Each figure is the median over `--repeats` processes, in
milliseconds. Counts stand beside those of the other tools and beside the figures timm publishes.
Written to benchmarks/results/complexity-<date>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from kept import RESULTS, circumstances, keep

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = {"resnet50@224": ("cifar10", 50, 224), "resnet20@32": ("cifar10", 20, 32)}
TOOLS = ("ours", "torch FlopCounterMode, meta", "ptflops aten, cpu")
# timm 1.0.31, results/results-imagenet.csv: millions of parameters, 1000 classes. Its ecaresnet50t
# has a deeper stem than the paper's network, hence the 12,000 parameters more.
PUBLISHED = {"resnet50": 25.56, "ecaresnet50t": 25.57}


def config(depth: int, image_size: int, width: float = 1.0) -> Any:
    """A CIFAR-10 config of a ResNet with ECA after gamma=2, b=1."""
    from spaces.config import Config

    return Config.model_validate(
        {
            "name": "cost",
            "dataset": {"name": "cifar10", "image_size": image_size},
            "backbone": {"name": "resnet", "depth": depth, "width": width},
            "attention": {"name": "eca"},
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )


def measure_ours(point: Any) -> tuple[int, int]:
    import trainers

    cost = trainers.measure(point)
    return cost.params, cost.macs


def measure_torch(point: Any) -> tuple[int, int]:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import trainers

    size = point.dataset.image_size
    with torch.device("meta"):
        net = trainers.build(point).eval()
        x = torch.empty(1, 3, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x)
    return sum(p.numel() for p in net.parameters()), counter.get_total_flops() // 2


def measure_ptflops(point: Any) -> tuple[int, int]:
    from ptflops import get_model_complexity_info

    import trainers

    size = point.dataset.image_size
    macs, params = get_model_complexity_info(
        trainers.build(point),
        (3, size, size),
        as_strings=False,
        print_per_layer_stat=False,
        backend="aten",
    )
    return int(params), int(macs)


def once(tool: str, network: str) -> dict[str, float]:
    """Cold, fresh and warm in this process, and what was counted."""
    import torch

    import_module("trainers.complexity")
    torch.set_num_threads(1)
    measure = dict(zip(TOOLS, (measure_ours, measure_torch, measure_ptflops), strict=True))[tool]
    if tool == TOOLS[2]:
        import_module("ptflops")
    _, depth, size = NETWORKS[network]
    seconds: list[float] = []
    cpu: list[float] = []
    point, other = config(depth, size), config(depth, size, width=0.5)
    for each in (point, other, *[point] * 20):
        begin, busy = perf_counter(), process_time()
        counts = measure(each)
        seconds.append(1e3 * (perf_counter() - begin))
        cpu.append(1e3 * (process_time() - busy))
    return {
        "cold": seconds[0],
        "cold cpu": cpu[0],
        "fresh": seconds[1],
        "warm": statistics.median(seconds[2:]),
        "params": counts[0],
        "macs": counts[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--once", nargs=2, metavar=("TOOL", "NETWORK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(once(*arguments.once)))
        return

    about = circumstances("ptflops", "timm")
    rows: dict[str, dict[str, dict[str, float]]] = {}
    header = (
        f"{'':14}{'':30}{'cold':>9}{'(cpu)':>9}{'fresh':>9}{'warm':>9}   {'params':>12}{'MACs':>16}"
    )
    print(header)
    for network in NETWORKS:
        rows[network] = {}
        for tool in TOOLS:
            command = [sys.executable, __file__, "--once", tool, network]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            runs = []
            for _ in range(arguments.repeats):
                done = subprocess.run(
                    command, capture_output=True, text=True, check=True, env=environment
                )
                runs.append(json.loads(done.stdout.splitlines()[-1]))
            row = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            row["cold max"] = max(run["cold"] for run in runs)
            rows[network][tool] = row
            times = f"{row['cold']:9.1f}{row['cold cpu']:9.1f}{row['fresh']:9.1f}{row['warm']:9.3f}"
            counts = f"{int(row['params']):12,}{int(row['macs']):16,}"
            print(f"{network:14}{tool:30}{times}   {counts}")

    dense = 2048 * (1000 - 10) + 1000 - 10  # what 1000 classes have more than 10
    ours = int(rows["resnet50@224"]["ours"]["params"]) + dense
    print(f"ECA-ResNet-50, 1000 classes: {ours:,} params; timm publishes {PUBLISHED} million")
    result = {
        **about,
        "repeats": arguments.repeats,
        "milliseconds": rows,
        "timm_published_millions": PUBLISHED,
    }
    print(f"written to {keep('complexity', result, arguments.out)}")


if __name__ == "__main__":
    main()
