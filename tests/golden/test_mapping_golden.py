"""Kernel sizes that the ECA-Net paper, its code and its checkpoints are known to have.

Sources: Wang et al., CVPR 2020, Eq. 12 and Fig. 3; the profiles in the names of the released
checkpoints (BangguWu/ECANet); sums computed by hand from blocks per stage.
"""

from __future__ import annotations

import math

import pytest

from spaces import catalogue
from spaces.mappings import constant, linear, log2, per_stage

MOBILENET_OUT = (16, 24, 32, 64, 96, 160, 320)
MOBILENET_EXPANDED = (
    *(32, 96, 144, 144, 192, 192, 192, 384, 384, 384, 384, 576, 576, 576, 960, 960, 960),
)
TORCHVISION = {
    18: (64, 128, 256, 512),
    34: (64, 128, 256, 512),
    50: (256, 512, 1024, 2048),
    101: (256, 512, 1024, 2048),
    152: (256, 512, 1024, 2048),
}
RELEASED = {18: (3, 5, 7, 7), 34: (3, 3, 5, 7), 50: (3, 5, 5, 7)} | dict.fromkeys(
    (101, 152), (3, 3, 5, 7)
)


def blocks(name: str, depth: int | None = None) -> tuple[int, ...]:
    """Blocks per stage from the backbone's own table."""
    found = catalogue.blocks({"name": name, "depth": depth} if depth else {"name": name})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("channels", "k"),
    [
        (7, 1),
        (8, 3),
        (16, 3),
        (64, 3),
        (127, 3),
        (128, 5),
        (256, 5),
        (512, 5),
        (1024, 5),
        (2047, 5),
        (2048, 7),
        (32767, 7),
    ],
)
def test_paper_mapping(channels: int, k: int) -> None:
    """gamma=2, b=1, nearest odd with ties up is the listing of Fig. 3."""
    t = int(abs((math.log2(channels) + 1) / 2))
    assert log2.mapping(channels) == k == (t if t % 2 else t + 1)


@pytest.mark.parametrize(
    ("rounding", "channels", "k"),
    [
        ("nearest_down", 8, 1),
        ("nearest_down", 128, 3),
        ("nearest_down", 2048, 5),
        ("floor", 256, 3),
        ("floor", 512, 5),
        ("ceil", 64, 5),
        ("ceil", 1024, 7),
    ],
)
def test_other_roundings(rounding: str, channels: int, k: int) -> None:
    """The three other rules differ where t is a tie or not an odd number."""
    assert log2.mapping(channels, rounding=rounding) == k


@pytest.mark.parametrize(
    ("rounding", "sums"),
    [
        ("nearest", (36, 74, 86, 171, 256)),
        ("nearest_down", (32, 66, 80, 165, 250)),
        ("floor", (28, 54, 74, 159, 244)),
        ("ceil", (40, 80, 98, 217, 328)),
    ],
)
def test_eca_parameters_of_resnets(rounding: str, sums: tuple[int, ...]) -> None:
    """A module has k parameters: their sum over all blocks of ResNet-18 to 152."""
    for (depth, channels), total in zip(TORCHVISION.items(), sums, strict=True):
        kernels = (log2.mapping(c, rounding=rounding) for c in channels)
        modules = zip(kernels, blocks("resnet", depth), strict=True)
        assert sum(k * n for k, n in modules) == total


@pytest.mark.parametrize(
    ("rounding", "out", "expanded"),
    [("nearest", 59, 81), ("nearest_down", 59, 81), ("floor", 45, 63)],
)
def test_eca_parameters_of_mobilenetv2(rounding: str, out: int, expanded: int) -> None:
    """The same for the 17 blocks of MobileNetV2, after the projection and on the wide layer."""
    modules = zip(MOBILENET_OUT, blocks("mobilenetv2"), strict=True)
    assert sum(log2.mapping(c, rounding=rounding) * n for c, n in modules) == out
    assert sum(log2.mapping(c, rounding=rounding) for c in MOBILENET_EXPANDED) == expanded


@pytest.mark.parametrize(("depth", "total"), [(18, 44), (34, 72), (50, 80), (101, 157), (152, 234)])
def test_released_profiles(depth: int, total: int) -> None:
    """The profiles of the released checkpoints and their parameters."""
    counts = blocks("resnet", depth)
    profile = list(RELEASED[depth])
    kernels = [per_stage.mapping(64, stage, kernel_sizes=profile) for stage in (1, 2, 3, 4)]
    assert sum(k * n for k, n in zip(kernels, counts, strict=True)) == total


def test_released_mobilenetv2_and_detection_profiles() -> None:
    """k=1 below 96 channels and 3 from there on is 31; COCO's 3-3-7-7 on ResNet-50 is 84."""
    profile = [1, 1, 1, 1, 3, 3, 3]
    stages = zip(range(1, 8), blocks("mobilenetv2"), strict=True)
    assert sum(per_stage.mapping(16, s, kernel_sizes=profile) * n for s, n in stages) == 31
    stages = zip(range(1, 5), blocks("resnet", 50), strict=True)
    assert sum(per_stage.mapping(64, s, kernel_sizes=[3, 3, 7, 7]) * n for s, n in stages) == 84


@pytest.mark.parametrize(
    ("gamma", "b", "total"),
    [
        (1, 0, 162),
        (1, 1, 176),
        (1.5, 0, 106),
        (1.5, 1, 118),
        (2, -1, 74),
        (2, 0, 80),
        (2, 2, 98),
        (2, 3, 106),
        (3, 0, 48),
        (3, 1, 54),
        (4, 1, 48),
    ],
)
def test_other_gamma_and_b_on_resnet50(gamma: float, b: float, total: int) -> None:
    """Sums of k over ResNet-50's blocks for other gamma and b, ties up."""
    modules = zip(TORCHVISION[50], blocks("resnet", 50), strict=True)
    assert sum(log2.mapping(c, gamma=gamma, b=b) * n for c, n in modules) == total


@pytest.mark.parametrize(
    ("channels", "distinct"),
    [
        ((256, 512, 1024, 2048), 21),
        ((64, 128, 256, 512), 19),
        ((64, 128, 256), 15),
        ((16, 32, 64), 12),
    ],
)
def test_most_of_the_plane_is_duplicates(channels: tuple[int, ...], distinct: int) -> None:
    """A grid of 42 points (gamma 1, 1.5, 2, 2.5, 3, 4 by b -2..4) has few different profiles."""
    profiles = {
        tuple(log2.mapping(c, gamma=gamma, b=b) for c in channels)
        for gamma in (1, 1.5, 2, 2.5, 3, 4)
        for b in range(-2, 5)
    }
    assert len(profiles) == distinct


def test_constant_and_linear() -> None:
    """The constant is itself; the linear map is (C + b) / gamma to the nearest odd, ties up."""
    assert constant.mapping(7, kernel_size=9) == 9
    assert [linear.mapping(c) for c in (64, 256, 1024)] == [3, 9, 33]
    assert linear.mapping(10, gamma=4, b=-2) == 3
