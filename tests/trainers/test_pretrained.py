"""`backbone.pretrained`: weights of others take their places, or are refused with a reason."""

from __future__ import annotations

import io
import os
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

import spaces
import trainers
from spaces import Config
from spaces.errors import VariantError
from trainers import pretrained
from trainers.backbones import mobilenetv2, resnet

TINY = {"name": "resnet", "depth": 8, "width": 0.25}
State = dict[str, torch.Tensor]


def config(
    start: Path | None = None,
    *,
    backbone: dict[str, Any] = TINY,
    dataset: dict[str, Any] | None = None,
    attention: dict[str, Any] | None = None,
) -> Config:
    """A config that starts from a file."""
    return Config.model_validate(
        {
            "name": "start",
            "dataset": dataset or {"name": "digits"},
            "backbone": {**backbone, "pretrained": None if start is None else str(start)},
            "attention": attention or {"name": "none"},
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )


def shaken(network: nn.Module) -> nn.Module:
    """The network with every number another, those of the norms too, in evaluation mode."""
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.2 * (torch.rand(tensor.shape, generator=draw) - 0.5))
                if tensor.dim() == 1:
                    tensor.add_(0.05 * torch.rand(tensor.shape, generator=draw))
    return network.eval()


def same_answers(one: nn.Module, other: nn.Module) -> None:
    """Both give the same logits; they pool in a different order of sums, so rounding may differ."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(one.eval()(images), other.eval()(images), rtol=1e-4, atol=1e-5)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The state dict of a small network of ours, in PyTorch's format."""
    torch.save(shaken(trainers.build(config())).state_dict(), tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt"


IMAGES = {"name": "cifar10", "image_size": 64}
PUBLISHED = {
    "resnet18": {"name": "resnet", "depth": 18, "stem": "imagenet"},
    "resnet50": {"name": "resnet", "depth": 50, "stem": "imagenet"},
    "mobilenet_v2": {"name": "mobilenetv2", "stem": "imagenet"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_torchvision_s_networks(name: str, tmp_path: Path) -> None:
    """With torchvision's random weights our network answers as torchvision's does."""
    theirs = shaken(getattr(torchvision.models, name)(num_classes=10))
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    chosen = config(tmp_path / "theirs.pth", backbone=PUBLISHED[name], dataset=IMAGES)
    assert pretrained.check(chosen) == []
    same_answers(trainers.build(chosen), theirs)


class Gate(nn.Module):
    """ECA as its authors wrote it down: a pooled map, a kernel along the channels, a sigmoid."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, size, padding=(size - 1) // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(x, 1)
        gate = self.conv(pooled.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * torch.sigmoid(gate)


def gated(block: Any, x: torch.Tensor) -> torch.Tensor:
    """A basic block of torchvision's with the gate before the add."""
    y = block.relu(block.bn1(block.conv1(x)))
    y = block.eca(block.bn2(block.conv2(y)))
    return block.relu(y + (x if block.downsample is None else block.downsample(x)))


def eca_resnet18() -> nn.Module:
    """Torchvision's with the authors' names and released kernels, 3, 5, 7, 7 (their README)."""
    net = torchvision.models.resnet18(num_classes=10)
    stages = (net.layer1, net.layer2, net.layer3, net.layer4)
    for layer, size in zip(stages, (3, 5, 7, 7), strict=True):
        for block in layer:
            block.eca = Gate(size)
            block.forward = types.MethodType(gated, block)
    return net


def eca_mobilenet_v2() -> nn.Module:
    """Likewise: the gate is the last part of a block, of 1 below 96 channels, else of 3."""
    net = torchvision.models.mobilenet_v2(num_classes=10)
    for block in net.features[1:18]:
        block.conv.append(Gate(1 if block.out_channels < 96 else 3))
    return net


AUTHORS: dict[str, tuple[Callable[[], nn.Module], str, list[int]]] = {
    "resnet": (eca_resnet18, "resnet18", [3, 5, 7, 7]),
    "mobilenetv2": (eca_mobilenet_v2, "mobilenet_v2", [1, 1, 1, 1, 3, 3, 3]),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_checkpoints_of_the_authors(name: str, tmp_path: Path) -> None:
    """Under `state_dict`, with `module.` before each name and a state of the optimizer beside."""
    make, backbone, kernels = AUTHORS[name]
    theirs = shaken(make())
    state = {f"module.{key}": tensor for key, tensor in theirs.state_dict().items()}
    kept = {"epoch": 100, "arch": "se_resnet50", "state_dict": state, "best_prec1": torch.ones(1)}
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1).state_dict()
    torch.save({**kept, "optimizer": optimizer}, tmp_path / "theirs.pth.tar")
    attention = {"name": "eca", "mapping": {"name": "per_stage", "kernel_sizes": kernels}}
    chosen = config(
        tmp_path / "theirs.pth.tar",
        backbone=PUBLISHED[backbone],
        dataset=IMAGES,
        attention=attention,
    )
    same_answers(trainers.build(chosen), theirs)


def test_every_name_of_torchvision_s_is_known() -> None:
    """Each parameter has one of ours, at every depth: nothing is left over or missing."""
    with torch.device("meta"):
        for depth in (18, 34, 50, 101, 152):
            theirs = getattr(torchvision.models, f"resnet{depth}")().state_dict()
            ours = pretrained._bare(
                "resnet",
                f'{{"depth": {depth}, "stem": "imagenet"}}',
                trainers.network.describe(config(dataset=IMAGES)),
            )
            assert {resnet.renamed(name) for name in theirs} == set(ours)
    names = torchvision.models.mobilenet_v2().state_dict()
    assert len({mobilenetv2.renamed(name) for name in names}) == len(names)


@pytest.mark.parametrize("form", ["pt", "safetensors", "legacy"])
def test_a_file_of_our_own(tiny: Path, form: str, tmp_path: Path) -> None:
    """Either format, told by the content and not by the name, and PyTorch's before 1.6."""
    state = torch.load(tiny, weights_only=True)
    file = tmp_path / "weights.bin"
    if form == "safetensors":
        safetensors.torch.save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form == "pt")
    for name, tensor in trainers.build(config(file)).state_dict().items():
        assert torch.equal(tensor, state[name])


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(tiny: Path, tmp_path: Path, dtype: torch.dtype, prefix: str) -> None:
    """Numbers of any precision become float32."""
    state = torch.load(tiny, weights_only=True)
    cast = {
        f"{prefix}{name}": tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    torch.save(cast, tmp_path / "cast.pt")
    for name, tensor in trainers.build(config(tmp_path / "cast.pt")).state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name].to(dtype).to(tensor.dtype))


def test_a_classifier_of_other_classes_starts_anew(tiny: Path) -> None:
    """It is as it would be without the file, which is said; all else is the file's."""
    chosen = config(tiny, dataset={"name": "cifar100", "image_size": 8})
    with pytest.raises(VariantError, match=r"backbone\.stem\.0\.weight is \(4, 1, 3, 3\)"):
        pretrained.check(chosen)  # of one channel, too: digits are grey
    state = torch.load(tiny, weights_only=True)
    state["fc.weight"], state["fc.bias"] = torch.ones(1000, 16), torch.ones(1000)
    torch.save(state, tiny)
    (said,) = pretrained.check(config(tiny))
    assert "of 1000 classes: this one of 10 starts anew" in said
    with pytest.warns(UserWarning, match="of 1000 classes"):
        network = trainers.build(config(tiny), seed=3)
    drawn = trainers.build(config(), seed=3).state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, drawn[name] if name.startswith("fc.") else state[name])


