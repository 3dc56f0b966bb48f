"""One network trained by several processes: to what one process would make of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

import trainers
from spaces.config import Config
from spaces.errors import VariantError
from trainers import checkpoint, toolchain
from trainers.batches import open_batches
from trainers.team import Team

TIMES = {"seconds", "images_per_second"}
MEMBER = """
import json, os, sys, torch, torch.distributed as dist
from spaces.config import Config
import trainers
torch.set_num_threads(1)
rank, size, meeting, place, leave, resume = sys.argv[2:8]
store = dist.FileStore(meeting, int(size))
dist.init_process_group("gloo", store=store, rank=int(rank), world_size=int(size))
asked = iter(range(1000))
left = lambda: rank == "1" and next(asked) == int(leave)
config = Config.model_validate_json(sys.argv[1])
seen = []
try:
    for metrics in trainers.train(
        config, seed=3, device="cpu", checkpoint=place or None, resume=bool(resume),
        leave=left, group=dist.group.WORLD,
    ):
        seen.append(metrics)
except trainers.Left as error:
    seen.append({"epoch": error.epoch, "step": error.step})
except ValueError as error:
    seen.append(str(error))
print(json.dumps(seen), flush=True)
dist.destroy_process_group()
os._exit(0)  # a thread of PyTorch's may outlive the interpreter, which then aborts
"""


def tiny(**training: Any) -> Config:
    """ResNet-8 at an eighth of its width on 300 digits, of which 30 judge."""
    recipe = {
        "epochs": 2,
        "batch_size": 50,
        "optimizer": {"name": "sgd", "lr": 0.05},
        "augmentation": {"flip": True, "crop": 1, "cutout": 3},
    }
    return Config.model_validate(
        {
            "name": "tiny",
            "dataset": training.pop("dataset", {"name": "digits", "subset": 300}),
            "backbone": {"name": "resnet", "depth": 8, "width": 0.25},
            "attention": {"name": "eca"},
            "training": recipe | training,
        }
    )


def together(
    config: Config,
    size: int,
    folder: Path,
    *,
    place: str = "",
    leave: int = -1,
    resume: bool = False,
) -> list[list[Any]]:
    """What each process of a team yields; the second leaves when it is asked for that time."""
    folder.mkdir(exist_ok=True)
    meeting = folder / f"meeting-{len(list(folder.iterdir()))}"
    said = [str(size), str(meeting), place, str(leave), "yes" if resume else ""]
    command = [sys.executable, "-c", MEMBER, config.model_dump_json()]
    members = [
        subprocess.Popen(
            [*command, str(rank), *said],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in range(size)
    ]
    told = [member.communicate(timeout=240) for member in members]
    assert all(member.returncode == 0 for member in members), [error for _, error in told]
    return [json.loads(out.splitlines()[-1]) for out, _ in told]


def timeless(epochs: list[Any]) -> list[Any]:
    """The metrics without those that a clock makes."""
    return [{k: v for k, v in epoch.items() if k not in TIMES} for epoch in epochs]


def near(some: list[dict[str, float]], others: list[dict[str, float]]) -> None:
    """Equal but for the order of float32 sums; of 30 images one may be seen otherwise."""
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        for name in one.keys() - TIMES:
            absolute = 1 / 30 + 1e-9 if "accuracy" in name else 1e-3
            assert one[name] == pytest.approx(other[name], rel=2e-3, abs=absolute), name


@pytest.mark.parametrize(
    "recipe",
    [
        {"ema": 0.9, "grad_clip": 1.0, "label_smoothing": 0.1},
        {"accumulate": 3},  # 17, 17, 16: each part is shared
        {"batch_size": 45, "dataset": {"name": "digits", "subset": 101, "val": 0.2}},
    ],
    ids=["everything", "in parts", "odd shares"],
)
def test_two_processes_train_what_one_does(recipe: dict[str, Any], tmp_path: Path) -> None:
    """Losses, accuracies and batch norm's running figures; both know the same."""
    config = tiny(**recipe)
    alone = list(trainers.train(config, seed=3, device="cpu", checkpoint=tmp_path / "alone"))
    first, second = together(config, 2, tmp_path / "meet", place=str(tmp_path / "both"))
    assert timeless(first) == timeless(second)
    near(first, alone)
    one, both = checkpoint.newest(tmp_path / "alone"), checkpoint.newest(tmp_path / "both")
    assert one is not None
    assert both is not None
    assert one["network"].keys() == both["network"].keys()
    for name, value in one["network"].items():
        # weights are of the order of 0.1 to 1; sums in another order, over 10 steps
        torch.testing.assert_close(both["network"][name], value, rtol=1e-2, atol=2e-3, msg=name)


