"""`training.compile`: blocks that PyTorch compiles train to the figures of eager ones.

Where the tests count compilations, what is counted is real, while the compiler behind it is
PyTorch's own that calls the operators as they stand: g++ takes ten seconds for a kind of block.
"""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partialmethod
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.convert_frame import input_codes
from torch._dynamo.eval_frame import _debug_get_cache_entry_list
from torch._dynamo.exc import BackendCompilerFailed, FailOnRecompileLimitHit
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend

import trainers
from spaces.config import Config
from spaces.errors import VariantError
from trainers import checkpoint, cores, regions, toolchain
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


OPEN = """
import sys
from functools import partialmethod
from torch import nn
import trainers
from spaces.config import Config
nn.Module.compile = partialmethod(nn.Module.compile, backend="eager")
trial = trainers.train(Config.model_validate_json(sys.argv[1]), device="cpu")
next(trial)
"""


def test_a_training_left_open_ends_with_its_process_in_silence() -> None:
    """Closed by the interpreter as it goes, when there is no forgetting any more."""
    command = [sys.executable, "-c", OPEN, tiny(compile=True).model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0
    assert "Exception" not in done.stderr, done.stderr


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


def test_what_is_set_elsewhere_makes_no_block_eager(compiled: CompileCounter) -> None:
    """A caller's stance is not ours, and stays the caller's."""
    theirs = CompileCounter()
    with torch.compiler.set_stance("force_eager"):
        next(trainers.train(tiny(compile=True), device="cpu"))
        torch.compile(nn.ReLU(), backend=theirs)(torch.ones(3))
    assert compiled.frame_count == 3
    assert theirs.frame_count == 0


def test_an_error_of_the_compilers_ends_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where $TORCHDYNAMO_SUPPRESS_ERRORS would have PyTorch go on eagerly."""

    def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        raise OSError("no space left for what is compiled")

    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=broken))
    with (
        torch._dynamo.config.patch(suppress_errors=True),
        pytest.raises(BackendCompilerFailed, match="no space left"),
    ):
        next(trainers.train(tiny(compile=True), device="cpu"))


def test_backward_passes_are_compiled_in_the_thread_that_trains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By no more processes than this one's share of the cores.

    On a GPU a backward pass runs in a thread of autograd's own, to which PyTorch's settings are
    those that it came with; here one is made for each.
    """
    seen: list[tuple[int, int]] = []

    def compiler(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        seen.append((threading.get_ident(), torch._inductor.config.compile_threads))
        run: Callable[..., Any] = make_boxed_func(graph.forward)
        return run

    backward = torch.Tensor.backward

    def elsewhere(loss: torch.Tensor) -> None:
        thread = threading.Thread(target=backward, args=[loss])
        thread.start()
        thread.join()

    backend = aot_autograd(fw_compiler=compiler)
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    monkeypatch.setattr(torch.Tensor, "backward", elsewhere)
    monkeypatch.setattr(cores, "_allowed", 1)
    next(trainers.train(tiny(compile=True), device="cpu"))
    assert seen == [(threading.get_ident(), 1)] * (3 + 3)


def test_a_limit_of_processes_that_a_person_set_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """$TORCHINDUCTOR_COMPILE_THREADS, where it is less than the share of the cores."""
    monkeypatch.setattr(cores, "share", lambda: 96)
    for limit in (1, 32):  # 32 is PyTorch's own on a node of 96 cores
        with torch._inductor.config.patch(compile_threads=limit), regions.compiling(True):
            assert torch._inductor.config.compile_threads == limit


def test_a_callers_own_compiled_model_is_only_compiled_anew(compiled: CompileCounter) -> None:
    """Forgotten with a trial's blocks, between its forward and backward pass too."""
    figures = []
    for beside in (False, True):
        counter = CompileCounterWithBackend("aot_eager")
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        fast = torch.compile(model, backend=counter)
        for count in (3, 3):
            loss = fast(torch.ones(count, 4)).sum()
            if beside:
                list(trainers.train(tiny(compile=True, epochs=1), device="cpu"))
            loss.backward()
        figures.append([parameter.grad for parameter in model.parameters()])
        assert counter.frame_count == 1 + beside
        torch.compiler.reset()
    assert compiled.frame_count == 2 * 3
    for one, other in zip(*figures, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


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


def test_tritons_compiler_is_named_without_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Triton takes all of $CC for a name, as its own words show; Inductor cuts $CXX into words."""
    build = pytest.importorskip("triton.runtime.build")
    if shutil.which("gcc") is None or toolchain.lacking("cuda"):
        pytest.skip("nothing to compile with here")
    source = tmp_path / "launcher.c"
    source.write_text("#include <Python.h>\n")
    for named in ("gcc", "gcc -O2"):
        monkeypatch.setenv("CC", named)
        build._find_compiler.cache_clear()
        try:
            build._build("launcher", str(source), str(tmp_path), [], [], [], [])
            built = True
        except FileNotFoundError:
            built = False
        assert bool(toolchain.lacking("cuda")) is not built
    build._find_compiler.cache_clear()
    assert toolchain.lacking("cuda").endswith("or name a compiler in CC, without flags")


def test_an_empty_name_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Inductor nor Triton takes $CXX or $CC for unset where it is empty."""
    for device, variable in (("cpu", "CXX"), ("cuda", "CC")):
        monkeypatch.setenv(variable, "")
        assert f"compiler here (${variable} is empty)" in toolchain.lacking(device)


@pytest.mark.parametrize("variable", toolchain.OFF)
def test_where_compiling_is_off_it_is_told(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch would train eagerly and say nothing, under a compiled training's run key."""
    monkeypatch.setenv(variable, "1")
    with pytest.raises(VariantError, match=rf"\${variable} is 1 here: unset it \(got true"):
        trainers.check_device(tiny(compile=True), "cpu")
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