def test_attention_that_is_not_in_the_file_starts_anew(tiny: Path) -> None:
    """As it would be without the file, with a warning that names the first."""
    attention = {"name": "eca", "mapping": {"name": "constant", "kernel_size": 3}}
    with pytest.warns(UserWarning, match=r"starts anew: backbone\.stages\.0\.0\.final\.conv and 2"):
        network = trainers.build(config(tiny, attention=attention), seed=3)
    drawn = trainers.build(config(attention=attention), seed=3).state_dict()
    state = torch.load(tiny, weights_only=True)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state.get(name, drawn[name]))


def test_attention_of_other_kernels_starts_anew(tmp_path: Path) -> None:
    """What agrees in shape is taken, and a plain network leaves the file's attention alone."""

    def eca(*kernels: int) -> dict[str, Any]:
        return {"name": "eca", "mapping": {"name": "per_stage", "kernel_sizes": list(kernels)}}

    state = shaken(trainers.build(config(attention=eca(3, 5, 3)))).state_dict()
    torch.save(state, tmp_path / "eca.pt")
    with pytest.warns(UserWarning, match=r"starts anew: backbone\.stages\.1\.0\.final\.conv$"):
        network = trainers.build(config(tmp_path / "eca.pt", attention=eca(3, 3, 3)))
    own = network.state_dict()
    assert torch.equal(*(s["backbone.stages.0.0.final.conv.weight"] for s in (own, state)))
    plain = trainers.build(config(tmp_path / "eca.pt")).state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in plain.items())