@pytest.mark.slow
def test_two_processes_train_compiled_what_one_does_eagerly(tmp_path: Path) -> None:
    """Blocks cut at the batch norms that both share; the states have the same names."""
    if said := toolchain.lacking("cpu"):
        pytest.skip(said)
    alone = list(trainers.train(tiny(), seed=3, device="cpu", checkpoint=tmp_path / "alone"))
    shared = tiny(compile=True, ema=0.9)
    first, second = together(shared, 2, tmp_path / "meet", place=str(tmp_path / "both"))
    assert timeless(first) == timeless(second)
    judged = ("val_loss", "val_accuracy", "best_val_accuracy")  # the average's
    near(
        *(
            [{k: v for k, v in e.items() if k not in judged} for e in each]
            for each in (first, alone)
        )
    )
    one, both = checkpoint.newest(tmp_path / "alone"), checkpoint.newest(tmp_path / "both")
    assert one is not None
    assert both is not None
    assert one["network"].keys() == both["network"].keys()


def test_a_team_that_one_must_leave_goes_on_exactly(tmp_path: Path) -> None:
    """One process is told to leave: all do, at the same step; resumed, bit for bit the same."""
    config = tiny()
    straight, _ = together(config, 2, tmp_path / "straight")
    place = str(tmp_path / "both")
    left, also = together(config, 2, tmp_path / "meet", place=place, leave=2)
    assert left == also == [{"epoch": 0, "step": 3}]
    assert checkpoint.keys(place) == ["epoch-00000-step-0000003"]
    rest, _ = together(config, 2, tmp_path / "meet", place=place, resume=True)
    assert timeless(rest) == timeless(straight)


def test_a_team_may_change_its_size(tmp_path: Path) -> None:
    """What two processes began one goes on with, to the same figures."""
    config = tiny()
    place = str(tmp_path / "both")
    together(config, 2, tmp_path / "meet", place=place, leave=2)
    rest = list(trainers.train(config, seed=3, device="cpu", checkpoint=place, resume=True))
    near(rest, list(trainers.train(config, seed=3, device="cpu")))


class Member:
    """A process of a team as its batches know it."""

    def __init__(self, rank: int, size: int) -> None:
        self._rank, self._size = rank, size

    def rank(self) -> int:
        return self._rank

    def size(self) -> int:
        return self._size


@pytest.mark.parametrize(("size", "parts"), [(2, 1), (3, 1), (3, 4), (4, 3)])
def test_shares_make_up_the_batch(size: int, parts: int) -> None:
    """Each image goes to one process, in the part that it is in for one process alone."""
    batch = torch.randperm(50)
    shares = [Team(Member(rank, size)).share(batch, parts) for rank in range(size)]  # type: ignore[arg-type]
    for number, part in enumerate(batch.tensor_split(parts)):
        own = torch.cat([share.tensor_split(parts)[number] for share in shares])
        assert sorted(own.tolist()) == sorted(part.tolist())


