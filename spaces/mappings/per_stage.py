"""A kernel size for each stage, the released profiles among them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spaces.errors import VariantError
from spaces.kernels import KernelSize, checked


def mapping(
    channels: int,
    stage: int | None = None,
    *,
    kernel_sizes: Annotated[list[KernelSize], Field(min_length=1)],
) -> int:
    """A kernel size written down for each stage, as in the released ECA-Net checkpoints.

    kernel_sizes: one odd number per stage of the backbone, first stage first. Released:
      ResNet-18 [3, 5, 7, 7], ResNet-50 [3, 5, 5, 7], ResNet-34, 101 and 152 [3, 3, 5, 7],
      MobileNetV2 [1, 1, 1, 1, 3, 3, 3]. No rounding of gamma=2, b=1 gives these.

    Raises ValueError for a stage that the list lacks and for what is no kernel size.
    """
    if stage is None or not 1 <= stage <= len(kernel_sizes):
        said = f"got {stage}; allowed 1 to {len(kernel_sizes)}"
        raise VariantError(("kernel_sizes", f"a stage that the list does not cover ({said})"))
    return checked(kernel_sizes[stage - 1])
