"""Kernel sizes: which there may be, and how a mapping keeps to them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

MAX_KERNEL_SIZE = 511


def _odd(kernel_size: int) -> int:
    if kernel_size % 2 == 0:
        raise ValueError("an odd number")
    return kernel_size


KernelSize = Annotated[
    int,
    Field(ge=1, le=MAX_KERNEL_SIZE),
    AfterValidator(_odd),
    WithJsonSchema(
        {"type": "integer", "minimum": 1, "maximum": MAX_KERNEL_SIZE, "not": {"multipleOf": 2}}
    ),
]


def checked(kernel_size: int) -> int:
    """The kernel size itself. Raises ValueError unless it is odd and 1 to 511.

    An even kernel has no centre: the output would lose a channel. Above 511 are more neighbours
    than any network here has use for.
    """
    if not 1 <= kernel_size <= MAX_KERNEL_SIZE or kernel_size % 2 == 0:
        raise ValueError(
            f"a kernel size is odd and 1 to {MAX_KERNEL_SIZE} (got {str(kernel_size)[:40]})"
        )
    return kernel_size


def clamped(kernel_size: int, k_min: int = 1, k_max: int | None = None) -> int:
    """``kernel_size`` kept within k_min..k_max.

    Raises ValueError where the bounds are no kernel sizes or crossed, and without ``k_max`` for a
    result above 511.
    """
    top = checked(kernel_size if k_max is None else k_max)
    if k_max is not None and checked(k_min) > k_max:
        raise ValueError(f"k_min must not be above k_max (got {k_min}, {k_max})")
    return max(checked(k_min), min(kernel_size, top))
