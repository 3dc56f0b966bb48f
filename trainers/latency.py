"""How long a network takes on this device: what MACs cannot see of an attention is seen here.

A pass is timed alone, from an idle device to its last result, so a batch's latency is no
throughput. Whatever else computes on the device meanwhile is in the figures: the interval says how
steady they were, not how lonely.

Of a detector the parts are timed whose cost is counted (`network.passes`), on as many regions as
there may be. What cuts regions out and sorts boxes between them is not: how long that takes hangs
on what the weights make of an image, and no attention is in it.
"""

from __future__ import annotations

import gc
import math
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from statistics import median

import torch
from torch import nn

from spaces.config import Component, Config
from spaces.errors import VariantError, counted
from spaces.latency import Latency
from trainers.build import drawn
from trainers.datasets import Description
from trainers.detectors import detects
from trainers.network import describe, passes
from trainers.run import PRECISIONS
from trainers.seeds import stream
from trainers.train import check_device

__all__ = ["Latency", "device_name", "interval", "latency", "timed"]

WARM = 3
"""Passes before the first that counts: they choose algorithms and fill caches."""
FEWEST = 6
"""Passes that are timed however slow they are: fewer have no interval of 95 %."""


def latency(
    config: Config,
    *,
    device: str | torch.device | None = None,
    batch_sizes: Sequence[int] = (1, 128),
    repeats: int = 50,
    seconds: float = 2.0,
    seed: int = 0,
) -> tuple[Latency, ...]:
    """The latency of a config's network in inference, in its precision, for each batch size.

    `repeats` passes are timed, or as many as `seconds`, shared out evenly, allow, but `FEWEST` at
    least. The weights are drawn from `seed`, as time does not depend on them.
    Nothing random that follows is moved. Raises ValueError as `build` and `check_device` do, and
    VariantError for a batch that the memory does not hold.
    """
    place = check_device(config, device)
    data = describe(config)
    network, shape = whole(drawn(config, seed=seed), data, config.task)
    return timed(
        network,
        shape,
        place,
        precision=config.training.precision,
        batch_sizes=batch_sizes,
        repeats=repeats,
        seconds=seconds,
    )


def whole(
    network: nn.Module, data: Description, task: Component
) -> tuple[nn.Module, tuple[int, ...]]:
    """What of a network is timed, and the shape of the images that it is given."""
    parts = passes(network, data, task)
    return (Parts(parts) if detects(network) else network), parts[0][1]


class Parts(nn.Module):
    """The parts of a detector, one after another: the first on images, the others on regions."""

    def __init__(self, parts: Sequence[tuple[nn.Module, tuple[int, ...], int]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(module for module, _, _ in parts)
        self.regions = [(times, *shape) for _, shape, times in parts[1:]]
        self.batch = torch.empty(0)

    def forward(self, images: torch.Tensor) -> None:
        """Images (N, C, H, W); their regions are zeros, made when the batch is a new one."""
        if self.batch is not images:
            count, self.batch = len(images), images
            last = torch.channels_last
            made = [images.new_zeros(n * count, *shape) for n, *shape in self.regions]
            self.zeros = [zeros.to(memory_format=last) for zeros in made]
        for part, given in zip(self.parts, (images, *self.zeros), strict=True):
            part(given)


def timed(
    network: nn.Module,
    shape: tuple[int, ...],
    device: torch.device,
    *,
    precision: str = "float32",
    batch_sizes: Sequence[int],
    repeats: int = 50,
    seconds: float = 2.0,
) -> tuple[Latency, ...]:
    """The latency of a network, which is moved to `device`, for images of `shape` (C, H, W).

    As in training the weights and images are channels last. Raises ValueError as `latency` does.
    """
    network = network.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    name, share = device_name(device), seconds / max(1, len(batch_sizes))
    found = []
    for count in batch_sizes:
        try:
            times = _measured(network, (count, *shape), device, precision, repeats, share)
        except RuntimeError as error:
            spent = isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
            if not spent:
                raise
            images = counted(count, "image")
            said = f"no memory for a pass of {images} on {name} (allowed: fewer images)"
            raise VariantError(("batch_sizes", said)) from None
        found.append(Latency(name, precision, count, median(times), *interval(times), len(times)))
    return tuple(found)


def interval(times: Sequence[float]) -> tuple[float, float]:
    """The median's 95 % interval, whatever the times' distribution: two of the times themselves.

    Of n sorted times the k-th and the k-th from the end enclose the median with probability
    1 - 2 P(B < k), B binomial(n, 1/2) (Conover, Practical Nonparametric Statistics, section 3.2);
    k is the largest for which that is 95 % or more. Raises ValueError for fewer than `FEWEST`.
    """
    count, k, below = len(times), 0, 0
    while 40 * (below + math.comb(count, k)) <= 2**count:
        below += math.comb(count, k)
        k += 1
    if k == 0:
        raise ValueError(f"no interval of 95 % (got {count} times; allowed: {FEWEST} or more)")
    ordered = sorted(times)
    return ordered[k - 1], ordered[-k]


def device_name(device: torch.device) -> str:
    """The GPU's model, or the CPU's with the number of threads that PyTorch computes with."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_cpu()}, {counted(threads, 'thread')}"


@lru_cache(maxsize=1)
def _cpu() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


@torch.inference_mode()
def _measured(
    network: nn.Module,
    shape: tuple[int, ...],
    device: torch.device,
    precision: str,
    repeats: int,
    seconds: float,
) -> list[float]:
    """Milliseconds of each timed pass of images of `shape` (N, C, H, W)."""
    images = torch.randn(shape, generator=stream(0, "latency"))
    images = images.to(device=device, memory_format=torch.channels_last)
    clock = _on_gpu if device.type == "cuda" else _on_cpu
    dtype = PRECISIONS[precision]
    times: list[float] = []
    with _undisturbed(device), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        began = time.perf_counter()
        for _ in range(WARM):
            clock(network, images)
            if time.perf_counter() - began > seconds / 4:
                break
        while len(times) < repeats and (
            len(times) < FEWEST or time.perf_counter() - began < seconds
        ):
            times.append(clock(network, images))
    return times


def _on_cpu(network: nn.Module, images: torch.Tensor) -> float:
    began = time.perf_counter()
    network(images)
    return (time.perf_counter() - began) * 1000


def _on_gpu(network: nn.Module, images: torch.Tensor) -> float:
    """Between two events of the stream that computes, begun with nothing left to do."""
    with torch.cuda.device(images.device):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        network(images)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Inside, no garbage is collected, and cuDNN takes its fastest algorithms, as in training."""
    collects, before = gc.isenabled(), torch.backends.cudnn.benchmark
    gc.disable()
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.deterministic
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
        if collects:
            gc.enable()
