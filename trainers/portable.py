"""A trained network out of its checkpoints, and in forms that torch alone can read."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from spaces.config import Config
from trainers import checkpoint as checkpoints
from trainers.build import drawn
from trainers.detectors import detects
from trainers.network import describe

BATCHES = (1, 3)
"""Batch sizes at which a program is compared with its network, none of them the one it was
recorded with."""


class NotPortable(ValueError):
    """`torch.export` cannot write a network down, or writes down another one."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A network with the weights that validation judged: averaged ones where the recipe has `ema`.

    It is in evaluation mode on the CPU; `epoch` is the one after which they were stored, `metrics`
    what that epoch came to.
    """

    network: nn.Module
    epoch: int
    metrics: dict[str, float]


def trained(config: Config, location: str | Path, *, seed: int) -> Trained | None:
    """The network of the newest whole checkpoint at a folder or fsspec URI; None without one.

    Neither data nor device are needed. Warns of each damaged checkpoint on the way. Raises
    CheckpointError where it was not trained from `config` and `seed`.
    """
    state = checkpoints.newest(location)
    if state is None:
        return None
    weights = state["network"]
    if state["average"] is not None:
        inside = "module."  # beside them the average counts its updates
        averaged = state["average"].items()
        weights = {name.removeprefix(inside): t for name, t in averaged if name.startswith(inside)}
    network = drawn(config, seed=seed).eval()
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        fits = False
    else:
        fits = state["seed"] == seed
    if not fits:
        raise checkpoints.CheckpointError(f"{location}: this checkpoint is another run's")
    return Trained(network, len(state["history"]), dict(state["history"][-1]))


def weights(network: nn.Module) -> bytes:
    """The state dict as a safetensors file: names, shapes and numbers, no code."""
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    # one entry: several would be written in an order that changes from process to process
    return safetensors.torch.save(tensors, {"format": "pt"})


def program(network: nn.Module, config: Config) -> bytes:
    """The network in evaluation mode as a `torch.export` program, for batches of any size.

    `torch.export.load(FILE).module()` maps normalised images (N, C, H, W) float32 to logits
    (N, classes), and needs torch alone. What was written is read back and its answers compared with
    the network's. Raises NotPortable: a person's own attention may do what a graph cannot say, and
    a detector's answers are as many as it finds.
    """
    if detects(network):
        raise NotPortable("how many boxes a detector answers with depends on what it sees")
    data = describe(config)
    draw = torch.Generator().manual_seed(0)

    def images(count: int) -> torch.Tensor:
        shape = (count, data.channels, data.image_size, data.image_size)
        return torch.randn(shape, generator=draw)

    batch = torch.export.Dim("batch", min=1)
    buffer = io.BytesIO()
    try:
        graph = torch.export.export(
            copy.deepcopy(network), (images(2),), dynamic_shapes=({0: batch},)
        )
        for node in graph.graph.nodes:
            node.meta.pop("stack_trace", None)  # it tells where on whose disk our files lie
        torch.export.save(graph, buffer)
        read = torch.export.load(io.BytesIO(buffer.getvalue())).module()
        with torch.inference_mode():
            for count in BATCHES:
                asked = images(count)
                # the same operations in the same order: what differs is rounding, if anything
                torch.testing.assert_close(read(asked), network(asked), rtol=1e-4, atol=1e-5)
    except Exception as error:  # each of torch's passes has exceptions of its own
        said = str(error).strip().partition("\n")[0]
        raise NotPortable(f"{type(error).__name__}: {said}") from error
    return buffer.getvalue()
