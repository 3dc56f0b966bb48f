"""Training as a generator: one dict of metrics per epoch, and the caller decides what is next."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from spaces.config import Config
from spaces.errors import VariantError
from trainers import checkpoint as checkpoints
from trainers import variants
from trainers.batches import Batches, open_batches
from trainers.build import build
from trainers.data import Judge, content, sources
from trainers.keys import run_key
from trainers.network import describe
from trainers.optim import optimizer, schedule
from trainers.seeds import derive
from trainers.tasks import Task

Metrics = dict[str, float]
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Diverged(RuntimeError):
    """Loss or weights are no longer finite.

    `epoch` is the epoch in which that was seen, `last` the metrics of the epoch before it, None
    in the first.
    """

    def __init__(self, epoch: int, last: Metrics | None) -> None:
        super().__init__(f"training diverged in epoch {epoch}: loss or weights are not finite")
        self.epoch = epoch
        self.last = last

    def __reduce__(self) -> tuple[Any, ...]:
        return Diverged, (self.epoch, self.last)


def train(
    config: Config,
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    every: int = 1,
    keep: int = 2,
    judge: Judge = "val",
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

    `checkpoint` is a folder, or an fsspec URI, of this run alone. Every `every` epochs and at the
    end the state is stored there, before the epoch's metrics are yielded; the last `keep` stay.
    `resume` goes on after the newest whole one (`history` tells the metrics up to there) and starts
    over where there is none. A store that is full or away costs a warning, not the run.

    Raises ValueError for settings that do not suit data or device (`fits` and `check_device` tell
    before), DatasetError for data missing or
    damaged, CheckpointError for another run's checkpoint, Diverged for a loss or weight that is not
    finite, in the epoch that it happens. torch.OutOfMemoryError passes through.
    """
    place = check_device(config, device)
    found = sources(config.dataset, judge)
    training, validation = open_batches(config, place, found)
    run = Run(config, seed, place, training.count // config.training.batch_size, judge)
    key = "" if checkpoint is None else run_key(config, content(found), judge)
    if checkpoint is not None and resume:
        run.load(checkpoints.newest(checkpoint), key)
    stale = set() if checkpoint is None else _later(checkpoint, len(run.history))
    for epoch in range(len(run.history) + 1, config.training.epochs + 1):
        with _randomness(derive(seed, "network", epoch), place):
            metrics = run.advance(epoch, training, validation)
        if checkpoint is not None and (epoch % every == 0 or epoch == config.training.epochs):
            _save(checkpoint, epoch, run.state(key), keep, stale)
        yield dict(metrics)


def check_device(config: Config, device: str | torch.device | None = None) -> torch.device:
    """The device that training would use in this process; None means CUDA where there is one.

    Raises VariantError, whose `key` is `device` or `training.precision`, where it is not here or
    cannot train in the config's precision.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = ["cpu", *["cuda"][:count], *(f"cuda:{index}" for index in range(count))]
    chosen = str(device if device is not None else "cuda" if count else "cpu")
    if chosen not in here:
        said = "no CUDA here" if chosen.startswith("cuda") and not count else "no such device"
        raise VariantError(("device", f"{said} (got {chosen}; allowed {', '.join(here)})"))
    if config.training.precision == "fp16" and chosen == "cpu":
        raise VariantError(("training.precision", "needs CUDA (got fp16; allowed float32, bf16)"))
    return torch.device(chosen)


def history(
    checkpoint: str | Path,
    config: Config | None = None,
    *,
    seed: int = 0,
    judge: Judge = "val",
) -> list[Metrics]:
    """The metrics of every epoch up to the newest whole checkpoint; empty without one.

    With `config` its own, trained with `seed` on the data that is there now and judged by `judge`:
    for another run's checkpoint the answer is empty, with a warning. Raises DatasetError then for
    data that is not.
    """
    state = checkpoints.newest(checkpoint)
    if state is None:
        return []
    if config is not None:
        key = run_key(config, content(sources(config.dataset, judge)), judge)
        if said := _foreign(state, key, seed):
            warnings.warn(f"{checkpoint}: {said}; it is passed over", RuntimeWarning, stacklevel=2)
            return []
    return list(state["history"])


def chance(config: Config) -> float:
    """The accuracy that a network without knowledge would reach, 0..1."""
    return _task(config).chance


class Run:
    """All that changes while one network trains; `state` and `load` carry it over a restart.

    No generator's state is among it: order, augmentation and dropout follow from seed and epoch.
    """

    def __init__(
        self,
        config: Config,
        seed: int,
        device: torch.device,
        steps: int,
        judge: Judge = "val",
    ) -> None:
        chosen = config.training
        network = build(config, seed=seed)
        self.network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = optimizer(self.network, chosen)
        self.factor = schedule(chosen, steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=chosen.precision == "fp16")
        self.average: AveragedModel | None = None
        if chosen.ema is not None:
            averaging = get_ema_multi_avg_fn(chosen.ema)
            self.average = AveragedModel(self.network, multi_avg_fn=averaging, use_buffers=True)
        self.history: list[Metrics] = []
        self.task = _task(config)
        self.training = chosen
        self.seed = seed
        self.steps = steps
        self.judge = judge
        self.device = device

    def advance(self, epoch: int, training: Batches, validation: Batches) -> Metrics:
        """One epoch of training and its validation. Raises Diverged."""
        started = time.perf_counter()
        learnt = self._train(epoch, training)
        trained = time.perf_counter()
        judged = self._validate(validation)
        metrics = {
            "epoch": float(epoch),
            **{f"train_{name}": value for name, value in learnt.items()},
            **{f"{self.judge}_{name}": value for name, value in judged.items()},
            **self._best(judged),
            "lr": self.training.optimizer.lr * self.factor(epoch * self.steps - 1),
            "seconds": time.perf_counter() - started,
            "images_per_second": self.steps * self.training.batch_size / (trained - started),
        }
        if not all(map(math.isfinite, metrics.values())):
            raise Diverged(epoch, self.history[-1] if self.history else None)
        self.history.append(metrics)
        return metrics

    def _best(self, judged: Metrics) -> Metrics:
        """The best accuracy so far; of test images none is chosen by."""
        if self.judge == "test":
            return {}
        past = (metrics["val_accuracy"] for metrics in self.history)
        return {"best_val_accuracy": max([judged["accuracy"], *past])}

    def _train(self, epoch: int, batches: Batches) -> Metrics:
        """All steps of an epoch; the figures stay on the device until its end."""
        self.network.train()
        totals: Tensor | None = None
        first = (epoch - 1) * self.steps
        for step, (images, labels) in enumerate(batches.shuffled(self.seed, epoch), first):
            for group in self.optimizer.param_groups:
                group["lr"] = self.training.optimizer.lr * self.factor(step)
            parts = self.training.accumulate
            for some, theirs in zip(
                images.tensor_split(parts), labels.tensor_split(parts), strict=True
            ):
                with self._precision():
                    outputs = self.network(some)
                    loss = self.task.loss(outputs, theirs) * (len(some) / len(images))
                self.scaler.scale(loss).backward()
                tally = self.task.tally(outputs.detach(), theirs)
                totals = tally if totals is None else totals + tally
            if self.training.grad_clip is not None:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.network.parameters(), self.training.grad_clip)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            if self.average is not None:
                self.average.update_parameters(self.network)
        assert totals is not None, "open_batches promises a full batch"
        # a sum of squares is finite only where every weight is: one figure for all of them
        weights = nn.utils.get_total_norm(self.network.parameters()).double().reshape(1)
        *figures, norm = torch.cat([totals, weights]).tolist()
        if not math.isfinite(norm):
            raise Diverged(epoch, self.history[-1] if self.history else None)
        return self.task.metrics(figures)

    @torch.inference_mode()
    def _validate(self, batches: Batches) -> Metrics:
        """Every image that judges once, by the averaged weights where there are any."""
        network = self.network if self.average is None else self.average.module
        network.eval()
        with self._precision():
            tallies = [
                self.task.tally(network(images), labels) for images, labels in batches.ordered()
            ]
        return self.task.metrics(torch.stack(tallies).sum(0).tolist())

    def _precision(self) -> torch.autocast:
        dtype = PRECISIONS[self.training.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def state(self, key: str) -> dict[str, Any]:
        """What a checkpoint holds; `key` tells whose it is."""
        return {
            "key": key,
            "seed": self.seed,
            "history": self.history,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load(self, state: dict[str, Any] | None, key: str) -> None:
        """Go on from `state`, if there is one. Raises CheckpointError where it is another run's."""
        if state is None:
            return
        if said := _foreign(state, key, self.seed):
            raise checkpoints.CheckpointError(said)
        self.history = list(state["history"])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def _task(config: Config) -> Task:
    make = variants.load("task", config.task.name)
    smoothing = config.training.label_smoothing
    task: Task = make(describe(config).classes, smoothing, **config.task.params)
    return task


@contextmanager
def _randomness(seed: int, device: torch.device) -> Iterator[None]:
    """A block whose global random numbers (dropout's) follow from `seed`; restored afterwards."""
    cuda = device.type == "cuda"
    index = (torch.cuda.current_device() if device.index is None else device.index) if cuda else 0
    before = torch.backends.cudnn.benchmark
    with torch.random.fork_rng(devices=[index] if cuda else []):
        # torch.manual_seed would move every other device's generator too
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
            torch.backends.cudnn.benchmark = not torch.backends.cudnn.deterministic
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = before


def _foreign(state: dict[str, Any], key: str, seed: int) -> str:
    """What makes a checkpoint another run's; empty where it is the run's own."""
    if (state["key"], state["seed"]) == (key, seed):
        return ""
    return (
        f"this checkpoint is another run's (got run key {state['key']} with seed "
        f"{state['seed']}; allowed {key} with seed {seed})"
    )


def _name(epoch: int) -> str:
    return f"epoch-{epoch:05d}"


def _later(location: str | Path, epoch: int) -> set[str]:
    """Checkpoints of epochs after that one, when a run begins: damaged ones, or another run's."""
    try:
        return {key for key in checkpoints.keys(location) if key > _name(epoch)}
    except Exception:  # it is away: `_save` says so
        return set()


def _save(
    location: str | Path, epoch: int, state: dict[str, Any], keep: int, stale: set[str]
) -> None:
    """Store an epoch's state, drop older ones and, once, what was `stale` when the run began.

    Later ones that came since are left alone: a successor of ours, who was given the run while we
    were out of reach, is further than we are. A store that fails costs a warning.
    """
    try:
        checkpoints.put(location, _name(epoch), state)
        stale.discard(_name(epoch))
        for key in sorted(stale):
            checkpoints.remove(location, key)
            stale.discard(key)
        checkpoints.keep(location, keep)
    except MemoryError:
        raise
    except Exception as error:  # every file system has errors of its own; none is the run's
        warnings.warn(f"{location}: no checkpoint of epoch {epoch} ({error})", stacklevel=2)
