"""The processes that train one network together: each its share of every batch, one set of weights.

The result is that of one process, but for the order of sums: batches are the same, gradients are
added up (DDP: Li et al. 2020, arXiv:2006.15704), and batch norm takes mean and variance of a batch
over all processes. Dropout draws other numbers in each.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Team:
    """This process among those of `group`; alone where that is None.

    The group must reduce tensors on the CPU too: its backend is `gloo`, or `cpu:gloo,cuda:nccl`.
    """

    group: dist.ProcessGroup | None = None

    @property
    def size(self) -> int:
        """How many processes there are."""
        return 1 if self.group is None else self.group.size()

    @property
    def rank(self) -> int:
        """Which of them this is; 0 is the one that writes checkpoints."""
        return 0 if self.group is None else self.group.rank()

    def share(self, index: Tensor, parts: int = 1) -> Tensor:
        """This process's of the images of a batch, (N,): every `size`-th of each of its parts.

        Cut into as many parts it has its share of each of them.
        """
        if self.group is None:
            return index
        return torch.cat([part[self.rank :: self.size] for part in index.tensor_split(parts)])

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum over all processes; no gradient passes."""
        if self.group is not None:
            tensor = tensor.clone()
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def agreed(self, *wishes: bool) -> list[bool]:
        """For each wish whether some process has it; all of them ask at the same place."""
        if self.group is None:
            return list(wishes)
        told = self.summed(torch.tensor(wishes, dtype=torch.int32))
        return [count > 0 for count in told.tolist()]

    def gathered(self, fact: Any) -> list[Any]:
        """What each process says, by its rank."""
        if self.group is None:
            return [fact]
        facts: list[Any] = [None] * self.size
        dist.all_gather_object(facts, fact, group=self.group)
        return facts

    def synchronised(self, network: nn.Module) -> nn.Module:
        """The network with batch norms that see whole batches, its parameters and names the same.

        PyTorch's on CUDA, which has none for the CPU: there `Synchronised`.
        """
        if self.group is None:
            return network
        if any(parameter.is_cuda for parameter in network.parameters()):
            converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network, self.group)
            return converted
        for name, norm in list(network.named_modules()):
            if isinstance(norm, _BatchNorm) and norm.affine and norm.momentum is not None:
                parent, _, last = name.rpartition(".")
                setattr(network.get_submodule(parent), last, Synchronised(norm, self))
        return network

    def joined(self, network: nn.Module) -> nn.Module:
        """What to call instead of the network in training: its gradients are those of the team."""
        if self.group is None:
            return network
        return DistributedDataParallel(
            network, process_group=self.group, broadcast_buffers=False, gradient_as_bucket_view=True
        )

    def waiting(self, network: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """A block whose gradients are not yet added up, unless they are the batch's `last` part."""
        if last or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        return network.no_sync()


ALONE = Team()


class Synchronised(_BatchNorm):
    """Batch norm over the batches of all processes; in evaluation it is as any other."""

    def __init__(self, norm: _BatchNorm, team: Team) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.load_state_dict(norm.state_dict())
        self.team = team

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions from two on: (N, C, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> the same; its statistics in float32."""
        if not self.training:
            judged: Tensor = super().forward(x)
            return judged
        over = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        wide = x.float()
        count = self.team.summed(torch.tensor(float(x.numel() // x.shape[1])))
        mean = summed(wide.sum(over), self.team) / count
        centred = wide - mean.view(shape)
        variance = summed(centred.square().sum(over), self.team) / count
        self._remember(mean.detach(), variance.detach() * (count / (count - 1)))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running figures, of which evaluation makes use, towards a batch's."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def summed(tensor: Tensor, team: Team) -> Tensor:
    """The sum over all processes, through which gradients pass."""
    total: Tensor = _Summed.apply(tensor, team)
    return total


class _Summed(torch.autograd.Function):
    """A sum over processes; each term's gradient is the sum of what every process has for it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, team: Team) -> Tensor:
        ctx.team = team
        return team.summed(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.team.summed(gradient.contiguous()), None
