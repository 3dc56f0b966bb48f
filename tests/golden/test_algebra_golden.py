"""What is proved of rules and regions, against brute force and against what others have counted.

Sources: Wang et al., CVPR 2020, Eq. 12 and Fig. 3; the profiles in the names of the released
checkpoints (BangguWu/ECANet); everything else by trying every channel count from 1 to 4096, or by
the hand computation beside it.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import pytest

from spaces import catalogue, published
from spaces.algebra import agreement, rules
from spaces.algebra.grid import grid
from spaces.algebra.inverse import region
from spaces.algebra.plane import cells
from spaces.algebra.strips import GAMMA, B, Rounding

ROUNDINGS: tuple[Rounding, ...] = ("nearest", "nearest_down", "floor", "ceil")
GAMMAS, SHIFTS = (1, 1.5, 2, 2.5, 3, 4), range(-2, 5)
POWERS = [1 << n for n in range(13)]
NEIGHBOURS = sorted({c + d for c in POWERS for d in (-1, 0, 1) if c + d > 0})


def stages(name: str, profile: tuple[int, ...]) -> list[tuple[int, int]]:
    """(channels, kernel) of a published backbone's stages."""
    return [(s.channels, k) for s, k in zip(published.stages(name), profile, strict=True)]


def odd(t: float, rounding: str) -> int:
    """The odd number that a rounding means, found by looking at all of them."""
    candidates = range(1, 41, 2)
    if rounding == "floor":
        return max((k for k in candidates if k <= t), default=1)
    if rounding == "ceil":
        return min(k for k in candidates if k >= t)
    up = 1 if rounding == "nearest" else -1
    return min(candidates, key=lambda k: (abs(k - t), -up * k))


@pytest.mark.parametrize("channels", NEIGHBOURS)
def test_rules_at_powers_of_two_and_their_neighbours(channels: int) -> None:
    """Each rule's kernel is the odd number its name says of t = (log2 C + 1) / 2."""
    t = (math.log2(channels) + 1) / 2  # exact at powers of two, where the ties are
    assert rules.named("published")(channels) == odd(t, "nearest")
    assert rules.named("nearest_odd_ties_up")(channels) == odd(t, "nearest")
    assert rules.named("nearest_odd_ties_down")(channels) == odd(t, "nearest_down")
    assert rules.named("floor_odd")(channels) == odd(t, "floor")
    assert rules.named("ceil_odd")(channels) == odd(t, "ceil")
    assert rules.named("timm")(channels) == max(3, odd(t, "nearest"))
    assert rules.named("constant_3")(channels) == 3


@pytest.mark.parametrize(("one", "other"), list(combinations(rules.NAMED, 2)))
def test_proofs_are_what_brute_force_finds(one: str, other: str) -> None:
    """Over C = 1..4096 every pair of named rules answers as the runs of its proof say."""
    a, b = rules.named(one), rules.named(other)
    proof = agreement.over(a, b, 1, 4096)
    told = {c: (r.a, r.b) for r in proof.runs for c in range(r.first, r.last + 1)}
    assert told == {c: (a(c), b(c)) for c in range(1, 4097)}
    neighbours = zip(proof.runs, proof.runs[1:], strict=False)
    assert all((left.a, left.b) != (right.a, right.b) for left, right in neighbours)


@pytest.mark.parametrize(
    ("other", "high", "intervals"),
    [
        ("nearest_odd_ties_up", 1_000_000, []),
        # t of floor-odd is below k where 2^(2k-3) <= C < 2^(2k-1): hand computation
        ("floor_odd", 32_767, [(8, 31), (128, 511), (2048, 8191)]),
        ("nearest_odd_ties_down", 4096, [(8, 8), (128, 128), (2048, 2048)]),
        ("timm", 4096, [(1, 7)]),
    ],
)
def test_where_rules_differ_from_the_published_one(
    other: str, high: int, intervals: list[tuple[int, int]]
) -> None:
    """Figure 3's listing is nearest-odd with ties up everywhere; the others differ in intervals."""
    proof = agreement.over(rules.named("published"), rules.named(other), 1, high)
    assert [(run.first, run.last) for run in proof.differing] == intervals


