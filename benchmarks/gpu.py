"""One GPU at this project's work, in steps of a few minutes each that add to one JSON.

    python benchmarks/gpu.py [STEP ...] [--record FILE] [--smoke]

floor      what the device can do: a dense bf16 product of matrices, and a copy
loops      images/s of our training loop, eager and with compiled blocks, of the usual DataLoader
           loop and of a bare one, by width, with the share of the floor that each reaches (a
           training step is 6 FLOPs per MAC)
attention  seconds a step with ECA and SE over those without attention: eager, the whole network
           compiled, and its blocks alone as `training.compile` has it, with the time to start
packing    trials an hour with 1, 2, 4 and 8 trials on the GPU at a time, a search over Ray

Without a STEP: all that the record lacks, so that a call that was cut off goes on where it was.
Every step stays below eight minutes on one H100 by design; what it has measured is kept size by
size. `--smoke` runs all of it on whatever is here, small, to see that it runs: no figure of it says
anything. Ratios are of turns that alternate within a step: medians with their range. This is
protocol P1; the time to the front, P7, has steps of the same kind:

    python benchmarks/time_to_front.py --space benchmarks/front/gpu.yaml --minutes 6 --within 540
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from kept import RESULTS, circumstances
from throughput import alternated, bare, config, found, ours, usual
from torch.nn.functional import cross_entropy

import search
import trainers
from spaces.config import Config
from trainers import data, regions
from trainers.datasets import DatasetError

LIMIT = 420.0
"""Seconds from which a step begins nothing more: a call has to end within ten minutes."""
Figures = dict[str, Any]

SPACE = """\
name: packing
dataset: {dataset}
backbone: {{name: resnet, depth: 20, width: {width}}}
attention: {{name: eca, mapping: {{name: log2, gamma: {{float: [1, 4]}}, b: {{float: [0, 3]}}}}}}
training:
  epochs: {epochs}
  batch_size: {batch}
  precision: {precision}
  optimizer: {{name: sgd, lr: {{float: [0.01, 0.2]}}}}
search:
  trials: {trials}
  max_concurrent: {at_once}
  sampler: {{name: RandomSampler}}
  resources: {{cpu: 1, gpu: {gpu}}}
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and how large: the sizes of a GPU, or of a smoke test."""

    device: str
    precision: str
    images: int
    batch: int
    widths: tuple[float, ...]
    matrix: int
    repeats: int
    at_once: tuple[int, ...]
    epochs: int

    @classmethod
    def of(cls, *, smoke: bool) -> Bench:
        """A smoke test is small and runs wherever it is; the rest needs CUDA."""
        here = "cuda" if torch.cuda.is_available() else "cpu"
        if smoke:
            return cls(here, "float32", 128, 64, (0.25,), 128, 1, (1, 2), 1)
        if here == "cpu":
            raise SystemExit(
                "no CUDA device here: --smoke shows that it runs, and measures nothing"
            )
        return cls(here, "bf16", 40_960, 512, (0.5, 1.0, 2.0, 4.0), 8192, 5, (1, 2, 4, 8), 4)


def floor(bench: Bench, known: Figures) -> Iterator[tuple[str, Figures]]:
    """FLOP/s of a product of matrices and bytes/s of a copy, the best of several."""
    dtype = torch.bfloat16 if bench.precision == "bf16" else torch.float32
    square = torch.randn(bench.matrix, bench.matrix, device=bench.device, dtype=dtype)
    product = min(_seconds(bench, lambda: square @ square) for _ in range(10))
    copied = min(_seconds(bench, lambda: square.clone()) for _ in range(10))
    yield (
        "device",
        {
            "FLOP/s": 2 * bench.matrix**3 / product,
            "bytes/s": 2 * square.numel() * square.element_size() / copied,
        },
    )


def loops(bench: Bench, known: Figures) -> Iterator[tuple[str, Figures]]:
    """Images per second of three loops, by width."""
    for width in bench.widths:
        if str(width) in known:
            continue
        point = config(20, width, bench.images, batch=bench.batch, precision=bench.precision)
        images, source = found(point)
        chosen, _ = data.split(
            images.labels, val=point.dataset.val, seed=0, subset=point.dataset.subset
        )
        fast = config(
            20, width, bench.images, batch=bench.batch, precision=bench.precision, compile=True
        )
        workers = 0 if bench.device == "cpu" else min(8, os.cpu_count() or 1)
        begun = perf_counter()
        runs = {
            "ours": ours(point, bench.device),
            "compiled": ours(fast, bench.device),
            "usual": usual(point, images, chosen, bench.device, workers),
            "bare": bare(point, images, chosen, bench.device),
        }
        trained = bench.images // bench.batch * bench.batch
        turns = list(alternated(runs, bench.repeats))
        speeds = {name: [trained / turn[name][0] for turn in turns] for name in runs}
        macs = trainers.measure(point).macs
        yield (
            str(width),
            {
                **{f"{name}, images/s": _spread(values) for name, values in speeds.items()},
                **{
                    f"ours / {name}": _spread([t[name][0] / t["ours"][0] for t in turns])
                    for name in ("usual", "bare")
                },
                "compiled / ours": _spread([t["ours"][0] / t["compiled"][0] for t in turns]),
                "FLOPs per image": 6 * macs,
                "images": source,
                "workers of the usual loop": workers,
                "seconds": perf_counter() - begun,
            },
        )


def attention(bench: Bench, known: Figures) -> Iterator[tuple[str, Figures]]:
    """Seconds of a training step by attention, eager and compiled, on images made once."""
    for width in bench.widths:
        for mode in ("eager", "compiled", "blocks"):
            if f"{width} {mode}" in known:
                continue
            torch.compiler.reset()  # each mode starts as a trial does, but for what lies on disk
            steps = {name: _step(bench, name, width, mode) for name in ("none", "eca", "se")}
            begun = perf_counter()
            for step in steps.values():
                step()
            start = perf_counter() - begun
            turns = list(alternated(steps, bench.repeats))
            yield (
                f"{width} {mode}",
                {
                    "first ten steps of each, seconds in all": start,
                    "none, seconds": _spread([turn["none"][0] for turn in turns]),
                    **{
                        f"{name} / none": _spread([t[name][0] / t["none"][0] for t in turns])
                        for name in ("eca", "se")
                    },
                },
            )


def packing(bench: Bench, known: Figures) -> Iterator[tuple[str, Figures]]:
    """Trials an hour, by how many run at a time."""
    for at_once in bench.at_once:
        if str(at_once) in known:
            continue
        written = SPACE.format(
            dataset=_images_of_workers(bench),
            width=bench.widths[0],
            epochs=bench.epochs,
            batch=bench.batch,
            precision=bench.precision,
            trials=2 * at_once + 2,
            at_once=at_once,
            gpu=1 / at_once if bench.device == "cuda" else 0,
        )
        with tempfile.TemporaryDirectory() as folder:
            space = Path(folder) / "packing.yaml"
            space.write_text(written, encoding="utf-8")
            study = search.run(space, out=Path(folder) / "runs", executor="ray")
        if (failed := study.outcomes()["failed"]) or not study.trials:
            raise SystemExit(f"packing: {failed} trials failed: {study.trials[-1].reason}")
        ended = [trial.ended for trial in study.trials if trial.ended is not None]
        begun = [trial.started for trial in study.trials if trial.started is not None]
        seconds = max(ended) - min(begun)
        yield (
            str(at_once),
            {
                "trials": len(ended),
                "seconds": seconds,
                "trials an hour": 3600 * len(ended) / seconds,
            },
        )


STEPS: dict[str, Callable[[Bench, Figures], Iterator[tuple[str, Figures]]]] = {
    "floor": floor,
    "loops": loops,
    "attention": attention,
    "packing": packing,
}


def _images_of_workers(bench: Bench) -> str:
    """CIFAR-10 where it is; else scikit-learn's digits, enlarged to its size: 1,797 of them."""
    try:
        data.read(config(20, 1, bench.images).dataset)
    except DatasetError:
        return "{name: digits, image_size: 32}"
    return f"{{name: cifar10, subset: {4 * bench.batch if bench.epochs == 1 else 10_000}}}"


