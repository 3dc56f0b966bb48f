"""An attention that prints, in all the ways that a program can, and may then die or fail."""

import ctypes
import os
import signal
import sys
import warnings
from typing import Literal

from torch import Tensor, nn


class Loud(nn.Module):
    """Identity; the first training batch is loud."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.end, self.said = end, False

    def forward(self, x: Tensor) -> Tensor:
        if self.said or not self.training or x.device.type == "meta":
            return x
        self.said = True
        print("Python speaks")
        print("an error stream speaks", file=sys.stderr)
        warnings.warn("a warning speaks", stacklevel=1)
        if self.end in ("exit", "kill"):
            ctypes.CDLL(None).puts(b"C speaks")
            os.system("echo a shell speaks")
        if self.end == "exit":
            os._exit(7)
        if self.end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.end == "raise":
            raise RuntimeError("a fault on purpose " + 10_000_000 * "x")
        return x


def attention(
    channels: int, *, end: Literal["none", "exit", "kill", "raise"] = "none"
) -> nn.Module:
    """Not an attention at all."""
    return Loud(end)
