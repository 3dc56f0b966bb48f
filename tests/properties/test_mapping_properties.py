"""What holds for mappings at all channels, gamma and b."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spaces.kernels import MAX_KERNEL_SIZE
from spaces.mappings import constant, linear, log2, per_stage

CHANNELS = st.integers(1, 4096)
GAMMAS = st.integers(1, 40).map(lambda n: n / 8)  # dyadic: exact in binary and in decimals
SHIFTS = st.integers(-64, 64).map(lambda n: n / 8)
ROUNDINGS = st.sampled_from(["nearest", "nearest_down", "floor", "ceil"])


def exact(channels: int, gamma: float, b: float) -> Fraction:
    """T = (log2 C + b) / gamma, exactly where C is a power of two."""
    power = channels.bit_length() - 1
    doublings = power if channels == 2**power else math.log2(channels)
    return (Fraction(doublings) + Fraction(b)) / Fraction(gamma)


@given(CHANNELS, GAMMAS, SHIFTS, ROUNDINGS)
def test_a_kernel_is_odd_and_follows_its_rounding(
    channels: int, gamma: float, b: float, rounding: str
) -> None:
    """K is odd, at least 1, and the odd number that the rounding says of t."""
    t = exact(channels, gamma, b)
    assume(t >= 0)
    k = log2.mapping(channels, gamma=gamma, b=b, rounding=rounding)
    assert k % 2 == 1
    assert k >= 1
    if rounding == "nearest":
        assert k == 2 * math.floor(t / 2) + 1
        assert t - 1 < k <= t + 1
    elif rounding == "nearest_down":
        assert k == 1 or t - 1 <= k < t + 1
    elif rounding == "floor":
        assert k == 1 or t - 2 < k <= t
    else:
        assert k == 1 or t <= k < t + 2


@given(CHANNELS, GAMMAS, SHIFTS, st.integers(0, 4))
def test_width_is_a_shift_of_b(channels: int, gamma: float, b: float, doublings: int) -> None:
    """psi(w C; gamma, b) = psi(C; gamma, b + log2 w) for w a power of two."""
    assume(exact(channels, gamma, b) >= 0)
    wide = log2.mapping(channels * 2**doublings, gamma=gamma, b=b)
    assert wide == log2.mapping(channels, gamma=gamma, b=b + doublings)


@given(CHANNELS, GAMMAS, SHIFTS, ROUNDINGS)
def test_more_channels_never_get_a_smaller_kernel(
    channels: int, gamma: float, b: float, rounding: str
) -> None:
    """The mapping is monotone wherever it is defined."""
    assume(exact(channels, gamma, b) >= 0)
    one = log2.mapping(channels, gamma=gamma, b=b, rounding=rounding)
    assert log2.mapping(channels + 1, gamma=gamma, b=b, rounding=rounding) >= one


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 30))
def test_ties_go_up_exactly(tenths: int, m: int, power: int) -> None:
    """At t = 2m the result is 2m + 1 and down 2m - 1, also for gamma such as 0.3."""
    gamma = tenths / 10
    b = float(Fraction(str(gamma)) * 2 * m - power)
    assume(Fraction(str(b)) + power == Fraction(str(gamma)) * 2 * m)
    assert log2.mapping(2**power, gamma=gamma, b=b) == 2 * m + 1
    assert log2.mapping(2**power, gamma=gamma, b=b, rounding="nearest_down") == 2 * m - 1


@given(CHANNELS, st.integers(0, 20), st.integers(0, 20))
def test_clamps_hold(channels: int, low: int, more: int) -> None:
    """k_min and k_max bound the result."""
    k_min, k_max = 2 * low + 1, 2 * (low + more) + 1
    for mapping in (log2.mapping, linear.mapping):
        k = mapping(channels, gamma=0.5, b=0, k_min=k_min, k_max=k_max)
        assert k_min <= k <= k_max
        assert k % 2 == 1


@given(CHANNELS, st.integers(1, 64))
def test_the_mirrored_region_is_refused(channels: int, eighths: int) -> None:
    """Where log2 C + b < 0 the paper's absolute value would turn the mapping round."""
    b = -math.ceil(math.log2(channels)) - eighths / 8
    with pytest.raises(ValueError, match=r"log2\(C\) \+ b must not be negative"):
        log2.mapping(channels, gamma=1, b=b)


@pytest.mark.parametrize(
    "call",
    [
        lambda: log2.mapping(64, gamma=0),
        lambda: log2.mapping(64, gamma=-1),
        lambda: log2.mapping(64, gamma=1e-9),
        lambda: log2.mapping(0),
        lambda: log2.mapping(64, rounding="up"),
        lambda: log2.mapping(64, k_min=2),
        lambda: log2.mapping(64, k_min=5, k_max=3),
        lambda: linear.mapping(64, gamma=0),
        lambda: linear.mapping(64, b=-65),
        lambda: linear.mapping(10_000, gamma=1),
        lambda: constant.mapping(64, kernel_size=4),
        lambda: constant.mapping(64, kernel_size=0),
        lambda: constant.mapping(64, kernel_size=MAX_KERNEL_SIZE + 2),
        lambda: per_stage.mapping(64, kernel_sizes=[3]),
        lambda: per_stage.mapping(64, 2, kernel_sizes=[3]),
        lambda: per_stage.mapping(64, 0, kernel_sizes=[3]),
        lambda: per_stage.mapping(64, 1, kernel_sizes=[4]),
    ],
)
def test_called_from_python_nonsense_is_refused_too(call) -> None:
    """The functions check what they are given without the schema's help."""
    with pytest.raises(ValueError, match=r"got|above|unknown"):
        call()
