"""MACs are exact for any network, also for those that an empty batch cannot count."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from trainers.counting import count_macs, count_params


class Tokens(nn.Module):
    """A linear layer over pixels: the batch and the pixels become one dimension inside torch."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(x.flatten(2).transpose(1, 2))


class Heads(nn.Module):
    """Self-attention over pixels, with the heads folded into the batch by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(8, 24, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        q, k, v = self.project(x).view(n * 2, 3, c // 2, h * w).unbind(1)
        return (v @ (q.transpose(1, 2) @ k).softmax(-1)).reshape(n, c, h, w)


class Doubled(nn.Module):
    """Two views of each image in one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, two = self.conv(torch.cat([x, x.flip(3)])).chunk(2)
        return one + two


class Spatial(nn.Module):
    """A gate per pixel, whose cost depends on the size of the map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.conv(y).sigmoid()


class Shuffled(nn.Module):
    """Grouped convolution after a channel shuffle: views that leave the batch alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3, groups=4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        y = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return F.pad(self.conv(y), (1, 1, 1, 1))


class First(nn.Module):
    """A gate that looks at the first image: there is none in an empty batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * x[0].mean()


class Counted(nn.Module):
    """Pixels by the number of images, which must not be nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * (x.numel() // len(x))


@pytest.mark.parametrize(
    "make", [Tokens, Heads, Doubled, Spatial, Shuffled, First, Counted], ids=lambda m: m.__name__
)
def test_macs_are_torchs_own(make: Callable[[], nn.Module]):
    """Whatever a network does with its tensors, the count is that of FlopCounterMode / 2."""
    with torch.device("meta"):
        net, same = make(), make().eval()
        x = torch.empty(1, 8, 9, 7)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        same(x)

    assert count_macs(net, 8, 9, 7) == counter.get_total_flops() // 2 > 0


def test_counting_takes_no_memory():
    """Weights of 40 GB are counted on a machine that has less."""
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(100_000, 100_000), nn.Linear(100_000, 10))

    assert count_params(net) == 100_001 * 100_000 + 100_001 * 10
    assert count_macs(net, 100_000) == 100_000 * 100_010


def test_broken_networks_say_so():
    """An error of the network's own comes through."""
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3))

    with pytest.raises(RuntimeError, match="channel"):
        count_macs(net, 3, 8, 8)


class Faulty(nn.Module):
    """A mistake that has nothing to do with the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyError("gate")


def test_any_error_of_a_network_comes_through():
    """Whatever its kind, and not that of the empty batch."""
    with pytest.raises(KeyError, match="gate"):
        count_macs(Faulty(), 3, 8, 8)
