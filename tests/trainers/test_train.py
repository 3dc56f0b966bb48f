"""Training: the figures it yields, what decides them, how it stops."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import subprocess
import sys
import warnings
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from torch import nn

import trainers
from spaces.config import Config
from trainers import checkpoint
from trainers.batches import open_batches
from trainers.data import sources
from trainers.progress import history
from trainers.run import Run

TIMES = {"seconds", "images_per_second"}


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECA_SEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums over several threads differ in the last bit
        yield
        torch.set_num_threads(threads)


def tiny(**training: Any) -> Config:
    """ResNet-8 at an eighth of its width on 300 digits: an epoch is some 20 ms."""
    backbone = training.pop("backbone", {"name": "resnet", "depth": 8, "width": 0.25})
    dataset = training.pop("dataset", {"name": "digits", "subset": 300})
    attention = training.pop("attention", {"name": "eca"})
    recipe = {
        "epochs": 4,
        "batch_size": 64,
        "optimizer": {"name": "sgd", "lr": 0.1},
        "augmentation": {"flip": True, "crop": 1, "cutout": 3},
    }
    return Config.model_validate(
        {
            "name": "tiny",
            "dataset": dataset,
            "backbone": backbone,
            "attention": attention,
            "training": recipe | training,
        }
    )


def timeless(epochs: list[dict[str, float]]) -> list[dict[str, float]]:
    """The metrics without those that a clock makes."""
    return [{k: v for k, v in epoch.items() if k not in TIMES} for epoch in epochs]


def test_yields_one_dict_of_floats_per_epoch() -> None:
    """Every epoch gives the promised names, all finite floats, epochs counted from 1."""
    epochs = list(trainers.train(tiny(epochs=2)))
    assert [epoch["epoch"] for epoch in epochs] == [1.0, 2.0]
    for epoch in epochs:
        assert set(epoch) == TIMES | {
            *("epoch", "lr", "train_loss", "train_accuracy"),
            *("val_loss", "val_accuracy", "best_val_accuracy"),
        }
        assert all(type(value) is float and math.isfinite(value) for value in epoch.values())


def test_learns_the_digits() -> None:
    """A small network is far above chance on real digits within five epochs, and says the best."""
    config = tiny(epochs=5, batch_size=32, dataset={"name": "digits"}, augmentation={})
    epochs = list(trainers.train(config))
    # seen: 0.97; chance is 0.1, and 0.8 leaves room for other rounding
    assert epochs[-1]["val_accuracy"] > 0.8
    assert epochs[-1]["best_val_accuracy"] == max(epoch["val_accuracy"] for epoch in epochs)


RESUMED = {
    "sgd": {},
    "nesterov and step": {
        "optimizer": {"name": "sgd", "lr": 0.1, "nesterov": True},
        "schedule": {"name": "step", "step_size": 2},
    },
    "everything": {
        "optimizer": {"name": "adamw", "lr": 0.01},
        "schedule": {"name": "one_cycle"},
        "ema": 0.9,
        "grad_clip": 1.0,
        "label_smoothing": 0.1,
    },
    "bf16": {"precision": "bf16", "ema": 0.9},
    "dropout": {
        "backbone": {"name": "mobilenetv2", "width": 0.25},
        "attention": {"name": "se"},
        "dataset": {"name": "digits", "subset": 150, "image_size": 16},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "schedule": {"name": "one_cycle"},
        "ema": 0.9,
    },
}


@pytest.mark.parametrize("recipe", RESUMED.values(), ids=RESUMED.keys())
def test_resume_is_exact(recipe: dict[str, Any], tmp_path: Path) -> None:
    """Four epochs straight equal two, a restart and two more, bit for bit: metrics and weights."""
    config = tiny(**recipe)
    straight = list(trainers.train(config, seed=3, checkpoint=tmp_path / "straight"))
    first = list(islice(trainers.train(config, seed=3, checkpoint=tmp_path / "halves"), 2))
    torch.manual_seed(99)  # whatever happens between must not matter
    second = list(trainers.train(config, seed=3, checkpoint=tmp_path / "halves", resume=True))
    assert timeless(straight) == timeless(first + second)
    assert timeless(history(tmp_path / "halves")) == timeless(straight)

    def names(folder: str) -> dict[str, Any]:
        state = checkpoint.newest(tmp_path / folder)
        assert state is not None
        return state

    one, other = names("straight"), names("halves")
    for part in ("network", "average"):
        assert (one[part] is None) == (other[part] is None)
        for name, value in (one[part] or {}).items():
            assert torch.equal(value, other[part][name]), name


@pytest.mark.parametrize("recipe", RESUMED.values(), ids=RESUMED.keys())
def test_a_run_that_left_within_an_epoch_goes_on_exactly(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    """Asked to leave after a step of the second epoch, then resumed: bit for bit as undisturbed.

    The averages over that epoch among it, and what the third epoch makes of its state.
    """
    config = tiny(**{"epochs": 3, "batch_size": 40} | recipe)  # of 270 images, or 135: 6 steps or 3
    straight = list(trainers.train(config, seed=3, checkpoint=tmp_path / "straight"))
    step = 2
    asked = iter([False, True])
    seen: list[dict[str, float]] = []

    def leave() -> bool:
        return bool(seen) and next(asked)

    place = f"memory://{tmp_path.name}"
    with pytest.raises(trainers.Left) as left:
        seen.extend(trainers.train(config, seed=3, checkpoint=place, leave=leave))
    assert (left.value.epoch, left.value.step) == (1, step)
    assert checkpoint.keys(place)[-1] == f"epoch-00001-step-{step:07d}"
    torch.manual_seed(99)  # whatever happens between must not matter
    rest = list(trainers.train(config, seed=3, checkpoint=place, resume=True))
    assert timeless(straight) == timeless(seen + rest)
    one, other = checkpoint.newest(tmp_path / "straight"), checkpoint.newest(place)
    assert one is not None
    assert other is not None
    for part in ("network", "average"):
        for name, value in (one[part] or {}).items():
            assert torch.equal(value, other[part][name]), name


def test_a_run_that_left_while_it_was_judged_goes_on_exactly(tmp_path: Path) -> None:
    """Its steps are not made again: the epoch's validation alone is."""
    config = tiny(epochs=2)  # 4 steps, then 30 images to judge by
    asked = iter([False] * 4 + [True])
    with pytest.raises(trainers.Left) as left:
        next(trainers.train(config, checkpoint=tmp_path, leave=lambda: next(asked)))
    assert (left.value.epoch, left.value.step) == (0, 4)
    assert trainers.begun(tmp_path, config) == []
    rest = list(trainers.train(config, checkpoint=tmp_path, resume=True))
    assert timeless(rest) == timeless(list(trainers.train(config)))


