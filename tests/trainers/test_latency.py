"""Latency: what a pass is given, which interval is told, and what measuring leaves as it was."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from scipy.stats import binom, quantile_test
from torch import nn

import spaces
import trainers
from spaces import Config
from spaces.errors import VariantError
from spaces.latency import Latency, named
from trainers.latency import FEWEST, WARM, device_name, interval, timed

CPU = torch.device("cpu")


@pytest.fixture
def config(write_space: Callable[..., object]) -> Config:
    """A small digits network with ECA."""
    space = spaces.load(write_space(width="0.25", attention="{name: eca}", trials=1))  # type: ignore[arg-type]
    return space.at({})


class Probe(nn.Module):
    """Notes what every pass is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.seen: list[dict[str, object]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The convolution of the images."""
        y: torch.Tensor = self.conv(x)
        self.seen.append(
            {
                "shape": tuple(x.shape),
                "channels_last": x.is_contiguous(memory_format=torch.channels_last)
                and self.conv.weight.is_contiguous(memory_format=torch.channels_last),
                "dtype": y.dtype,
                "training": self.training,
                "inference": torch.is_inference_mode_enabled(),
                "collects": gc.isenabled(),
            }
        )
        return y


def test_a_network_has_a_latency_for_every_batch_size(config: Config) -> None:
    """Medians lie inside their intervals, and say for how many images on which device."""
    found = trainers.latency(config, device="cpu", batch_sizes=(1, 4), repeats=8)

    assert [latency.batch_size for latency in found] == [1, 4]
    for latency in found:
        assert 0 < latency.low <= latency.median <= latency.high
        assert FEWEST <= latency.repeats <= 8
        assert latency.device == device_name(CPU)
        assert latency.precision == "float32"
    assert f"{torch.get_num_threads()} thread" in device_name(CPU)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_a_pass_is_what_inference_is(precision: str, dtype: torch.dtype) -> None:
    """The whole batch, channels last, in the config's precision, without gradients or garbage."""
    probe = Probe().train()
    timed(probe, (3, 8, 8), CPU, precision=precision, batch_sizes=[1, 5], repeats=6)

    shapes = [seen.pop("shape") for seen in probe.seen]
    assert shapes == sorted(shapes)
    assert set(shapes) == {(1, 3, 8, 8), (5, 3, 8, 8)}
    wanted = {"channels_last": True, "dtype": dtype, "training": False}
    assert all(seen == {**wanted, "inference": True, "collects": False} for seen in probe.seen)
    assert gc.isenabled()


def test_a_slow_network_is_timed_seldom() -> None:
    """Without any time left, the fewest passes are timed that have an interval, and warmed once."""
    probe = Probe()
    (found,) = timed(probe, (3, 8, 8), CPU, batch_sizes=[2], repeats=50, seconds=0)

    assert found.repeats == FEWEST
    assert FEWEST + 1 <= len(probe.seen) <= FEWEST + WARM


def test_measuring_moves_no_random_number(config: Config) -> None:
    """What is drawn after a measurement is what would have been drawn without it."""
    before = torch.get_rng_state()
    trainers.latency(config, device="cpu", batch_sizes=(1,), repeats=6)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: not enough memory")],
)
def test_a_batch_too_large_is_said(error: RuntimeError) -> None:
    """A batch that the memory does not hold is a ValueError that names it."""

    class Hungry(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise error

    with pytest.raises(VariantError, match="no memory for a pass of 512 images"):
        timed(Hungry(), (1, 2, 2), CPU, batch_sizes=[512])


def test_other_errors_of_a_pass_stay_what_they_are() -> None:
    """A network that fails for a reason of its own says that reason."""
    with pytest.raises(RuntimeError, match="expected input"):
        timed(Probe(), (2, 8, 8), CPU, batch_sizes=[1])


@pytest.mark.parametrize("count", [6, 7, 8, 9, 20, 50, 51, 200, 1000])
def test_the_interval_is_the_exact_one(count: int) -> None:
    """As scipy's: at least 95 % of the binomial inside, less with one order statistic off each end.

    scipy.stats.quantile_test gives the same two order statistics for a symmetric 95 %.
    """
    times = [float(place) for place in range(count)]
    low, high = interval(times[::-1])
    below = int(low)  # times that lie below the interval

    assert high == count - 1 - below
    assert 2 * binom.cdf(below, count, 0.5) <= 0.05
    assert 2 * binom.cdf(below + 1, count, 0.5) > 0.05
    theirs = quantile_test(times, p=0.5).confidence_interval(0.95)
    assert (low, high) == (theirs.low, theirs.high)


def test_the_interval_needs_six_times() -> None:
    """Of five times not even the ends enclose the median with 95 % (1 - 2/2**5 = 93.75 %)."""
    assert interval([3, 1, 2, 6, 5, 4]) == (1, 6)
    with pytest.raises(ValueError, match="got 5 times"):
        interval([1, 2, 3, 4, 5])


def test_latencies_are_known_by_name() -> None:
    """`latency_ms` is that of one image, `latency_batch_ms` that of the largest batch."""
    one, two, many = (Latency("here", "float32", size, size, size, size, 6) for size in (1, 2, 64))

    assert named([many, one, two]) == {"latency_ms": one, "latency_batch_ms": many}
    assert named([one]) == {"latency_ms": one}
    assert named([two]) == {"latency_batch_ms": two}
    assert named([]) == {}
    assert all(a.place != b.place for a, b in pairwise((one, two, many)))


@pytest.mark.gpu
def test_a_gpu_is_timed_by_its_events(config: Config) -> None:
    """On CUDA the device is the GPU's model, and cuDNN's search is left as it was."""
    before = torch.backends.cudnn.benchmark
    one, many = trainers.latency(config, device="cuda", batch_sizes=(1, 64), repeats=10)

    assert one.device == torch.cuda.get_device_name()
    assert 0 < one.low <= one.median <= one.high
    assert many.batch_size == 64
    assert torch.backends.cudnn.benchmark == before
