"""The kernel grows in proportion to the channels."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated

from pydantic import Field

from spaces.errors import VariantError
from spaces.kernels import KernelSize, clamped


def mapping(
    channels: int,
    stage: int | None = None,
    *,
    gamma: Annotated[float, Field(ge=0.1, le=100_000)] = 32,
    b: Annotated[float, Field(ge=-100_000, le=100_000)] = 0,
    k_min: KernelSize = 1,
    k_max: KernelSize | None = None,
) -> int:
    """The linear map k = (C + b) / gamma, to the nearest odd number, ties up.

    The ECA-Net paper names it (section 3.2.3) and sets it aside as too limited, without numbers;
    here to test that claim. With gamma=32, b=0: 64 channels get 3, 256 get 9, 1024 get 33.

    gamma: channels per unit of kernel.  b: shifts the channels.  k_min, k_max: clamp the result.

    Raises ValueError where C + b < 0, and for a kernel beyond 511 without k_max.
    """
    if channels < 1 or gamma <= 0:
        raise ValueError(
            f"channels and gamma must be positive (got channels={channels}, gamma={gamma})"
        )
    shifted = channels + Fraction(str(b))
    if shifted < 0:
        said = f"got C={channels}, b={b}; allowed b >= {-channels}"
        raise VariantError(("b", f"C + b must not be negative ({said})"))
    return clamped(2 * math.floor(shifted / Fraction(str(gamma)) / 2) + 1, k_min, k_max)