def test_where_the_constant_is_the_published_rule() -> None:
    """K = 3 for all is the published rule for 8 to 127 channels and nowhere else."""
    proof = agreement.over(rules.named("published"), rules.named("constant_3"), 1, 4096)
    agreeing = [(run.first, run.last) for run in proof.runs if run not in proof.differing]
    assert agreeing == [(8, 127)]


@pytest.mark.parametrize(
    ("backbone", "rule", "sites"),
    [
        ("resnet50", "floor_odd", [1, 4]),
        ("resnet50", "nearest_odd_ties_down", [4]),
        ("resnet18", "floor_odd", [2, 3]),
        ("resnet20", "constant_3", []),
        ("resnet50", "released", [1]),
        ("mobilenetv2", "released", [1, 2, 3, 4, 6, 7]),
    ],
)
def test_where_rules_differ_on_backbones(backbone: str, rule: str, sites: list[int]) -> None:
    """The stages that differ from the published rule, by hand from the table of k."""
    other = rules.read(rule, backbone)
    proof = agreement.at(rules.named("published"), other, published.stages(backbone))
    assert [run.stage.number for run in proof.differing if run.stage] == sites


@pytest.mark.parametrize(
    ("backbone", "networks"), [("resnet50", 21), ("resnet18", 19), ("resnet20", 12)]
)
def test_networks_of_the_grid(backbone: str, networks: int) -> None:
    """Of 42 pairs 21, 19 and 12 are different networks, and each is a cell of the plane."""
    channels = [stage.channels for stage in published.stages(backbone)]
    found = grid(channels, "nearest", GAMMAS, SHIFTS)
    assert len(found.networks) == networks
    window = (Fraction(1, 2), Fraction(5)), (Fraction(-3), Fraction(5))
    assert found.networks.keys() <= {cell.kernels for cell in cells(channels, "nearest", *window)}


@pytest.mark.parametrize(
    ("backbone", "corners"),
    [
        # k(256)=3, k(512)=5: (4 - 2) gamma > 1 from 4g-9 < 4g-8 and 2g-8 < 6g-9, and so on by hand
        ("resnet50", {(0.5, -7), (1, -5), (1.5, -2), (1, -4)}),
        ("resnet18", {(1, -2), (0.75, -3), (0.5, -5)}),
        ("resnet34", {(1, -3), (0.5, -5), (0.75, -4.5)}),
        ("resnet101", {(1, -5), (0.5, -7), (0.75, -6.5)}),
    ],
)
def test_regions_of_the_released_profiles(backbone: str, corners: set[tuple[float, float]]) -> None:
    """The authors' profiles lie at small gamma and negative b, away from gamma=2, b=1."""
    found = region(stages(backbone, rules.RELEASED[backbone]["released"]))
    assert {(float(gamma), float(b)) for gamma, b in found.corners} == corners
    assert not any(gamma >= 1 and b >= 0 for gamma, b in found.corners)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("backbone", ["resnet50", "resnet18"])
def test_the_detectors_profile_is_impossible(backbone: str, rounding: Rounding) -> None:
    """No gamma and b give 3-3-7-7 under any rounding, on bottleneck outputs or inner widths."""
    found = region(stages(backbone, (3, 3, 7, 7)), rounding)
    assert (found.corners, found.inside) == ((), None)
    assert [why.rpartition(" need ")[2] for why in found.because] == ["gamma > 0.5", "gamma < 0.5"]


def test_limits_of_the_plane_are_the_schema_s() -> None:
    """The inverse looks where the mapping's own schema allows gamma and b."""
    fields = catalogue.model("mapping", "log2").model_fields
    for name, (low, high) in (("gamma", GAMMA), ("b", B)):
        limits = {type(m).__name__: m for m in fields[name].metadata}
        assert (limits["Ge"].ge, limits["Le"].le) == (float(low), float(high))