@pytest.mark.parametrize("size", [2, 3, 7])
def test_every_image_judges_once(size: int) -> None:
    """Whatever their number; every process has as many batches, none of them empty."""
    config = tiny(batch_size=8, dataset={"name": "digits", "subset": 100, "val": 0.19})
    labels, counts = [], set()
    for rank in range(size):
        member = Team(Member(rank, size))  # type: ignore[arg-type]
        _, judging = open_batches(config, torch.device("cpu"), team=member)
        own = [theirs for _, theirs in judging.ordered()]
        assert all(len(theirs) for theirs in own)
        counts.add(len(own))
        labels += torch.cat(own).tolist()
    _, alone = open_batches(config, torch.device("cpu"))
    assert sorted(labels) == sorted(torch.cat([theirs for _, theirs in alone.ordered()]).tolist())
    assert len(counts) == 1


def test_a_batch_too_small_for_the_team_is_refused() -> None:
    """By name, with what is allowed."""
    member = Team(Member(0, 8))  # type: ignore[arg-type]
    small = tiny(batch_size=20, accumulate=4)
    with pytest.raises(ValueError, match=r"training\.batch_size: 8 .*got 20; allowed: 32 or more"):
        open_batches(small, torch.device("cpu"), team=member)


def test_alone_nothing_is_exchanged() -> None:
    """Without a group the network is as it was built."""
    net = trainers.build(tiny())
    alone = Team()
    assert alone.joined(alone.synchronised(net)) is net
    assert any(type(module) is nn.BatchNorm2d for module in net.modules())


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Team]:
    """A team with a group, of this process."""
    store = dist.FileStore(str(tmp_path / "meeting"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield Team(dist.group.WORLD)
    dist.destroy_process_group()


@pytest.mark.parametrize("model", ["resnet26d", "regnetx_002"])
def test_norms_that_activate_go_on_to(model: str, one: Team) -> None:
    """A network of timm's gives what it gave, to the bit, judged; in training but for rounding."""
    pytest.importorskip("timm")
    plain = tiny().model_dump(mode="json")
    config = Config.model_validate(
        plain
        | {"backbone": {"name": "timm", "model": model}, "attention": {"name": "none"}}
        | {"dataset": {"name": "digits", "subset": 300, "image_size": 64}}
    )
    net, changed = trainers.build(config, seed=0), trainers.build(config, seed=0)
    names = list(net.state_dict())
    changed = one.synchronised(changed.eval())
    assert list(changed.state_dict()) == names
    assert not any(type(module) is nn.BatchNorm2d for module in changed.modules())
    x = torch.randn(8, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(changed(x), net.eval()(x))
        for network in (net, changed):
            network.train()
            torch.manual_seed(0)  # dropout's
            network(x)
    for (name, value), other in zip(
        net.state_dict().items(), changed.state_dict().values(), strict=True
    ):
        # running figures of one batch, through tens of norms in float32
        torch.testing.assert_close(value, other, rtol=1e-3, atol=1e-3, msg=name)


class Ghost(nn.BatchNorm2d):
    """Somebody's own norm."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


def test_a_norm_of_ones_own_is_refused(one: Team) -> None:
    """What it does would be lost: one line with its place, and what to do instead."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(Ghost(4)))
    with pytest.raises(VariantError) as raised:
        one.synchronised(net)
    assert raised.value.key == "backbone"
    assert str(raised.value) == (
        "backbone: several processes cannot share the batch norm 1.0 "
        "(got Ghost; allowed: PyTorch's and timm's, or search.resources.processes: 1)"
    )
    assert type(net[1][0]) is Ghost


@pytest.mark.parametrize(
    "how", [{"affine": False}, {"momentum": None}, {"track_running_stats": False}], ids=str
)
def test_every_kind_of_plain_norm_is_shared(how: dict[str, Any], one: Team) -> None:
    """Three batches: outputs and running figures are PyTorch's."""
    norm = nn.BatchNorm2d(3, **how)
    shared = one.synchronised(nn.Sequential(nn.BatchNorm2d(3, **how)))
    for _ in range(3):
        x = torch.randn(8, 3, 4, 4)
        torch.testing.assert_close(shared(x), norm(x))
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[f"0.{name}"], value)
