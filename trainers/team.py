"""The processes that train one network together: each its share of every batch, one set of weights.

The result is that of one process, but for the order of sums: batches are the same, gradients are
added up (DDP: Li et al. 2020, arXiv:2006.15704), and batch norm takes mean and variance of a batch
over all processes. Dropout draws other numbers in each.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from spaces.config import Config
from spaces.errors import VariantError

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


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

        PyTorch's on CUDA, which has none for the CPU: there `Synchronised`. timm's norms go on to
        drop and activate. Raises VariantError for any other subclass: what it does would be lost.
        """
        if self.group is None:
            return network
        cuda = any(parameter.is_cuda for parameter in network.parameters())
        for name, norm in list(network.named_modules()):
            if isinstance(norm, _BatchNorm):
                _refuse_unknown(norm, name)
                parent, _, last = name.rpartition(".")
                whole = _on_cuda(norm, self) if cuda else _on_cpu(norm, self)
                setattr(network.get_submodule(parent), last, whole.train(norm.training))
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


def shareable(config: Config) -> None:
    """Refuse a network that several processes cannot train, before one of them has begun.

    Raises VariantError as `Team.synchronised` does.
    """
    from trainers.build import drawn

    with torch.device("meta"):  # no memory for weights
        network = drawn(config, seed=0)
    for name, norm in network.named_modules():
        if isinstance(norm, _BatchNorm):
            _refuse_unknown(norm, name)


def _activates(norm: _BatchNorm) -> bool:
    """Whether it is timm's, which drops and activates; told by name, as timm need not be here."""
    kind = type(norm)
    return (kind.__module__, kind.__name__) == ("timm.layers.norm_act", "BatchNormAct2d")


def _refuse_unknown(norm: _BatchNorm, name: str) -> None:
    """Raise VariantError for a batch norm at `name` of which it is not known what else it does."""
    kind = type(norm)
    if kind not in PLAIN and not _activates(norm):
        said = f"several processes cannot share the batch norm {name}"
        allowed = "allowed: PyTorch's and timm's, or search.resources.processes: 1"
        raise VariantError(("backbone", f"{said} (got {kind.__name__}; {allowed})"))


def _on_cuda(norm: _BatchNorm, team: Team) -> nn.Module:
    convert: Callable[..., nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
    if _activates(norm):
        from timm.layers import convert_sync_batchnorm

        convert = convert_sync_batchnorm
    return convert(norm, team.group)


def _on_cpu(norm: _BatchNorm, team: Team) -> nn.Module:
    return Activated(norm, team) if _activates(norm) else Synchronised(norm, team)


class Synchronised(_BatchNorm):
    """Batch norm over the batches of all processes; in evaluation it is as any other.

    Parameters and running figures are those of `norm`.
    """

    def __init__(self, norm: _BatchNorm, team: Team) -> None:
        chosen = (norm.num_features, norm.eps, norm.momentum)
        super().__init__(*chosen, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
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
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = self.weight * scale
        normal = centred * scale.view(shape)
        if self.bias is not None:
            normal = normal + self.bias.view(shape)
        return normal.to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running figures, of which evaluation makes use, towards a batch's."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:  # PyTorch's word for the plain mean of all batches
            share = 1 / self.num_batches_tracked.item()
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class Activated(Synchronised):
    """The same for timm's `BatchNormAct2d`, of whose dropout and activation it makes use."""

    def __init__(self, norm: _BatchNorm, team: Team) -> None:
        super().__init__(norm, team)
        self.drop = norm.get_submodule("drop")
        self.act = norm.get_submodule("act")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        active: Tensor = self.act(self.drop(super().forward(x)))
        return active


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
