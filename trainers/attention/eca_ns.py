"""ECA with a kernel for each channel: the paper's ECA-NS, not shared."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from spaces.gates import Gate, Pool
from trainers.attention import ChannelGate, reach


class UnsharedECA(ChannelGate):
    """The module that `attention` builds: a banded matrix, its band stored row by row."""

    def __init__(self, channels: int, kernel_size: int, gate: Gate, pool: Pool) -> None:
        super().__init__(gate, pool)
        self.around = reach(kernel_size)
        self.kernel_size = kernel_size
        self.conv = nn.Conv1d(channels, channels, kernel_size, groups=channels, bias=False)

    def logits(self, y: torch.Tensor) -> torch.Tensor:
        """Each channel's k neighbours by weights of its own: (N, C) -> (N, C)."""
        padded = F.pad(y, (self.around, self.around))
        logits: torch.Tensor = self.conv(padded.unfold(1, self.kernel_size, 1))  # of (N, C, k)
        return logits.squeeze(2)


def attention(
    channels: int, kernel_size: int, *, gate: Gate = "sigmoid", pool: Pool = "avg"
) -> nn.Module:
    """ECA-NS: as `eca`, but every channel has k weights of its own.

    y = GAP(x); x * sigmoid(W y), W banded: row i has k weights around column i, zero beyond the
    ends    (Wang et al., ECA-Net, CVPR 2020, eq. 7 and table 2)

    Weights start as U(-1/sqrt(k), 1/sqrt(k)), like the authors'. With k = 1 it is `se_var2`.

    Shape (N, C, H, W) -> (N, C, H, W). Cost: `k * C` parameters, `k * C` MACs.

    Raises ValueError for a kernel size that is even or below 1.
    """
    return UnsharedECA(channels, kernel_size, gate, pool)
