"""Images per second of our training loop, of the usual one, and of a bare one.

    python benchmarks/throughput.py [--depth 20] [--width 0.5] [--images 2560] [--repeats 5]
                                    [--compiled]

One network, one thread, CIFAR-10 shapes, the same recipe (SGD with momentum, crop, flip):

ours    `trainers.train`: uint8 tensor in memory, batched augmentation, metrics, Diverged check
usual   DataLoader and torchvision transforms on PIL images, `loss.item()` at every step
bare    forward, backward and step over normalised float32 tensors in memory, no augmentation
compiled  ours with `training.compile`, where it is asked for: it takes a minute to start on a CPU

They alternate, `--repeats` times after one warm-up each. Wall time is that of the training
part of an epoch. The ratios of process CPU time, which other work on the machine disturbs less,
count the validation of one batch of 128 images against us. The images are CIFAR-10's where
$ECA_SEARCH_DATA has them, random ones of that shape otherwise. Written to
benchmarks/results/throughput-<date>.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
from kept import RESULTS, circumstances, keep
from torch import nn
from torch.nn.functional import cross_entropy

import trainers
from spaces.config import Config
from trainers import data, variants
from trainers.datasets import DatasetError, Images

BATCH = 128
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
Epoch = Callable[[], float]  # trains one epoch, returns its seconds of training


def config(
    depth: int,
    width: float,
    images: int,
    *,
    batch: int = BATCH,
    precision: str = "float32",
    compile: bool = False,
) -> Config:
    """A ResNet with ECA everywhere; `images` train and one batch validates."""
    total = images + batch
    return Config.model_validate(
        {
            "name": "throughput",
            "dataset": {"name": "cifar10", "subset": total, "val": batch / total},
            "backbone": {"name": "resnet", "depth": depth, "width": width},
            "attention": {"name": "eca"},
            "training": {
                "epochs": 100_000,
                "batch_size": batch,
                "precision": precision,
                "compile": compile,
                "optimizer": {"name": "sgd", "lr": 0.01},
                "schedule": {"name": "constant"},
                "augmentation": {"flip": True, "crop": 4},
            },
        }
    )


def random_images() -> Images:
    """50,000 pictures of noise in CIFAR-10's shape."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (50_000, 32, 32, 3), np.uint8)
    return Images(pixels, np.arange(50_000) % 10)


def found(point: Config) -> tuple[Images, str]:
    """CIFAR-10, or noise of its shape that training then reads in its place; and which it is."""
    try:
        images, source = data.read(point.dataset), "CIFAR-10"
    except DatasetError:
        images, source = random_images(), "random images of CIFAR-10's shape"
        variants.module("dataset", "cifar10").find = lambda *_: [Path(__file__)]
        data._read = lambda source: images
    assert isinstance(images, Images)
    return images, source


def ours(point: Config, device: str = "cpu") -> Epoch:
    epochs = trainers.train(point, device=device)
    batch = point.training.batch_size
    images = (point.dataset.subset or 0) // batch * batch - batch
    return lambda: images / next(epochs)["images_per_second"]


def network(point: Config, device: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    net = trainers.build(point).to(device, memory_format=torch.channels_last)
    return net, torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)


def casting(point: Config, device: str) -> torch.autocast:
    """The precision that the recipe asks for."""
    return torch.autocast(device, torch.bfloat16, enabled=point.training.precision == "bf16")


def bare(point: Config, images: Images, index: np.ndarray, device: str = "cpu") -> Epoch:
    mean, std = (torch.tensor(values) * 255 for values in (MEAN, STD))
    x = ((torch.from_numpy(images.pixels[index]).float() - mean) / std).to(device)
    y = torch.from_numpy(images.labels[index]).to(device)
    net, sgd = network(point, device)
    size = point.training.batch_size

    def epoch() -> float:
        started = perf_counter()
        order = torch.randperm(len(y), device=device)
        for start in range(0, len(y) - size + 1, size):
            batch = order[start : start + size]
            with casting(point, device):
                loss = cross_entropy(net(x[batch].permute(0, 3, 1, 2)), y[batch])
            sgd.zero_grad(set_to_none=True)
            loss.backward()
            sgd.step()
        float(loss.detach())  # the device has done all that was asked of it
        return perf_counter() - started

    return epoch


def usual(
    point: Config, images: Images, index: np.ndarray, device: str = "cpu", workers: int = 0
) -> Epoch:
    from PIL import Image
    from torchvision import transforms

    augment = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )

    class Pictures(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(index)

        def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
            picture = Image.fromarray(images.pixels[index[place]])
            return augment(picture), int(images.labels[index[place]])

    loader = torch.utils.data.DataLoader(
        Pictures(),
        point.training.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=bool(workers),
        pin_memory=device != "cpu",
    )
    net, sgd = network(point, device)

    def epoch() -> float:
        started = perf_counter()
        running, hits = 0.0, 0
        for some, theirs in loader:
            x, y = some.to(device, non_blocking=True), theirs.to(device, non_blocking=True)
            sgd.zero_grad()
            with casting(point, device):
                outputs = net(x)
                loss = cross_entropy(outputs, y)
            loss.backward()
            sgd.step()
            running += loss.item()
            hits += (outputs.argmax(1) == y).sum().item()
        return perf_counter() - started

    return epoch


def alternated(loops: dict[str, Epoch], repeats: int) -> Iterator[dict[str, tuple[float, float]]]:
    """(seconds, CPU seconds) of each loop, turn by turn, the order turned round every time."""
    for turn in count():
        names = list(loops) if turn % 2 else list(reversed(loops))
        figures = {}
        for name in names:
            before = process_time()
            figures[name] = (loops[name](), process_time() - before)
        if turn:  # the first turn warms up
            yield figures
        if turn == repeats:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compiled", action="store_true", help="ours with compiled blocks too")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)

    point = config(asked.depth, asked.width, asked.images)
    images, source = found(point)
    index, _ = data.split(images.labels, val=point.dataset.val, seed=0, subset=point.dataset.subset)

    loops = {
        "ours": ours(point),
        "usual": usual(point, images, index),
        "bare": bare(point, images, index),
    }
    others = ["usual", "bare"]
    if asked.compiled:
        loops["compiled"] = ours(config(asked.depth, asked.width, asked.images, compile=True))
        others.append("compiled")
    about = circumstances("pillow")
    turns = list(alternated(loops, asked.repeats))
    trained = asked.images // BATCH * BATCH
    speeds = {name: [trained / turn[name][0] for turn in turns] for name in loops}
    ratios = {
        f"ours / {other}, {kind} time": [turn[other][at] / turn["ours"][at] for turn in turns]
        for other in others
        for at, kind in enumerate(("wall", "CPU"))
    }
    summary = {
        name: {"median": statistics.median(values), "low": min(values), "high": max(values)}
        for name, values in (speeds | ratios).items()
    }
    for name, figures in summary.items():
        unit = "times" if "/" in name else "images/s"
        print(
            f"{name:24} {figures['median']:8.3f} {unit} "
            f"({figures['low']:.3f} to {figures['high']:.3f}, {asked.repeats} turns)"
        )

    record = {
        **about,
        "images": source,
        "network": {"depth": asked.depth, "width": asked.width},
        "threads": torch.get_num_threads(),
        "summary": summary,
        "turns": [
            {name: {"seconds": wall, "cpu": cpu} for name, (wall, cpu) in turn.items()}
            for turn in turns
        ],
    }
    print(keep("throughput", record, asked.out))


if __name__ == "__main__":
    main()
