"""Images out of worker processes, batch by batch, and which of them a process judges by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from trainers.datasets import DatasetError
from trainers.team import Team


def loaded(
    images: torch.utils.data.Dataset[Any],
    order: list[Tensor],
    workers: int,
    device: torch.device,
    **how: Any,
) -> Iterator[Any]:
    """The batches of `order` as `workers` processes have decoded them. Raises their DatasetError.

    `how` is said to PyTorch's DataLoader.
    """
    loader: Any = torch.utils.data.DataLoader(
        images,
        batch_sampler=[index.tolist() for index in order],
        num_workers=workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # the global one is not ours to advance
        **how,
    )
    try:
        yield from loader
    except DatasetError as error:
        # a worker's exception arrives with its traceback as text
        raise DatasetError(str(error).rpartition("DatasetError: ")[2].strip()) from None


def judged(count: int, batch_size: int, team: Team) -> list[Tensor]:
    """Places of the images that this process judges by, batch by batch.

    Every process has as many batches as any other, and no empty one.
    """
    places = torch.arange(count)
    if team.size == 1:
        return list(places.split(batch_size))
    batches = min(-(-count // batch_size), count // team.size)
    return [team.share(batch) for batch in places.tensor_split(batches)]
