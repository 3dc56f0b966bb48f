"""`training.compile`: blocks that PyTorch compiles train to the figures of eager ones.

Where the tests count compilations, what is counted is real, while the compiler behind it is
PyTorch's own that calls the operators as they stand: g++ takes ten seconds for a kind of block.
"""

from __future__ import annotations

import gc
import shutil
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partialmethod
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.convert_frame import input_codes
from torch._dynamo.eval_frame import _debug_get_cache_entry_list
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._dynamo.testing import CompileCounter

import trainers
from spaces.config import Config
from spaces.errors import VariantError
from trainers import checkpoint, regions, toolchain
from trainers.backbones.mobilenetv2 import InvertedResidual
from trainers.backbones.resnet import Basic
from trainers.run import Run

TIMES = {"seconds", "images_per_second"}
ECA: dict[str, Any] = {"name": "eca"}
Draw = Callable[..., Path]
needs_compiler = pytest.mark.skipif(
    bool(toolchain.lacking("cpu")), reason="nothing to compile with here (g++, python3-dev)"
)


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECA_SEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums over several threads differ in the last bit
        yield
        torch.set_num_threads(threads)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> CompileCounter:
    """Counts the graphs that are compiled, and has them computed by the operators as they stand."""
    counter = CompileCounter()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=counter))
    return counter


def tiny(**training: Any) -> Config:
    """ResNet-8 at a quarter of its width on 300 digits, of which 30 judge: 3 kinds of blocks."""
    parts: dict[str, Any] = {
        "name": "tiny",
        "dataset": {"name": "digits", "subset": 300},
        "backbone": {"name": "resnet", "depth": 8, "width": 0.25},
        "attention": ECA,
    }
    parts |= {key: training.pop(key) for key in [*parts, "task"] if key in training}
    recipe = {
        "epochs": 2,
        "batch_size": 64,
        "optimizer": {"name": "sgd", "lr": 0.1},
        "augmentation": {"flip": True, "crop": 1, "cutout": 3},
    }
    return Config.model_validate({**parts, "training": recipe | training})


def timeless(epochs: list[dict[str, float]]) -> list[dict[str, float]]:
    """The metrics without those that a clock makes."""
    return [{k: v for k, v in epoch.items() if k not in TIMES} for epoch in epochs]


def kept(*kinds: type[nn.Module]) -> int:
    """How many compiled variants of these blocks the process has in memory."""
    return sum(len(_debug_get_cache_entry_list(kind.forward.__code__)) for kind in kinds)


# ---- figures ------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_compiled_blocks_train_to_the_figures_of_eager_ones(precision: str, tmp_path: Path) -> None:
    """Two epochs, everything on; and the states have the same names, the average among them."""
    recipe = {"precision": precision, "ema": 0.9, "grad_clip": 1.0, "label_smoothing": 0.1}
    figures, states = [], []
    for on in (False, True):
        config = tiny(compile=on, **recipe)
        place = tmp_path / str(on)
        figures.append(list(trainers.train(config, seed=3, device="cpu", checkpoint=place)))
        states.append(checkpoint.newest(place))
    for one, other in zip(*figures, strict=True):
        for name in one.keys() - TIMES:
            # of 30 images that judge one may be seen otherwise
            absolute = 1 / 30 + 1e-9 if "accuracy" in name else 0
            # sums in another order, over 8 steps; bf16 rounds to 3 digits, where Inductor has
            # float32 between fused operators
            relative = 1e-4 if precision == "float32" else 2e-2
            assert other[name] == pytest.approx(one[name], rel=relative, abs=absolute), name
    eager, fast = states
    assert eager is not None
    assert fast is not None
    for part in ("network", "average"):
        assert list(eager[part]) == list(fast[part])
        assert any(not torch.equal(eager[part][name], fast[part][name]) for name in eager[part])


