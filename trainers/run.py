"""One network in training: its steps, its judgement, and the state that carries it over a restart.

`trainers.train` drives it epoch by epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from spaces.config import Config
from trainers import regions
from trainers.batches import Batches, Some, parted
from trainers.build import build
from trainers.data import Judge
from trainers.optim import optimizer, schedule
from trainers.seeds import derive
from trainers.tasks import task_of
from trainers.team import ALONE, Team

Metrics = dict[str, float]
State = dict[str, Any]
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


class Run:
    """All that changes while one network trains; `state` and `load` carry it over a restart.

    Order and augmentation follow from seed and epoch. Inside an epoch the position is its number of
    `done` steps, and what they have summed up; the global generators' states, dropout's, go along.
    """

    def __init__(
        self,
        config: Config,
        seed: int,
        device: torch.device,
        steps: int,
        judge: Judge = "val",
        team: Team = ALONE,
    ) -> None:
        chosen = config.training
        network = build(config, seed=seed)
        network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: AveragedModel | None = None
        if chosen.ema is not None:  # it only judges: its norms need nobody else's batches
            averaging = get_ema_multi_avg_fn(chosen.ema)
            self.average = AveragedModel(network, multi_avg_fn=averaging, use_buffers=True)
        self.team = team
        self.network = team.synchronised(network)
        if chosen.compile:  # the average, a copy from before, judges, which is eager anyway
            regions.compile_blocks(self.network)
        self.learning = team.joined(self.network)
        self.optimizer = optimizer(self.network, chosen)
        self.factor = schedule(chosen, steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=chosen.precision == "fp16")
        self.history: list[Metrics] = []
        self.task = task_of(config)
        self.training = chosen
        self.seed = seed
        self.steps = steps
        self.judge = judge
        self.device = device
        self.done = 0
        self._totals: Tensor | None = None
        self._drawn: list[Tensor] | None = None  # the generators' states; None: the epoch's seed
        self._seconds = 0.0  # of the epoch, before this process took it up
        self._began = 0.0
        self._stepping = 0.0  # seconds of the epoch's steps, without what `pause` does
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            self._generators.append(torch.cuda.default_generators[index])

    @property
    def epoch(self) -> int:
        """The epoch that is trained now, or next; from 1."""
        return len(self.history) + 1

    def advance(
        self, training: Batches, validation: Batches, pause: Callable[[], None] = lambda: None
    ) -> Metrics:
        """What is left of the epoch and its validation. Raises Diverged.

        `pause` is called after every step and every batch of the validation: between two of them
        `state` is whole, and what it raises passes through.
        """
        epoch = self.epoch
        self._began = time.perf_counter() - self._seconds
        compiled = self.training.compile
        with self._randomness():
            with regions.compiling(compiled):
                learnt = self._train(training, pause)
            with regions.eager(compiled):
                judged = self._validate(validation, pause)
        metrics = {
            "epoch": float(epoch),
            **{f"train_{name}": value for name, value in learnt.items()},
            **{f"{self.judge}_{name}": value for name, value in judged.items()},
            **self._best(judged),
            "lr": self.training.optimizer.lr * self.factor(epoch * self.steps - 1),
            "seconds": time.perf_counter() - self._began,
            "images_per_second": self.steps * self.training.batch_size / self._stepping,
        }
        if not all(map(math.isfinite, metrics.values())):
            raise Diverged(epoch, self.history[-1] if self.history else None)
        self.history.append(metrics)
        self.done, self._totals, self._drawn = 0, None, None
        self._seconds = self._stepping = 0.0
        return metrics

    def _best(self, judged: Metrics) -> Metrics:
        """The best figure so far of those that judge; of test images none is chosen by."""
        if self.judge == "test":
            return {}
        metric = self.task.metric
        past = (metrics[f"val_{metric}"] for metrics in self.history)
        return {f"best_val_{metric}": max([judged[metric], *past])}

    def _train(self, batches: Batches, pause: Callable[[], None]) -> Metrics:
        """The steps that are left; the figures stay on the device until their end."""
        self.network.train()
        first = (self.epoch - 1) * self.steps
        since = time.perf_counter()
        for images, targets in batches.shuffled(self.seed, self.epoch, self.done):
            for group in self.optimizer.param_groups:
                group["lr"] = self.training.optimizer.lr * self.factor(first + self.done)
            self._step(images, targets)
            self.done += 1
            self._stepping += time.perf_counter() - since
            pause()
            since = time.perf_counter()
        assert self._totals is not None, "open_batches promises a full batch"
        # a sum of squares is finite only where every weight is: one figure for all of them
        weights = nn.utils.get_total_norm(self.network.parameters()).double().reshape(1)
        *figures, norm = torch.cat([self.team.summed(self._totals), weights]).tolist()
        self._stepping += time.perf_counter() - since  # a GPU has been waited for
        if not math.isfinite(norm):
            raise Diverged(self.epoch, self.history[-1] if self.history else None)
        return self.task.metrics(figures)

    def _step(self, images: Some, targets: Some) -> None:
        """This process's share of a batch, in the parts that its gradient adds up from."""
        parts = self.training.accumulate
        pairs = zip(parted(images, parts), parted(targets, parts), strict=True)
        for number, (some, theirs) in enumerate(pairs, start=1):
            # the team's gradient is a mean over its processes
            weight = len(some) * self.team.size / self.training.batch_size
            with self.team.waiting(self.learning, last=number == parts):
                with self._precision():
                    loss, tally = self.task.learn(self.learning, some, theirs)
                self.scaler.scale(loss * weight).backward()
            self._totals = tally if self._totals is None else self._totals + tally
        if self.training.grad_clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.training.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.network)

    @torch.inference_mode()
    def _validate(self, batches: Batches, pause: Callable[[], None]) -> Metrics:
        """Every image that judges once, by the averaged weights where there are any."""
        network = self.network if self.average is None else self.average.module
        network.eval()
        judging = self.task.judge(self.team)
        for images, targets in batches.ordered():
            with self._precision():
                judging.see(network, images, targets)
            pause()
        return judging.metrics()

    def _precision(self) -> torch.autocast:
        dtype = PRECISIONS[self.training.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    @contextmanager
    def _randomness(self) -> Iterator[None]:
        """A block whose global random numbers (dropout's) follow from seed, epoch and position.

        They are restored afterwards.
        """
        before = torch.backends.cudnn.benchmark
        with torch.random.fork_rng(devices=[g.device.index for g in self._generators[1:]]):
            own = [self.team.rank] if self.team.rank else []
            for place, generator in enumerate(self._generators):
                # torch.manual_seed would move every other device's generator too
                if self._drawn is None:
                    generator.manual_seed(derive(self.seed, "network", self.epoch, *own))
                else:
                    generator.set_state(self._drawn[place])
            if self.device.type == "cuda":
                torch.backends.cudnn.benchmark = not torch.backends.cudnn.deterministic
            try:
                yield
            finally:
                torch.backends.cudnn.benchmark = before

    def state(self, key: str) -> State:
        """What a checkpoint holds, between epochs or in `pause`; `key` tells whose it is.

        All processes of a team ask for it, at the same place.
        """
        return {
            "key": key,
            "seed": self.seed,
            "history": self.history,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "open": self._open() if self.done else None,
        }

    def _open(self) -> State:
        """Where an epoch that is not over stands; what differs is told of each process."""
        assert self._totals is not None
        return {
            "done": self.done,
            "totals": self.team.gathered(self._totals.cpu()),
            "generators": self.team.gathered([each.get_state() for each in self._generators]),
            "seconds": time.perf_counter() - self._began,
            "stepping": self._stepping,
        }

    def load(self, state: State) -> None:
        """Go on from there, whosever it was."""
        self.history = list(state["history"])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if position := state.get("open"):  # earlier releases had none
            self.done = position["done"]
            totals = torch.stack(position["totals"])  # those of a larger team are added up
            self._totals = totals[self.team.rank :: self.team.size].sum(0).to(self.device)
            drawn = position["generators"]
            self._drawn = drawn[self.team.rank] if len(drawn) == self.team.size else None
            self._seconds = position["seconds"]
            self._stepping = position.get("stepping", self._seconds)  # older ones: none