def test_counters_may_be_missing(tiny: Path) -> None:
    """Files older than PyTorch 0.4.1 have no num_batches_tracked, others cast it to fractions."""
    state = torch.load(tiny, weights_only=True)
    torch.save({n: t for n, t in state.items() if "num_batches" not in n}, tiny)
    assert pretrained.check(config(tiny)) == []
    assert trainers.build(config(tiny)).state_dict()["backbone.stem.1.num_batches_tracked"] == 0
    torch.save({name: tensor.half() for name, tensor in state.items()}, tiny)
    assert pretrained.check(config(tiny)) == []


MISFITS: dict[str, tuple[Callable[[State], object], str]] = {
    "of another width": (
        lambda state: state.update({"backbone.stem.0.weight": torch.zeros(8, 1, 3, 3)}),
        "backbone.stem.0.weight is (8, 1, 3, 3) in the file, (4, 1, 3, 3) here",
    ),
    "a layer less": (
        lambda state: state.pop("backbone.stages.0.0.conv1.weight"),
        "backbone.stages.0.0.conv1.weight is not in the file",
    ),
    "a layer more": (
        lambda state: state.update({"backbone.stages.3.0.conv1.weight": torch.zeros(1)}),
        "the file has backbone.stages.3.0.conv1.weight, this network has not",
    ),
    "whole numbers": (
        lambda state: state.update({"backbone.stem.1.bias": torch.zeros(4, dtype=torch.int8)}),
        "backbone.stem.1.bias is (4,) of whole numbers in the file, (4,) here",
    ),
    "another head": (
        lambda state: state.update({"fc.weight": torch.zeros(10, 99)}),
        "fc.weight is (10, 99) in the file, (10, 16) here",
    ),
}


@pytest.mark.parametrize("change", MISFITS)
def test_another_architecture(tiny: Path, change: str) -> None:
    """It says which tensor first, of which shape there and here."""
    alter, said = MISFITS[change]
    state = torch.load(tiny, weights_only=True)
    alter(state)
    torch.save(state, tiny)
    with pytest.raises(VariantError) as refused:
        pretrained.check(config(tiny))
    assert refused.value.key == "backbone.pretrained"
    assert said in refused.value.message
    with pytest.raises(VariantError):
        trainers.build(config(tiny))