def test_images_per_second_are_of_the_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which a step takes one second, and what is done between two a hundred."""
    now = 0.0

    def passes(seconds: float) -> None:
        nonlocal now
        now += seconds

    def step(run: Run, *batch: torch.Tensor) -> None:
        stepped(run, *batch)
        passes(1)

    stepped = Run._step
    monkeypatch.setattr(Run, "_step", step)
    monkeypatch.setattr("trainers.run.time.perf_counter", lambda: now)
    config = tiny()
    training, judging = open_batches(config, torch.device("cpu"))
    steps = training.count // config.training.batch_size
    run = Run(config, 0, torch.device("cpu"), steps)
    states = []

    def pause() -> None:
        states.append(copy.deepcopy(run.state("key")))
        passes(100)

    metrics = run.advance(training, judging, pause)
    assert metrics["images_per_second"] == config.training.batch_size
    assert metrics["seconds"] == steps + 100 * len(states)
    for state in (states[0], states[-1]):  # after the first step, and within the validation
        resumed = Run(config, 0, torch.device("cpu"), steps)
        resumed.load(state)
        again = resumed.advance(training, judging, lambda: passes(100))
        assert again["images_per_second"] == config.training.batch_size


def test_a_damaged_state_within_an_epoch_costs_its_steps(tmp_path: Path) -> None:
    """The one before it is gone on from, to the same numbers."""
    config = tiny(epochs=2)
    asked = iter([False] * 8 + [True])  # 4 steps, a batch judged, 4 steps
    with pytest.raises(trainers.Left):
        for _ in trainers.train(config, checkpoint=tmp_path, every=1e-9, leave=lambda: next(asked)):
            pass
    *_, newest = sorted(tmp_path.glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(RuntimeWarning, match="epoch-00001-step-0000004 is damaged"):
        rest = list(trainers.train(config, checkpoint=tmp_path, resume=True))
    assert timeless(rest) == timeless(list(trainers.train(config))[1:])


def test_left_crosses_processes() -> None:
    """The exception survives pickling."""
    came = pickle.loads(pickle.dumps(trainers.Left(3, 17)))
    assert (came.epoch, came.step) == (3, 17)


def test_dropout_is_really_on() -> None:
    """The network of the exact-resume test with dropout does draw global random numbers."""
    net = trainers.build(tiny(**RESUMED["dropout"]))
    assert any(isinstance(m, nn.Dropout) and m.p > 0 for m in net.modules())


def test_resume_of_a_finished_run_yields_nothing(tmp_path: Path) -> None:
    """When the last epoch is stored, resuming trains no more."""
    config = tiny(epochs=2)
    list(trainers.train(config, checkpoint=tmp_path))
    assert list(trainers.train(config, checkpoint=tmp_path, resume=True)) == []


def test_resume_from_nothing_starts_over(tmp_path: Path) -> None:
    """Without a checkpoint, resume trains from the first epoch."""
    epochs = trainers.train(tiny(epochs=1), checkpoint=tmp_path / "none", resume=True)
    assert [epoch["epoch"] for epoch in epochs] == [1.0]


def test_resume_falls_back_to_the_checkpoint_before(tmp_path: Path) -> None:
    """A damaged newest checkpoint costs its epochs and a warning, not the run or its numbers."""
    config = tiny()
    straight = list(trainers.train(config))
    list(islice(trainers.train(config, checkpoint=tmp_path), 3))
    (newest,) = tmp_path.glob("epoch-00003.*")
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(RuntimeWarning, match="epoch-00003 is damaged"):
        rest = list(trainers.train(config, checkpoint=tmp_path, resume=True))
    assert timeless(rest) == timeless(straight[2:])


@pytest.mark.parametrize("change", [{"seed": 1}, {"training": {"epochs": 5}}])
def test_resume_refuses_another_run(tmp_path: Path, change: dict[str, Any]) -> None:
    """The checkpoint of another seed or another recipe is not gone on from."""
    list(islice(trainers.train(tiny(), checkpoint=tmp_path), 1))
    with pytest.raises(checkpoint.CheckpointError, match="another run's"):
        next(
            trainers.train(
                tiny(**change.get("training", {})),
                seed=change.get("seed", 0),
                checkpoint=tmp_path,
                resume=True,
            )
        )


def test_checkpoints_are_kept_as_asked(tmp_path: Path) -> None:
    """One at the end of every epoch; the last few are kept."""
    list(trainers.train(tiny(epochs=5), checkpoint=tmp_path, keep=2))
    assert checkpoint.keys(tmp_path) == ["epoch-00004", "epoch-00005"]


def test_checkpoints_follow_the_clock_within_an_epoch(tmp_path: Path) -> None:
    """After `every` seconds the state is stored, whatever the step; also while it is validated."""
    config = tiny(epochs=2, batch_size=32)  # of 270 images: 8 steps
    often, seldom = tmp_path / "often", tmp_path / "seldom"
    next(trainers.train(config, checkpoint=often, every=1e-9, keep=100))
    next(trainers.train(config, checkpoint=seldom, every=1e9, keep=100))
    steps = [f"epoch-00000-step-{step:07d}" for step in range(1, 9)]
    assert checkpoint.keys(often) == [*steps, "epoch-00001"]
    assert checkpoint.keys(seldom) == ["epoch-00001"]


def test_starting_over_replaces_the_old_checkpoints(tmp_path: Path) -> None:
    """A run started over in the folder of a longer one leaves none of the longer one's behind."""
    list(trainers.train(tiny(epochs=4), checkpoint=tmp_path))
    list(islice(trainers.train(tiny(epochs=4), checkpoint=tmp_path), 1))
    assert checkpoint.keys(tmp_path) == ["epoch-00001"]


