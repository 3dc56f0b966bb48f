"""The paper's mapping: the kernel grows with the logarithm of the channels."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from spaces.errors import VariantError
from spaces.kernels import KernelSize, clamped


def mapping(
    channels: int,
    stage: int | None = None,
    *,
    gamma: Annotated[float, Field(ge=0.1, le=100)] = 2,
    b: Annotated[float, Field(ge=-64, le=64)] = 1,
    rounding: Literal["nearest", "nearest_down", "floor", "ceil"] = "nearest",
    k_min: KernelSize = 1,
    k_max: KernelSize | None = None,
) -> int:
    """The paper's psi: k = |log2(C) / gamma + b / gamma| to an odd number (ECA-Net, CVPR 2020).

    Equation 12; the authors use gamma=2, b=1.

    gamma: how many doublings of the channels widen the kernel by one.
    b: shifts the thresholds; b + 1 is the same as twice the channels.
    rounding: t = (log2(C) + b) / gamma to an odd number: ``nearest`` with ties up is the rule of
      figure 3; ``nearest_down`` has ties down (5555 on ResNet-50); ``floor``, ``ceil``.
    k_min, k_max: clamp the result.

    Computed in rationals, since ties fall on widths in daily use (8, 128, 2048). Raises ValueError
    where log2(C) + b < 0: there the paper's absolute value would mirror the mapping, so that more
    channels get a smaller kernel.
    """
    if channels < 1 or gamma <= 0:
        raise ValueError(
            f"channels and gamma must be positive (got channels={channels}, gamma={gamma})"
        )
    power = channels.bit_length() - 1
    doublings = Fraction(power if channels == 1 << power else math.log2(channels))
    shifted = doublings + Fraction(str(b))
    if shifted < 0:
        least = math.ceil(-1000 * doublings) / 1000  # rounded towards what is allowed
        got = f"got C={channels}, b={b:g}: {float(shifted):.4g}"
        raise VariantError(
            ("b", f"log2(C) + b must not be negative ({got}; allowed b >= {least:g})")
        )
    t = shifted / Fraction(str(gamma))
    if rounding == "nearest":
        k = 2 * math.floor(t / 2) + 1
    elif rounding == "nearest_down":
        k = 2 * math.ceil(t / 2) - 1
    elif rounding == "floor":
        k = 2 * math.floor((t - 1) / 2) + 1
    elif rounding == "ceil":
        k = 2 * math.ceil((t - 1) / 2) + 1
    else:
        raise ValueError(
            f"unknown rounding (got {rounding!r}; allowed nearest, nearest_down, floor, ceil)"
        )
    return clamped(max(1, k), k_min, k_max)
