"""The parts of a network that PyTorch compiles: its backbone's blocks (`training.compile`).

Each block by itself rather than the network as a whole (PyTorch's recipe "regional compilation"):
blocks of equal shapes share their code, so that there are as many compilations as kinds of blocks,
5 in ResNet-20 as in ResNet-110, and none for each kind of network. Stem, head, detector and loss
stay eager. Compiled in place (`nn.Module.compile`), a block keeps its parameters and their names:
checkpoints, exports, averages and whatever else copies the network know nothing of it.

The mode is PyTorch's default, Inductor without CUDA graphs: C++ on a CPU, Triton on a GPU. Shapes
are constants of the code, but for detectors, whose images differ from batch to batch; what their
code assumes of shapes hangs on the first that it sees, so a detector's training that was resumed
may differ from an undisturbed one in the last bits. Dropout inside a block draws other numbers.

Only steps of training are compiled. What judges is the network as it is built, eager, and so is
what its latency is measured of: the last, smaller batch alone would have every kind of block
compiled once more, for a few hundredths of an epoch's work.

PyTorch keeps what it has compiled on disk too ($TORCHINDUCTOR_CACHE_DIR, else a folder in /tmp), so
that a later trial with the same blocks finds them there, in whatever process of the node.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from spaces.config import Config
from spaces.errors import VariantError
from trainers import cores
from trainers.backbones import Backbone
from trainers.detectors import detects
from trainers.network import describe, skeleton
from trainers.team import Synchronised

MOST = 4096
"""Compiled variants of a block that are kept. PyTorch's limit is 8, beyond which it runs eagerly
with a warning in a log: MobileNetV2 has 12 kinds of blocks, each once for every size of a part.
"""


def check(config: Config) -> None:
    """Refuse `training.compile` for a network without blocks. Raises VariantError."""
    if not config.training.compile:
        return
    if not skeleton(config.backbone, describe(config), config.task).blocks:
        said = f"the backbone {config.backbone.name} does not say which of its parts are blocks"
        raise VariantError(("training.compile", f"{said} (got true; allowed: false)"))


def compile_blocks(network: nn.Module) -> None:
    """Have the backbone's blocks compiled, each when it is first called.

    Batch norms that processes share stay eager, and cut their block's code in two: what processes
    ask each other is then asked in the order that is written, the same in all.
    """
    dynamic = detects(network)  # each size of images would compile every block anew
    for part in network.modules():
        if isinstance(part, nn.SyncBatchNorm | Synchronised):
            part.forward = torch.compiler.disable(part.forward)  # type: ignore[method-assign]
        elif isinstance(part, Backbone):
            for block in part.blocks():
                block.compile(dynamic=dynamic)


@contextmanager
def forgotten(on: bool) -> Iterator[None]:
    """After the block nothing that was compiled in this process is in its memory any more.

    Else a process that trains one trial after another would keep the code of all, look through it
    at each call, and come to `MOST`. What lies on disk stays: equal blocks of later trials are
    loaded from there. PyTorch keeps some traces of its own (what was compared at calls, libraries
    of C++): 1.3 MB of the host's memory for a trial of three kinds of blocks (torch 2.14.1).

    The whole process forgets, as PyTorch has it: a caller's own compiled model, and another
    training that is not over, are compiled anew at their next call, to the same figures.
    """
    try:
        yield
    finally:
        # a training left open goes as the interpreter does, when there is nothing to import from
        if on and "torch._dynamo" in sys.modules and not sys.is_finalizing():
            torch.compiler.reset()


@contextmanager
def compiling(on: bool) -> Iterator[None]:
    """A block in which no compiled part falls back to eager: what PyTorch cannot do is an error.

    PyTorch's settings are each thread's own, but for the stance, which is the process's: trainings
    in threads of one process would disturb each other.
    """
    with ExitStack() as stack:
        if on:
            import torch._dynamo
            import torch._functorch.config
            import torch._inductor

            chosen = {
                "recompile_limit": MOST,
                "accumulated_recompile_limit": MOST,
                "fail_on_recompile_limit_hit": True,
                "suppress_errors": False,
                "optimize_ddp": False,  # blocks are as small as what it would cut them into
            }
            stack.enter_context(torch._dynamo.config.patch(chosen))
            stack.enter_context(torch.compiler.set_stance("default"))
            # PyTorch's own is a process for each core of the node, up to 32, whosever they are
            most = min(cores.share(), torch._inductor.config.compile_threads or 32)
            stack.enter_context(torch._inductor.config.patch(compile_threads=most))
            # at once rather than in the first backward pass, which on a GPU autograd runs in a
            # thread of its own, where none of these settings is known
            at_once = {"force_non_lazy_backward_lowering": True}
            stack.enter_context(torch._functorch.config.patch(at_once))
        yield


@contextmanager
def eager(on: bool) -> Iterator[None]:
    """A block in which compiled parts, where they are `on`, compute as they are written.

    All of the process, as `compiling` says.
    """
    with ExitStack() as stack:
        if on:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield
