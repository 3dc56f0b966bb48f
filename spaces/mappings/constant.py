"""One kernel size for all channels."""

from __future__ import annotations

from spaces.kernels import KernelSize, checked


def mapping(channels: int, stage: int | None = None, *, kernel_size: KernelSize = 3) -> int:
    """The same kernel everywhere, whatever the channels.

    The official code's default is 3; its Faster R-CNN on ResNet-50 uses 5.

    kernel_size: odd, 1 to 511.

    Raises ValueError for another kernel size.
    """
    return checked(kernel_size)
