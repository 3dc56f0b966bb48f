"""An attention that writes down which of a program's variables its process can read."""

import os
from pathlib import Path

from torch import Tensor, nn


class Nosy(nn.Module):
    """Identity; the first training batch looks around."""

    def __init__(self, to: str) -> None:
        super().__init__()
        self.to = to

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.device.type != "meta" and not Path(self.to).exists():
            Path(self.to).write_text("\n".join(sorted(os.environ)))
        return x


def attention(channels: int, *, to: str) -> nn.Module:
    """Write the names to a file of that name."""
    return Nosy(to)