@needs_compiler
@pytest.mark.slow
def test_a_compiled_run_that_left_within_an_epoch_goes_on_exactly(tmp_path: Path) -> None:
    """Left after a step of the second epoch, then resumed: bit for bit as undisturbed."""
    config = tiny(compile=True, epochs=3, ema=0.9)
    straight = list(trainers.train(config, seed=3, device="cpu", checkpoint=tmp_path / "straight"))
    asked = iter([False] * 6 + [True])  # 4 steps, a batch judged, 2 steps
    place, seen = tmp_path / "left", list[dict[str, float]]()
    with pytest.raises(trainers.Left):
        seen.extend(
            islice(
                trainers.train(
                    config, seed=3, device="cpu", checkpoint=place, leave=lambda: next(asked)
                ),
                3,
            )
        )
    torch.manual_seed(99)  # whatever happens between must not matter
    again = trainers.train(config, seed=3, device="cpu", checkpoint=place, resume=True)
    rest = list(again)
    assert timeless(rest) == timeless(straight[1:])
    one, other = checkpoint.newest(tmp_path / "straight"), checkpoint.newest(place)
    assert one is not None
    assert other is not None
    for part in ("network", "average"):
        for name, value in one[part].items():
            assert torch.equal(value, other[part][name]), name


def test_an_eager_run_goes_on_from_no_compiled_one(
    compiled: CompileCounter, tmp_path: Path
) -> None:
    """They are two recipes: the checkpoint of one is another run's to the other."""
    next(trainers.train(tiny(compile=True), device="cpu", checkpoint=tmp_path))
    with pytest.raises(checkpoint.CheckpointError, match="another run's"):
        next(trainers.train(tiny(), device="cpu", checkpoint=tmp_path, resume=True))


# ---- what is compiled, and how often ------------------------------------------------------------


def test_equal_blocks_share_their_code_and_judging_is_eager(compiled: CompileCounter) -> None:
    """The nine blocks of ResNet-20 are five kinds, each compiled once in two epochs."""
    backbone = {"name": "resnet", "depth": 20, "width": 0.25}
    epochs = trainers.train(tiny(compile=True, backbone=backbone), device="cpu")
    next(epochs)
    assert compiled.frame_count == kept(Basic) == 5
    next(epochs)
    assert compiled.frame_count == 5


def test_figures_are_those_of_eager_blocks_where_operators_are(compiled: CompileCounter) -> None:
    """Bit for bit: by the operators as they stand a compiled block is the eager one."""
    recipe = {"accumulate": 3, "batch_size": 50, "ema": 0.9}  # parts of 17, 17 and 16 images
    fast = list(trainers.train(tiny(compile=True, **recipe), device="cpu"))
    assert compiled.frame_count == 2 * 3  # for either size of a part
    assert timeless(fast) == timeless(list(trainers.train(tiny(**recipe), device="cpu")))


