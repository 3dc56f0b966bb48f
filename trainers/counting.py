"""Parameters and multiply-accumulates of a network that has no memory of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode, flop_registry


def count_params(net: nn.Module) -> int:
    """Trainable numbers in `net`; a norm's running statistics are none."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_macs(net: nn.Module, *shape: int) -> int:
    """Multiply-accumulates of `net`, which is on the meta device, on one image of `shape`.

    Those of convolutions and matrix products in inference, by the formulas of PyTorch's own
    counter, which counts two operations for each; norms, activations, pooling and products element
    by element count nothing.

    A first operation on meta tensors imports 900 modules of PyTorch's compiler, over a second. So
    the network first sees a batch of no images on the CPU, its weights all one number: PyTorch
    works out every shape and has nothing to compute. Networks with an operation for which that
    might not be exact, or that fails without an image, go through the meta device.
    """
    net.eval()
    try:
        net._apply(lambda tensor: torch.empty((), dtype=tensor.dtype).expand(tensor.shape))
        nothing = torch.empty(0, *shape)
        with torch.no_grad(), _EmptyBatch() as empty:  # type: ignore[no-untyped-call]
            net(nothing)
    except Exception:  # no image, nothing at x[0]: what is wrong with it in earnest comes again
        net.to("meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(torch.empty(1, *shape, device="meta"))
        flops = counter.get_total_flops()
    else:
        flops = empty.flops
    return int(flops) // 2


ALIKE = {
    *("convolution", "addmm", "mm", "bmm", "mean", "amax", "avg_pool2d", "max_pool2d_with_indices"),
    *("add", "add_", "sub", "mul", "mul_", "div", "clone", "constant_pad_nd"),
    *("relu", "relu_", "hardtanh", "hardtanh_", "sigmoid", "tanh", "silu", "gelu", "hardsigmoid"),
    *("sqrt", "pow", "_softmax", "native_layer_norm", "upsample_nearest2d"),
    *("t", "transpose", "squeeze", "unsqueeze", "expand", "select", "slice", "unfold", "detach"),
}
"""Operations that do the same to every image, however many there are."""


class _EmptyBatch(TorchDispatchMode):
    """Counts the operations for one image while the batch is empty: 0 images are read as 1.

    Raises RuntimeError where a tensor's 0 may not stand for the images alone: after (N, L) became
    (N * L), or an operation that is not known to do the same to every image.
    """

    flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Without this PyTorch imports its compiler, only to keep it away from this class."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        out = _convolved(func, *args) if name == "convolution" else func(*args, **kwargs)
        match name:
            case "view" | "_unsafe_view":
                alike = _per_image(args[0]) == _per_image(out)
            case "cat":  # of images it would be as large as one of its parts
                alike = sum(map(_per_image, args[0])) == _per_image(out)
            case "empty":
                alike = out.dim() == 1  # where a norm would note its statistics
            case _:
                alike = name in ALIKE
        if not alike:
            raise RuntimeError(f"{func} may mix the batch with other dimensions")
        formula: Callable[..., int] | None = flop_registry.get(func.overloadpacket)
        if formula is not None:
            one = tree_map(_one_image, (args, kwargs, out))
            self.flops += formula(*one[0], **one[1], out_val=one[2])
        return out


def _convolved(
    func: Any,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> torch.Tensor:
    """The empty output of a convolution, its size found on one channel.

    On all channels PyTorch would first write out all weights, though there is nothing to weigh.
    """
    if x.shape[1] != (weight.shape[0] if transposed else weight.shape[1] * groups):
        raise RuntimeError(f"{func} is not a convolution of all channels")
    window = weight[:1, :1]
    one = func(x[:, :1], window, None, stride, padding, dilation, transposed, output_padding, 1)
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    return x.new_empty(0, channels, *one.shape[2:])


def _per_image(tensor: torch.Tensor) -> int:
    """Elements per image."""
    return math.prod(size for size in tensor.shape if size)


def _one_image(value: Any) -> Any:
    """A tensor's shape for a batch of one; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    return torch.Size(size or 1 for size in value.shape)
