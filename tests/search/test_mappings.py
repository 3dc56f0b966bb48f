"""`mappings`: rules, proofs, the inverse and the equivalence diagram, before any space."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.colors import to_hex
from PIL import Image

from search.beforehand import diagram
from search.cli import main
from spaces import published
from spaces.algebra.grid import grid
from spaces.algebra.plane import Plane

ROOT = Path(__file__).parents[2]
Mappings = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mappings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Mappings:
    """Run `eca-search mappings ARGUMENTS` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["mappings", *arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def data(mappings: Mappings) -> Callable[..., Any]:
    """The same with --json: what it says."""
    import json

    return lambda *arguments: json.loads(mappings(*arguments, "--json")[1])


def shown(name: str) -> Plane:
    """The diagram of a published backbone around the paper's point."""
    stages = published.stages(name)
    pairs = grid([stage.channels for stage in stages], "nearest", (1, 4), (-2, 4))
    return diagram.plane(name, stages, "nearest", pairs)


@pytest.mark.parametrize("arguments", [(), ("--same", "published", "released")])
def test_kernels_of_backbones_need_no_torch(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The stages of a backbone are known without importing torch, and so is what follows."""
    code = (
        f"import sys; from search.cli import main; main(['mappings', *{arguments}])\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert done.returncode == 0


def test_every_rule_at_every_stage(data: Callable[..., Any]) -> None:
    """Rules come with their kernel at each stage and the parameters they add: eca.md's table."""
    told = data("--backbone", "resnet50")
    assert told["stages"][1] == {"stage": 2, "channels": 512, "blocks": 4}
    rules = {row["rule"]: (row["kernels"], row["params"]) for row in told["rules"]}
    # reference: Fig. 3's rule 86, ties down 80, floor 74, ceil 98, constant 3 48, released 80
    assert rules["published"] == ([5, 5, 5, 7], 86)
    assert rules["nearest_odd_ties_down"] == ([5, 5, 5, 5], 80)
    assert rules["floor_odd"] == ([3, 5, 5, 5], 74)
    assert rules["ceil_odd"] == ([5, 5, 7, 7], 98)
    assert rules["constant_3"] == ([3, 3, 3, 3], 48)
    assert rules["released"] == ([3, 5, 5, 7], 80)


def test_rules_that_agree_are_said_to_be_one_network(mappings: Mappings) -> None:
    """A proof shows all it rests on: what both answer, interval by interval."""
    code, out, _ = mappings("--same", "published", "nearest-odd-ties-up", "--range", "1-4096")
    assert code == 0
    assert "agree on every C from 1 to 4096" in out
    assert "1-7: k=1, 8-127: k=3, 128-2047: k=5, 2048-4096: k=7" in out


def test_rules_that_differ_are_shown_where(mappings: Mappings, data: Callable[..., Any]) -> None:
    """On a backbone the stages, over a range the intervals; YAML is a rule as good as a name."""
    out = mappings("--same", "published", "{name: log2, rounding: floor}")[1]
    assert "differ at 2 of 4 stages of resnet50" in out
    told = data("--same", "published", "floor_odd", "--range", "1-4096")["same"]
    assert told["agree"] is False
    intervals = [(run["channels"], run["a"], run["b"]) for run in told["differences"]]
    assert intervals == [([8, 31], 3, 1), ([128, 511], 5, 3), ([2048, 4096], 7, 5)]


def test_many_differences_are_cut(mappings: Mappings, data: Callable[..., Any]) -> None:
    """Two lines of different slope differ nearly everywhere: the text is short, the data whole."""
    rules = ("--same", "linear", "{name: linear, gamma: 64}", "--range", "1-8000")
    out = mappings(*rules)[1]
    assert len(out.splitlines()) == 27
    left = len(data(*rules)["same"]["differences"]) - 24
    assert f"... and {left} more" in out


def test_a_profile_has_a_region(mappings: Mappings, data: Callable[..., Any]) -> None:
    """The released 3-5-5-7 lies around gamma=1, b=-4.5, and not at the paper's gamma=2, b=1."""
    out = mappings("--backbone", "resnet50", "--profile", "3,5,5,7")[1]
    assert "gamma from 0.5 to 1.5" in out
    assert "k(512)=5: 4 gamma - 9 <= b < 6 gamma - 9" in out
    assert "gamma=2, b=1: does not give it" in out
    told = data("--profile", "3,5,5,7")["inverse"]
    assert (told["exists"], told["paper"], told["pairs"]) == (True, False, [])
    assert told["inside"] == {"gamma": 1.0, "b": -4.5}
    assert data("--profile", "5,5,5,7")["inverse"]["paper"] is True
    assert data("--profile", "3-5-5-7")["inverse"] == told  # as profiles are written elsewhere


def test_a_space_is_a_backbone_at_its_defaults(
    mappings: Mappings, data: Callable[..., Any], tmp_path: Path
) -> None:
    """A ready space by its name or a file: its channels, the profiles released for its backbone."""
    told = data("--backbone", "digits")
    # spaces/digits.yaml has width 0.5 as its default: 16, 32, 64 channels halved, a block each
    assert (told["backbone"], told["channels"]) == ("resnet8", [8, 16, 32])
    assert told["stages"][2] == {"stage": 3, "channels": 32, "blocks": 1}
    assert "networks on digits (resnet8, width 0.5)" in mappings("--backbone", "digits")[1]
    said = mappings("--backbone", "imagenet_resnet50", "--same", "published", "released")[1]
    assert "differ at 1 of 4 stages of imagenet_resnet50 (resnet50, width 1.0)" in said
    (tmp_path / "x.yaml").write_text(
        "name: x\ndataset: {name: digits}\nbackbone: {name: resnet, depth: 14, width: 0.5}\n"
        "attention: {name: eca, position: pre}\n"
        "training: {epochs: 1, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}\n"
    )
    told = data("--backbone", "x.yaml")
    # before its first convolution a stage's first block has the channels of the stage before it
    assert [(s["stage"], s["channels"], s["blocks"]) for s in told["stages"]] == [
        *[(1, 8, 2), (2, 8, 1), (2, 16, 1), (3, 16, 1), (3, 32, 1)]
    ]
    assert len(told["mappings"][0]["kernels"]) == 5


def test_one_is_no_plural(mappings: Mappings) -> None:
    """Of one pair, and of one network."""
    assert "1 pair, 1 network on resnet50" in mappings("--gamma", "2", "--b", "1")[1]


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("3,3,7,7", "k(256)=3 and k(512)=3 need gamma > 0.5"),
        ("7,5,5,3", "k(256)=7 and k(512)=5: more channels never get a smaller kernel"),
    ],
)
def test_a_profile_without_region_has_a_reason(
    mappings: Mappings, data: Callable[..., Any], profile: str, said: str
) -> None:
    """Where no gamma and b give a profile, the sites that contradict each other are named."""
    assert said in mappings("--profile", profile)[1]
    told = data("--profile", profile)["inverse"]
    assert (told["exists"], told["corners"], told["inside"]) == (False, [], None)
    assert said in told["because"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--same", "published", "floorodd"], "did you mean 'floor_odd'?"),
        (["--same", "published", "{name: constant, kernel_size: 4}"], "kernel_size: not allowed"),
        (["--same", "published", "[1"], "not YAML"),
        (["--same", "published", "released", "--range", "1-9"], "a kernel for each stage"),
        (["--channels", "16", "--same", "published", "released"], "no profile 'released'"),
        (["--range", "1-9"], "--range goes with --same"),
        (["--same", "published", "timm", "--range", "9-1"], "'9-1' (allowed: LOW-HIGH within"),
        (["--profile", "3,5"], "wrong number of kernels (got 2; allowed: 4 kernels, one a stage)"),
        (["--profile", "3-5--7"], "whole numbers with commas or hyphens between them"),
        (["--channels", "1", "--b=-1"], "got C=1, b=-1: -1; allowed b >= 0)"),
        (["--channels", "3", "--b=-1.585"], "got C=3, b=-1.585: -3.75e-05; allowed b >= -1.584)"),
        (["--backbone", "digit"], "no backbone or space named 'digit'; did you mean 'digits'?"),
        (["--backbone", "no.yaml"], "no.yaml:1:1: no such file, nor a ready space of that name"),
        (["--profile", "3,5,5,8"], "a kernel size is odd and 1 to 511 (got 8)"),
        (["--diagram", "plane.gif"], "allowed: a name that ends with .png, .svg, .pdf"),
        (["--diagram", "no/plane.png"], "no folder 'no'"),
        (["--diagram", "a.png", "--gamma", "0.1", "--b", "40"], "more than 2,000 networks"),
    ],
)
def test_what_cannot_be_answered_is_a_usage_error(
    mappings: Mappings, tmp_path: Path, arguments: list[str], said: str
) -> None:
    """Exit 2, in six lines at most, with nothing on stdout and nothing written."""
    code, out, err = mappings(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) <= 6
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_diagram_is_written(data: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    """The file is a picture of its kind, and the data say what it shows."""
    told = data("--backbone", "resnet18", "--diagram", f"plane.{kind}")["diagram"]
    assert told["file"] == f"plane.{kind}"
    assert told["networks"] == len(shown("resnet18").cells)
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind]
    assert (tmp_path / f"plane.{kind}").read_bytes().startswith(start)


def test_a_diagram_gives_each_network_a_colour_and_marks_what_is_known() -> None:
    """As many colours as networks; the paper's point, the released profiles, the constants."""
    plane = shown("resnet50")
    axes = diagram.figure(plane).axes[0]
    cells = axes.patches[: len(plane.cells)]
    assert len({to_hex(patch.get_facecolor()) for patch in cells}) == len(plane.cells)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == [
        "paper: gamma=2, b=1: 5-5-5-7",
        "released: 3-5-5-7",
        "released coco: 3-3-7-7 (no gamma, b)",
        "constant k, named above",
    ]
    written = {text.get_text() for text in axes.texts}
    assert {"k=3", "k=5", "k=7", "k=9", "3-3-3-3", "5-5-5-5"} <= written


def test_equal_planes_are_equal_pictures(tmp_path: Path) -> None:
    """A report can be made twice and compared; the SVG is whole, the PNG has its size."""
    one, other = (diagram.image(shown("resnet20"), "svg") for _ in range(2))
    assert one == other
    assert ElementTree.fromstring(one).tag.endswith("svg")
    (tmp_path / "plane.png").write_bytes(diagram.image(shown("resnet20"), "png"))
    assert Image.open(tmp_path / "plane.png").size == (1350, 900)