class Evil:
    """A pickle of this runs a command where it is loaded without care."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.trace}'",)


@pytest.mark.parametrize("inside", ["alone", "beside", "under state_dict"])
def test_an_evil_pickle_is_never_run(tiny: Path, tmp_path: Path, inside: str) -> None:
    """Not when it is checked and not when it is loaded."""
    evil = Evil(tmp_path / "trace")
    state = torch.load(tiny, weights_only=True)
    held: Any = {"alone": evil, "beside": {**state, "x": evil}, "under state_dict": None}[inside]
    torch.save(held or {"state_dict": {**state, "x": evil}}, tiny)
    for go in (pretrained.check, trainers.build):
        with pytest.raises(VariantError, match="nothing of it was run"):
            go(config(tiny))
    assert not (tmp_path / "trace").exists()


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda data: data[: len(data) // 2],
    "without its last byte": lambda data: data[:-1],
    "its first bytes": lambda data: data[:9],
    "empty": lambda data: b"",
    "text": lambda data: b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("form", ["pt", "legacy", "safetensors"])
def test_a_damaged_file(tiny: Path, form: str, damage: str) -> None:
    """Truncated, or none at all (a pointer of git-lfs): refused in one line."""
    state = torch.load(tiny, weights_only=True)
    if form == "safetensors":
        safetensors.torch.save_file(state, tiny)
    else:
        torch.save(state, tiny, _use_new_zipfile_serialization=form == "pt")
    tiny.write_bytes(DAMAGED[damage](tiny.read_bytes()))
    with pytest.raises(VariantError, match=r"damaged") as refused:
        pretrained.check(config(tiny))
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("held", [[1], {}, {"a": 1}, {1: torch.ones(1)}, torch.ones(2)], ids=str)
def test_no_state_dict(tmp_path: Path, held: Any) -> None:
    """What holds data, but no named tensors, is refused."""
    torch.save(held, tmp_path / "held.pt")
    with pytest.raises(VariantError, match="no state dict"):
        pretrained.check(config(tmp_path / "held.pt"))


def test_what_is_no_file(tmp_path: Path) -> None:
    """Absent, a folder, a pipe that would block, a device without end, no permission to look."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    said = {
        tmp_path / "absent.pt": "No such file",
        tmp_path: "not a file",
        tmp_path / "pipe": "not a file",
        Path("/dev/zero"): "not a file",
        tmp_path / "file" / "below": "Not a directory",
    }
    for path, message in said.items():
        with pytest.raises(VariantError, match=message):
            pretrained.check(config(path))


def test_a_file_may_only_be_so_large(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it lies on the disk and as it unpacks."""
    size = tiny.stat().st_size
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(tiny) as old,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.infolist():
            new.writestr(member.filename, bytes(member.file_size))
    monkeypatch.setattr(pretrained, "LARGEST", size - 1)
    with pytest.raises(VariantError, match=f"too large \\(got {size:,} bytes"):
        pretrained.check(config(tiny))
    tiny.write_bytes(packed.getvalue())
    unpacked = sum(member.file_size for member in zipfile.ZipFile(tiny).infolist())
    monkeypatch.setattr(pretrained, "LARGEST", unpacked - 1)
    assert tiny.stat().st_size < unpacked - 1
    with pytest.raises(VariantError, match=f"unpacks to {unpacked:,} bytes"):
        pretrained.check(config(tiny))


def test_costs_and_identity_need_no_file() -> None:
    """What a network costs and which it is are known wherever the file is."""
    absent = config(Path("/nowhere/absent.pt"))
    assert trainers.measure(absent) == trainers.measure(config())
    assert trainers.identity(absent) == trainers.identity(config())
    with pytest.raises(VariantError, match="No such file"):
        trainers.build(absent)


def test_the_config_round_trips(tiny: Path) -> None:
    """`pretrained` is kept as JSON and as YAML, and is no parameter of the backbone's function."""
    chosen = config(tiny)
    assert Config.model_validate(chosen.model_dump(mode="json")) == chosen
    assert f"pretrained: {tiny}" in chosen.to_yaml()
    assert "pretrained" not in chosen.backbone.params


def test_the_run_key_holds_the_content(tiny: Path, tmp_path: Path) -> None:
    """The file's bytes make another run of the same network; where they lie does not."""
    elsewhere = tmp_path / "elsewhere" / "copy.pt"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(tiny.read_bytes())
    before = trainers.run_key(config(tiny), "d")
    assert before == trainers.run_key(config(elsewhere), "d")
    assert before != trainers.run_key(config(), "d")
    state = torch.load(tiny, weights_only=True)
    state["fc.bias"][0] += 1
    torch.save(state, tiny)
    assert before != trainers.run_key(config(tiny), "d")
    assert trainers.identity(config(tiny)) == trainers.identity(config())
    with pytest.raises(VariantError, match="No such file"):
        trainers.run_key(config(tmp_path / "absent.pt"), "d")


def test_run_keys_without_a_file_are_as_before() -> None:
    """Results of older studies stay theirs: the key is what it was before the option was there.

    The number is of commit 81bd499, the last without it.
    """
    space = spaces.load("digits")
    assert trainers.run_key(space.at(space.baselines()[1]), "0" * 64) == "d37175d516b12ab4"