def _step(bench: Bench, name: str, width: float, mode: str) -> Callable[[], float]:
    """Ten training steps of one network on the same batch; the seconds that they take."""
    base = config(20, width, bench.images, batch=bench.batch, precision=bench.precision)
    point = Config.model_validate({**base.plain(), "attention": {"name": name}})
    net = trainers.build(point).to(bench.device, memory_format=torch.channels_last)
    run = torch.compile(net) if mode == "compiled" else net
    if mode == "blocks":
        regions.compile_blocks(net)
    sgd = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    x = torch.randn(bench.batch, 3, 32, 32, device=bench.device)
    x = x.to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (bench.batch,), device=bench.device)

    def steps() -> float:
        begun = perf_counter()
        with regions.compiling(mode == "blocks"):
            for _ in range(10):
                enabled = bench.precision == "bf16"
                with torch.autocast(bench.device, torch.bfloat16, enabled=enabled):
                    loss = cross_entropy(run(x), y)
                sgd.zero_grad(set_to_none=True)
                loss.backward()
                sgd.step()
            float(loss.detach())
        return (perf_counter() - begun) / 10

    return steps


def _seconds(bench: Bench, action: Callable[[], object]) -> float:
    if bench.device == "cuda":
        torch.cuda.synchronize()
    begun = perf_counter()
    action()
    if bench.device == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - begun


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--record", type=Path)
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    if unknown := set(asked.steps) - set(STEPS):
        parser.error(f"no such step: {', '.join(unknown)} (there are: {', '.join(STEPS)})")
    bench = Bench.of(smoke=asked.smoke)
    name = torch.cuda.get_device_name() if bench.device == "cuda" else "cpu"
    about = circumstances(device=name)
    about["versions"]["cuda"] = torch.version.cuda
    path = asked.record or RESULTS / f"gpu-{about['date'][:10]}.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record |= about
    for name in asked.steps or list(STEPS):
        begun = perf_counter()
        figures = record.setdefault(name, {})
        for size, measured in STEPS[name](bench, figures):
            figures[size] = measured
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            print(f"{name} {size}: {json.dumps(measured)}", flush=True)
            if perf_counter() - begun > LIMIT:
                print(f"{name}: stopped after {LIMIT:.0f} s; call again for the rest")
                break
    peak = record.get("floor", {}).get("device", {}).get("FLOP/s")
    for width, measured in record.get("loops", {}).items() if peak else ():
        reached = measured["ours, images/s"]["median"] * measured["FLOPs per image"] / peak
        print(f"width {width}: ours reaches {reached:.3f} of the device's dense FLOP/s")
    print(path)


if __name__ == "__main__":
    main()