def test_a_straggler_leaves_its_successors_checkpoints_alone(tmp_path: Path) -> None:
    """A run that goes on out of reach, while another has taken it up, takes nothing from that."""
    config = tiny(epochs=8)
    straggler = trainers.train(config, checkpoint=tmp_path)
    list(islice(straggler, 4))
    successor = trainers.train(config, checkpoint=tmp_path, resume=True)
    assert [epoch["epoch"] for epoch in islice(successor, 3)] == [5.0, 6.0, 7.0]
    assert next(straggler)["epoch"] == 5.0
    assert checkpoint.keys(tmp_path) == ["epoch-00006", "epoch-00007"]
    assert len(history(tmp_path)) == 7


def test_history_is_of_the_run_that_is_meant(tmp_path: Path) -> None:
    """Another seed's, recipe's or dataset's epochs are not told as this run's."""
    config = tiny(epochs=1)
    own = list(trainers.train(config, seed=1, checkpoint=tmp_path))
    assert history(tmp_path, config, seed=1) == history(tmp_path) == own
    for other, seed in (
        (config, 0),
        (tiny(epochs=2), 1),
        (tiny(epochs=1, dataset={"name": "digits", "subset": 200}), 1),
    ):
        with pytest.warns(RuntimeWarning, match="another run's"):
            assert history(tmp_path, other, seed=seed) == []


