"""First weights that depend on the seed and on a parameter's name, on nothing else.

Two networks of one seed start equal wherever names and shapes of their parameters agree, whatever
else they hold: arms of a comparison differ in the attention, not in the draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from trainers.seeds import derive, stream

LAYERS = (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)


@dataclass(frozen=True)
class First:
    """How a layer starts where not as `initialise` says: `draw(weight, generator=...)` fills its
    weights, as the functions of `torch.nn.init` do; each bias is `bias`.
    """

    draw: Callable[..., object]
    bias: float = 0.0


@torch.no_grad()
def initialise(net: nn.Module, seed: int, *, keep: Iterable[nn.Module] = ()) -> None:
    """Draw the weights of every convolution and linear layer of `net` outside the modules `keep`.

    Convolutions: normal of variance 2 / fan-out (He et al. 2015, and torchvision's networks).
    Linear: PyTorch's default, U(-1/sqrt(inputs), 1/sqrt(inputs)). Biases are zero: PyTorch's would
    depend on the number of inputs, which their shape does not show. Norms stay at 1 and 0.

    A network's `first`, if it has one, says otherwise for the layers below a name: name -> First.
    """
    kept = {id(module) for root in keep for module in root.modules()}
    found = getattr(net, "first", None)  # a person's own network may call a layer so
    others: Mapping[str, First] = found if isinstance(found, Mapping) else {}
    for name, module in net.named_modules():
        if id(module) in kept or not isinstance(module, LAYERS):
            continue
        draw = stream(seed, "weights", f"{name}.weight")
        own = next((first for root, first in others.items() if _below(root, name)), None)
        if own is not None:
            own.draw(module.weight, generator=draw)
        elif isinstance(module, nn.Conv2d):
            std = math.sqrt(2 / (module.out_channels * math.prod(module.kernel_size)))
            module.weight.normal_(0, std, generator=draw)
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            module.weight.uniform_(-bound, bound, generator=draw)
        else:
            continue
        if module.bias is not None:
            module.bias.fill_(0.0 if own is None else own.bias)


def _below(root: str, name: str) -> bool:
    return f"{name}.".startswith(f"{root}.")


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """A block in which PyTorch's CPU generator starts from `seed` and `name`; restored after."""
    before = torch.get_rng_state()
    # torch.manual_seed would also move the generators of the accelerators.
    torch.default_generator.manual_seed(derive(seed, "weights", name))
    try:
        yield
    finally:
        torch.set_rng_state(before)