def test_trials_of_one_process_are_all_compiled_and_leave_nothing(
    compiled: CompileCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five trials of other widths and kernels: more kinds of blocks than PyTorch would keep.

    After each nothing of it is left, neither code nor network, however it ended.
    """
    networks: list[weakref.ref[nn.Module]] = []
    begin = Run.__init__

    def begun(run: Run, *args: Any, **kwargs: Any) -> None:
        begin(run, *args, **kwargs)
        networks.append(weakref.ref(run.network))

    monkeypatch.setattr(Run, "__init__", begun)
    for number, size in enumerate((3, 5, 7, 3, 5), start=1):
        config = tiny(
            compile=True,
            backbone={"name": "resnet", "depth": 8, "width": 0.25 * number},
            attention=ECA | {"mapping": {"name": "constant", "kernel_size": size}},
        )
        trial = trainers.train(config, device="cpu")
        next(trial)
        assert compiled.frame_count == 3 * number
        assert kept(Basic) == 3
        if number % 2:
            trial.close()  # type: ignore[attr-defined]
        else:
            assert len(list(trial)) == 1
        del trial
        gc.collect()
        assert kept(Basic) == 0
        assert not any(code() for code in input_codes.seen)
        assert [network() for network in networks] == [None] * number


MOBILE: dict[str, Any] = {
    "backbone": {"name": "mobilenetv2", "width": 0.25},
    "dataset": {"name": "digits", "subset": 150, "image_size": 16},
}


def test_a_network_may_have_more_kinds_of_blocks_than_pytorch_keeps(
    compiled: CompileCounter,
) -> None:
    """MobileNetV2 has twelve; at PyTorch's limit of eight the others would silently be eager."""
    trial = trainers.train(tiny(compile=True, **MOBILE), device="cpu")
    next(trial)
    assert torch._dynamo.config.recompile_limit == 8  # ours is for our steps alone
    assert compiled.frame_count == kept(InvertedResidual) == 12


def test_beyond_the_limit_is_an_error(
    compiled: CompileCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a trial that says it is compiled and is not."""
    monkeypatch.setattr(regions, "MOST", 11)
    with pytest.raises(FailOnRecompileLimitHit):
        next(trainers.train(tiny(compile=True, **MOBILE), device="cpu"))


def test_a_network_of_timms_is_compiled_too(compiled: CompileCounter) -> None:
    """What timm repeats are its blocks: the eight of a ResNet-18, of seven kinds."""
    pytest.importorskip("timm")
    parts = {
        "backbone": {"name": "timm", "model": "resnet18"},
        "dataset": {"name": "digits", "subset": 50, "image_size": 32},
        "attention": ECA | {"position": "post"},
        "batch_size": 16,
        "epochs": 1,
    }
    fast = list(trainers.train(tiny(compile=True, **parts), device="cpu"))
    assert compiled.frame_count == 7
    assert timeless(fast) == timeless(list(trainers.train(tiny(**parts), device="cpu")))


def test_a_detectors_backbone_is_compiled(
    compiled: CompileCounter, draw: Draw, tmp_path: Path
) -> None:
    """For images of all sizes at once: as many times as ResNet-18 has kinds of blocks, and once
    more where the first images were square. Bit for bit as eager.
    """
    parts: dict[str, Any] = {
        "task": {"name": "detection", "detector": {"name": "retinanet", "channels": 8}},
        "dataset": {
            **{"name": "coco", "root": str(draw(tmp_path / "drawn")), "classes": 3},
            **{"image_size": 64, "workers": 0, "val": 0.3},
        },
        "backbone": {"name": "resnet", "depth": 18, "width": 0.125},
        "batch_size": 4,
        "optimizer": {"name": "sgd", "lr": 0.01},
        "augmentation": {"flip": True},
    }
    fast = list(trainers.train(tiny(compile=True, **parts), device="cpu"))
    assert 7 <= compiled.frame_count <= 14
    assert timeless(fast) == timeless(list(trainers.train(tiny(**parts), device="cpu")))


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "variable", "language"), [("cpu", "CXX", "C++"), ("cuda", "CC", "C")]
)
def test_without_a_compiler_it_is_told_before_training(
    device: str, variable: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key, what is not there and how to get it, in one line; eager training wants none."""
    monkeypatch.setenv(variable, "/nowhere/compiler -O2")
    said = toolchain.lacking(device)
    assert said.startswith(f"no {language} compiler here (${variable} is /nowhere/compiler -O2)")
    assert "apt-get install g++ python3-dev" in said
    if device == "cpu":
        with pytest.raises(
            VariantError, match=r"no C\+\+ compiler .*got true; allowed: false"
        ) as e:
            next(trainers.train(tiny(compile=True), device="cpu"))
        assert [at for at, _ in e.value.problems] == ["training.compile"]
        assert len(str(e.value).splitlines()) == 1
        trainers.check_device(tiny(), "cpu")


def test_without_headers_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container's Python often comes without Python.h, which what is compiled includes."""
    if shutil.which("g++") is None or sys.platform != "linux":
        pytest.skip("no g++")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert toolchain.lacking("cpu").startswith(f"no Python.h in {tmp_path}: apt-get install")


def test_without_triton_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, before anything else."""
    monkeypatch.setitem(sys.modules, "triton", None)
    assert toolchain.lacking("cuda") == "Triton is not installed: pip install triton, on every node"


@pytest.mark.parametrize("check", [trainers.foresee, trainers.fits], ids=["foresee", "fits"])
def test_a_network_without_blocks_is_refused(check: Callable[[Config], None]) -> None:
    """VGG is layer after layer: there is nothing that compiling would be regional of."""
    pytest.importorskip("timm")
    vgg = {"backbone": {"name": "timm", "model": "vgg11"}, "attention": {"name": "none"}}
    data = {"dataset": {"name": "digits", "subset": 300, "image_size": 32}}
    check(tiny(**vgg, **data))
    with pytest.raises(VariantError, match="the backbone timm does not say which") as raised:
        check(tiny(compile=True, **vgg, **data))
    assert [at for at, _ in raised.value.problems] == ["training.compile"]