class Away(MemoryFileSystem):
    """A store whose errors are no OSErrors, as those of some clouds are."""

    protocol = "away"
    store: ClassVar[dict[str, Any]] = {}

    def _open(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("Could not connect to the endpoint URL")


def test_a_store_with_errors_of_its_own_costs_a_warning() -> None:
    """Whatever a file system raises for a checkpoint, training goes on as if there were none."""
    fsspec.register_implementation("away", Away, clobber=True)
    config = tiny(epochs=2)
    with pytest.warns(UserWarning, match="no checkpoint of epoch 1 .Could not connect"):
        epochs = list(trainers.train(config, checkpoint="away://bucket/run"))
    assert timeless(epochs) == timeless(list(trainers.train(config)))


def test_a_full_disk_costs_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes on when a checkpoint cannot be written, and the one before stays whole."""
    config = tiny(epochs=3)
    run = trainers.train(config, checkpoint=tmp_path)
    first = next(run)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.warns(UserWarning, match="No space left"):
        rest = list(run)
    monkeypatch.undo()
    assert timeless([first, *rest]) == timeless(list(trainers.train(config)))
    assert checkpoint.keys(tmp_path) == ["epoch-00001"]
    assert len(history(tmp_path)) == 1


def test_the_seed_alone_decides() -> None:
    """Equal seeds give equal figures whatever ran before; another seed gives others."""
    config = tiny(epochs=2, **{k: v for k, v in RESUMED["dropout"].items() if k != "schedule"})
    first = list(trainers.train(config, seed=5))
    torch.rand(7)
    list(trainers.train(tiny(epochs=1), seed=1))
    again = []
    for epoch in trainers.train(config, seed=5):
        again.append(epoch)
        torch.manual_seed(0)
    assert timeless(first) == timeless(again)
    assert timeless(first) != timeless(list(trainers.train(config, seed=6)))


def test_global_generators_are_left_alone() -> None:
    """Training advances none of the generators that a caller may be drawing from."""
    before, numbers = torch.get_rng_state(), np.random.get_state()[1]
    list(trainers.train(tiny(epochs=1, **RESUMED["dropout"])))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numbers)


def test_an_epoch_goes_by_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of a partial last batch are left to the next epoch's order."""
    sizes: list[int] = []
    forward = nn.Module.__call__

    def counting(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self.training and type(self).__name__ == "Conv2d" and args[0].shape[1] == 1:
            sizes.append(len(args[0]))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "__call__", counting)
    config = tiny(epochs=1, batch_size=67, dataset={"name": "digits", "subset": 300, "val": 0.1})
    list(trainers.train(config))
    assert sizes == [67, 67, 67, 67]  # of 270 training images


def test_a_batch_as_large_as_the_set_trains() -> None:
    """One batch per epoch is a legal extreme."""
    config = tiny(epochs=1, batch_size=270)
    assert len(list(trainers.train(config))) == 1


def test_a_batch_larger_than_the_set_is_refused() -> None:
    """Before the first epoch, by name, with what was got and what is allowed."""
    with pytest.raises(ValueError, match=r"training\.batch_size: .*got 271; allowed: at most 270"):
        next(trainers.train(tiny(batch_size=271)))


def test_divergence_stops_the_run_with_its_last_metrics() -> None:
    """A learning rate beyond all reason is noticed within the epoch, the last figures kept."""
    config = tiny(optimizer={"name": "sgd", "lr": 100.0}, schedule={"name": "constant"}, epochs=40)
    seen: list[dict[str, float]] = []
    with pytest.raises(trainers.Diverged) as stopped:
        seen.extend(trainers.train(config, seed=0))
    assert stopped.value.epoch == len(seen) + 1
    assert stopped.value.last == (seen[-1] if seen else None)
    assert all(math.isfinite(value) for epoch in seen for value in epoch.values())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_divergence(bad: float) -> None:
    """Weights are looked at too: a loss may stay finite for a while."""
    run = trainers.train(tiny(epochs=2))
    metrics = next(run)
    state: Run = run.gi_frame.f_locals["run"]
    with torch.no_grad():
        state.optimizer.param_groups[0]["params"][-1].fill_(bad)
    with pytest.raises(trainers.Diverged) as stopped:
        next(run)
    assert (stopped.value.epoch, stopped.value.last) == (2, metrics)


def test_running_out_of_memory_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.OutOfMemoryError reaches the caller as it is."""

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    run = trainers.train(tiny())
    next(run)
    monkeypatch.setattr(torch.optim.SGD, "step", full)
    with pytest.raises(torch.OutOfMemoryError):
        next(run)


def test_validation_is_of_the_averaged_weights(tmp_path: Path) -> None:
    """With ema the val_ figures are those of the averaged weights and batch statistics."""
    config = tiny(epochs=1, ema=0.9)
    (metrics,) = trainers.train(config, checkpoint=tmp_path)
    state = checkpoint.newest(tmp_path)
    assert state is not None
    averaged = {k.removeprefix("module."): v for k, v in state["average"].items()}
    averaged.pop("n_averaged")
    assert any(not torch.equal(averaged[k], v) for k, v in state["network"].items())
    assert any("running_mean" in name for name in averaged)
    net = trainers.build(config).to(memory_format=torch.channels_last)
    net.load_state_dict(averaged)
    _, validation = open_batches(config, torch.device("cpu"))
    net.eval()
    with torch.no_grad():
        hits = [(net(x).argmax(1) == y).sum().item() for x, y in validation.ordered()]
    assert sum(hits) / validation.count == metrics["val_accuracy"]


def test_average_follows_its_formula(tmp_path: Path) -> None:
    """One parameter's average, step by step: first copied, then decay * old + (1 - decay) * new."""
    config = tiny(epochs=1, ema=0.75, batch_size=135)  # two steps
    seen: list[torch.Tensor] = []
    step = torch.optim.SGD.step

    def watching(self: torch.optim.SGD, *args: Any) -> Any:
        result = step(self, *args)
        seen.append(self.param_groups[0]["params"][0].detach().clone())
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", watching)
        list(trainers.train(config, checkpoint=tmp_path))
    state = checkpoint.newest(tmp_path)
    assert state is not None
    name = next(iter(state["network"]))
    expected = 0.75 * seen[0] + 0.25 * seen[1]
    # two roundings of float32
    torch.testing.assert_close(state["average"][f"module.{name}"], expected, rtol=1e-6, atol=1e-7)


def test_gradients_are_clipped() -> None:
    """No step's gradient norm exceeds grad_clip."""
    norms: list[float] = []
    step = torch.optim.SGD.step

    def watching(self: torch.optim.SGD, *args: Any) -> Any:
        grads = [p.grad for p in self.param_groups[0]["params"] if p.grad is not None]
        norms.append(nn.utils.get_total_norm(grads).item())
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", watching)
        list(trainers.train(tiny(epochs=1, grad_clip=0.01)))
    assert norms
    assert max(norms) < 0.01 * (1 + 1e-4)  # float32 sums


def test_images_are_channels_last() -> None:
    """Batches come laid out as the fast kernels want them."""
    training, _ = open_batches(tiny(), torch.device("cpu"))
    images, _ = next(training.shuffled(0, 1))
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_float16_is_refused_on_the_cpu() -> None:
    """By name, with what is allowed."""
    with pytest.raises(ValueError, match=r"training\.precision: .*got fp16; allowed float32, bf16"):
        next(trainers.train(tiny(precision="fp16"), device="cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_an_absent_device_is_refused() -> None:
    """Asking for CUDA where there is none is said in a line."""
    with pytest.raises(ValueError, match=r"device: no CUDA here \(got cuda"):
        next(trainers.train(tiny(), device="cuda"))


def test_the_rate_reported_is_the_last_steps() -> None:
    """The lr of an epoch is the one its last step was made with."""
    config = tiny(epochs=2, schedule={"name": "cosine", "warmup_epochs": 1})
    first, second = trainers.train(config)
    assert first["lr"] == 0.1  # the warm-up's last step is at the full rate
    assert second["lr"] == pytest.approx(0.1 * (1 + math.cos(math.pi * 3 / 4)) / 2)


def test_chance_is_one_class_in_all() -> None:
    """Ten classes: a tenth."""
    assert trainers.chance(tiny()) == 0.1


def test_attention_arms_see_the_same_first_batch() -> None:
    """Order, augmentation and split do not depend on the network that is trained."""
    arms = [tiny(attention={"name": name}) for name in ("none", "eca", "se")]
    batches = [next(open_batches(arm, torch.device("cpu"))[0].shuffled(4, 2)) for arm in arms]
    for images, labels in batches[1:]:
        assert torch.equal(images, batches[0][0])
        assert torch.equal(labels, batches[0][1])


def test_no_warning_in_a_plain_run() -> None:
    """A plain run on the CPU is silent, also under -W error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(trainers.train(tiny(epochs=1, ema=0.9, precision="bf16")))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_trains_on_cuda(precision: str, tmp_path: Path) -> None:
    """Every precision learns on a GPU and resumes there to the same accuracy within noise."""
    config = tiny(epochs=4, precision=precision, ema=0.5, dataset={"name": "digits"})
    straight = list(trainers.train(config, device="cuda"))
    list(islice(trainers.train(config, device="cuda", checkpoint=tmp_path), 2))
    rest = list(trainers.train(config, device="cuda", checkpoint=tmp_path, resume=True))
    # cuDNN may choose other algorithms, and bf16 carries three digits
    assert rest[-1]["val_accuracy"] == pytest.approx(straight[-1]["val_accuracy"], abs=0.1)
    assert straight[-1]["val_accuracy"] > 0.3


ELSEWHERE = """
import json, random, sys, torch
from spaces.config import Config
import trainers
torch.manual_seed(random.randrange(1000))
torch.set_num_threads(1)
config = Config.model_validate_json(sys.argv[1])
print(json.dumps(list(trainers.train(config, seed=2))))
"""


def test_another_process_gives_the_same_figures() -> None:
    """Which process trains a network, and with which hash seed, does not matter: bit for bit."""
    config = tiny(epochs=2, **RESUMED["everything"])
    command = [sys.executable, "-c", ELSEWHERE, config.model_dump_json()]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    there = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    here = list(trainers.train(config, seed=2))
    assert timeless(json.loads(there.stdout)) == timeless(here)


def test_divergence_crosses_processes() -> None:
    """The exception survives pickling, as between a worker and its driver."""
    came = pickle.loads(pickle.dumps(trainers.Diverged(3, {"val_accuracy": 0.5})))
    assert (came.epoch, came.last) == (3, {"val_accuracy": 0.5})
    assert str(came) == str(trainers.Diverged(3, None))


def test_parts_of_a_batch_add_up_to_its_gradient() -> None:
    """Without batch norm's view of a part, accumulated gradients are the whole batch's."""

    def first_step(**training: Any) -> list[torch.Tensor]:
        seen: list[torch.Tensor] = []

        def watching(self: torch.optim.SGD, *args: Any) -> None:
            if not seen:
                seen.extend(p.grad.clone() for p in self.param_groups[0]["params"])

        with pytest.MonkeyPatch.context() as patch:
            # in eval mode batch norm uses its running figures: a part is then like the whole
            patch.setattr(
                nn.BatchNorm2d, "train", lambda self, mode=True: nn.Module.train(self, False)
            )
            patch.setattr(torch.optim.SGD, "step", watching)
            list(trainers.train(tiny(epochs=1, batch_size=50, **training)))
        return seen

    whole, parts = first_step(), first_step(accumulate=4)  # 13, 13, 12, 12 images
    # sums in another order, in float32
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-5)


def test_epochs_of_parts_are_epochs_of_whole_batches() -> None:
    """Without batch norm's view of a part, schedule, clipping and averaging see whole batches.

    Under SGD: Adam divides by gradients' size, and would make rounding of tiny ones visible.
    """
    recipe: dict[str, Any] = {"ema": 0.9, "grad_clip": 1.0, "label_smoothing": 0.1}

    def trained(**parts: int) -> list[dict[str, float]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                nn.BatchNorm2d, "train", lambda self, mode=True: nn.Module.train(self, False)
            )
            return timeless(list(trainers.train(tiny(epochs=3, batch_size=50, **recipe, **parts))))

    whole = trained()
    for parts in (2, 7, 25):  # 25: two images each
        for one, other in zip(whole, trained(accumulate=parts), strict=True):
            # sums in another order, in float32, over 15 steps; an accuracy of 30 may flip one image
            near = {name: 1 / 30 if "accuracy" in name else 1e-3 for name in one}
            for name, value in one.items():
                assert other[name] == pytest.approx(value, rel=1e-4, abs=near[name]), name


def test_parts_of_a_batch_are_another_recipe() -> None:
    """Batch norm sees the parts: curve and run key are not those of whole batches."""
    whole, parts = tiny(epochs=1), tiny(epochs=1, accumulate=2)

    assert trainers.run_key(whole, "") != trainers.run_key(parts, "")
    assert trainers.identity(whole) == trainers.identity(parts)
    assert timeless(list(trainers.train(whole))) != timeless(list(trainers.train(parts)))


def test_confirming_trains_on_all_training_images_and_reads_the_test_part() -> None:
    """With `judge` "test" validation images train too, and the figures are the test images'."""
    config = tiny(epochs=2)
    searched = list(trainers.train(config, seed=3))
    confirmed = list(trainers.train(config, seed=3, judge="test"))
    assert {"test_loss", "test_accuracy"} <= confirmed[-1].keys()
    assert not [name for name in confirmed[-1] if "val" in name]
    training, unseen = open_batches(config, torch.device("cpu"), sources(config.dataset, "test"))
    assert training.count == 300  # its subset, nothing held out
    assert unseen.count == 355  # every fifth digit: see trainers/datasets/digits.py
    shown = sum(len(labels) for _, labels in unseen.ordered())
    assert shown == unseen.count
    assert confirmed[0]["train_loss"] != searched[0]["train_loss"]


def test_a_confirmed_run_is_another_run(tmp_path: Path) -> None:
    """Its run key differs: no checkpoint of a search is gone on with, and it resumes itself."""
    config = tiny(epochs=2)
    list(trainers.train(config, seed=3, checkpoint=tmp_path))
    with pytest.warns(RuntimeWarning, match="another run's"):
        assert history(tmp_path, config, seed=3, judge="test") == []
    straight = list(trainers.train(config, seed=3, judge="test"))
    other = tmp_path / "confirmed"
    list(islice(trainers.train(config, seed=3, checkpoint=other, judge="test"), 1))
    resumed = list(trainers.train(config, seed=3, checkpoint=other, resume=True, judge="test"))
    assert timeless(history(other, config, seed=3, judge="test")) == timeless(straight)
    assert timeless(resumed) == timeless(straight[1:])
