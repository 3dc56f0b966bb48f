"""Training as a generator: one dict of metrics per epoch, and the caller decides what is next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.distributed import ProcessGroup

from spaces.config import Config
from spaces.errors import VariantError
from trainers import checkpoint as checkpoints
from trainers import regions, toolchain
from trainers.batches import open_batches
from trainers.data import Judge, content, sources
from trainers.keys import run_key
from trainers.progress import Stored, foreign
from trainers.run import Metrics, Run
from trainers.tasks import task_of
from trainers.team import Team


class Left(Exception):
    """Training was asked to leave, and has: after `epoch` whole epochs and `step` steps more.

    Where there is a place for checkpoints, that is where it goes on from.
    """

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"left after {step} steps of epoch {epoch + 1}")
        self.epoch = epoch
        self.step = step

    def __reduce__(self) -> tuple[Any, ...]:
        return Left, (self.epoch, self.step)


def train(
    config: Config,
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    every: float = 600.0,
    keep: int = 2,
    judge: Judge = "val",
    leave: Callable[[], bool] = lambda: False,
    opened: Callable[[int, int], None] = lambda training, judging: None,
    group: ProcessGroup | None = None,
) -> Iterator[Metrics]:
    """Train the network of `config` and yield after each epoch what is known of it, all floats.

    epoch (from 1), train_loss and val_loss (nats per image), train_accuracy, val_accuracy and
    best_val_accuracy (0..1), lr (at the epoch's last step), seconds (the whole epoch, validation
    included), images_per_second (training alone). Where an average of the weights is kept (`ema`),
    the val_ figures are the average's. Training goes by whole batches: the images of a partial last
    one wait for the next epoch's order.

    With `judge` "test", which is for confirming what a search has chosen, the validation images are
    trained on too, and test_loss and test_accuracy, of the dataset's test part, stand in the place
    of the val_ figures; there is no best one.

    `seed` decides first weights, order, augmentation and dropout; nothing that ran before or runs
    between two epochs has a part in it, and PyTorch's global generators are left as they were.
    `device` None means CUDA where there is one.

    `checkpoint` is a folder, or an fsspec URI, of this run alone. The state is stored there at the
    end of each epoch, before its metrics are yielded, and within one whenever `every` seconds have
    gone by since; the last `keep` stay. `resume` goes on after the newest whole one, within an
    epoch where it was stored there (`history` tells the metrics up to it), and starts over where
    there is none. A store that is full or away costs a warning, not the run.

    `leave` is asked after every step: where it says yes, the state is stored and Left is raised.
    `opened` is told before the first how many images train and how many judge.

    With a `group` (see `trainers.team.Team`) its processes train one network together, each called
    with the same arguments and its share of every batch: to the figures of one process, but for
    the order of sums. Any one may leave, and all do; the first writes the checkpoints, which all
    must be able to read.

    Raises ValueError for settings that do not suit data or device (`fits` and `check_device` tell
    before), DatasetError for data missing or damaged, CheckpointError for another run's checkpoint,
    Diverged for a loss or weight that is not finite, in the epoch that it happens.
    torch.OutOfMemoryError passes through.
    """
    place = check_device(config, device)
    found = sources(config.dataset, judge)
    team = Team(group)
    training, validation = open_batches(config, place, found, team)
    opened(training.count, validation.count)
    run = Run(config, seed, place, training.count // config.training.batch_size, judge, team)
    stored = None
    if checkpoint is not None:
        key = run_key(config, content(found), judge)
        state = checkpoints.newest(checkpoint) if resume else None
        if state is not None:
            if said := foreign(state, key, seed):
                raise checkpoints.CheckpointError(said)
            run.load(state)
        if len(set(team.gathered((run.epoch, run.done)))) > 1:
            said = f"{checkpoint}: not every process of a trial sees the same checkpoints there"
            raise checkpoints.CheckpointError(said)
        stored = Stored(checkpoint, run, key, keep)
    since = time.monotonic()

    def pause() -> None:
        nonlocal since
        leaving, due = team.agreed(leave(), time.monotonic() - since >= every)
        if stored is not None and (leaving or due):
            stored.put()
            since = time.monotonic()
        if leaving:
            raise Left(run.epoch - 1, run.done)

    with regions.forgotten(config.training.compile):
        while run.epoch <= config.training.epochs:
            metrics = run.advance(training, validation, pause)
            if stored is not None:
                stored.put()
                since = time.monotonic()
            yield dict(metrics)


def check_device(config: Config, device: str | torch.device | None = None) -> torch.device:
    """The device that training would use in this process; None means CUDA where there is one.

    Raises VariantError, whose `key` is `device`, `training.precision` or `training.compile`, where
    it is not here, cannot train in the config's precision, or has nothing to compile with.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = ["cpu", *["cuda"][:count], *(f"cuda:{index}" for index in range(count))]
    chosen = str(device if device is not None else "cuda" if count else "cpu")
    if chosen not in here:
        said = "no CUDA here" if chosen.startswith("cuda") and not count else "no such device"
        raise VariantError(("device", f"{said} (got {chosen}; allowed {', '.join(here)})"))
    if config.training.precision == "fp16" and chosen == "cpu":
        raise VariantError(("training.precision", "needs CUDA (got fp16; allowed float32, bf16)"))
    if config.training.compile and (said := toolchain.lacking(chosen.partition(":")[0])):
        raise VariantError(("training.compile", f"{said} (got true; allowed: false)"))
    return torch.device(chosen)


def chance(config: Config) -> float:
    """What a network without knowledge would reach in the task's metric, 0..1."""
    return task_of(config).chance
