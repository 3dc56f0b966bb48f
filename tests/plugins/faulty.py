"""An attention that misbehaves on purpose: the contract suite's way to break a real training."""

import os
import signal
import time
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn


class Faulty(nn.Module):
    """Identity, until it has seen `after` training batches; then `fault` happens.

    With `once` (a file's path) the fault happens in one process only: the file is its memory.
    """

    def __init__(self, fault: str, after: int, once: str | None) -> None:
        super().__init__()
        self.fault, self.after, self.once, self.seen = fault, after, once, 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += self.training and x.device.type != "meta"
        if self.seen <= self.after or (self.once and Path(self.once).exists()):
            return x
        if self.once:
            Path(self.once).touch()
        if self.fault == "raise":
            raise RuntimeError("a fault on purpose")
        if self.fault == "exit":
            os._exit(7)
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "leave":
            os.kill(os.getpid(), signal.SIGTERM)
            return x
        if self.fault == "hang":
            time.sleep(3600)
        if self.fault == "spin":
            sum(range(10**13))  # in C, and nobody else has the interpreter meanwhile
        if self.fault == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.fault == "cuda":
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        if self.fault == "oom":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return x * float("nan")


def attention(
    channels: int,
    *,
    fault: Literal["raise", "exit", "kill", "leave", "hang", "spin", "stop", "cuda", "nan", "oom"],
    after: int = 30,
    once: str | None = None,
) -> nn.Module:
    """Not an attention at all."""
    return Faulty(fault, after, once)
