"""Every attention there is, with every gate, at every shape and in every position, answers the
same questions.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import torch
from pydantic import BaseModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import trainers
from search.beforehand.examine import label as named
from spaces import catalogue, published
from spaces.config import Config
from spaces.site import POSITIONS
from trainers import variants
from trainers.counting import count_macs, count_params
from trainers.portable import program

SHAPES = [(2, 16, 8, 8), (1, 4, 1, 1), (3, 40, 7, 5)]
ADDING = ("gc", "timm-gca")
"""Those that add to their maps instead of scaling them: the block of GCNet."""
BY_OTHERS = ("timm",)
"""Those that are counted alone: their costs are given by no formula of ours."""

Setting = tuple[str, dict[str, Any]]


def options(annotation: Any) -> Iterator[Any]:
    """The values that an annotation names one by one; nothing for a number or a list."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) in (Union, UnionType, Annotated):
        for part in get_args(annotation):
            yield from options(part)


def settings(kind: str) -> Iterator[Setting]:
    """A kind at its defaults, and with each value of each parameter whose values are named."""
    yield kind, {}
    parameters: type[BaseModel] = catalogue.model("attention", kind)
    for name, field in parameters.model_fields.items():
        values = [True, False] if field.annotation is bool else options(field.annotation)
        yield from ((kind, {name: it}) for it in values if name != "name" and it != field.default)


def label(setting: Setting) -> str:
    kind, params = setting
    return "-".join([kind, *map(str, params.values())])


KINDS = variants.names("attention")
SETTINGS = [setting for kind in KINDS for setting in settings(kind)]
PRESENT = [setting for setting in SETTINGS if setting[0] != "none"]
GATES = [s for s in PRESENT if not s[1] or set(s[1]) & {"gate", "fusion", "module"}]
every_setting = pytest.mark.parametrize("setting", SETTINGS, ids=label)


def completed(setting: Setting) -> dict[str, Any]:
    """All parameters of a setting, defaults among them."""
    kind, params = setting
    found = catalogue.check("attention", {"name": kind, **params})
    return {name: value for name, value in found.items() if name != "name"}


def make(setting: Setting, channels: int, kernel_size: int = 3) -> nn.Module:
    """An attention, of that kernel size where it takes one."""
    kind, params = setting
    sized = catalogue.accepts("attention", kind, "kernel_size")
    kernel = {"kernel_size": kernel_size} if sized else {}
    return variants.load("attention", kind)(channels, **kernel, **params)


def drawn(setting: Setting, channels: int) -> nn.Module:
    """The same with all weights drawn anew, as some start at zero."""
    torch.manual_seed(0)
    attention = make(setting, channels)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    return attention


def config(setting: Setting, position: str, backbone: str) -> Config:
    """A small network on 3 x 8 x 8 images with the attention in one position of every block."""
    kind, params = setting
    size = {"depth": 8} if backbone == "resnet" else {}
    return Config.model_validate(
        {
            "name": "contract",
            "dataset": {"name": "cifar10", "image_size": 8},
            "backbone": {"name": backbone, "width": 0.25, **size},
            "attention": {"name": kind, "position": position, **params},
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_setting
def test_shape_is_kept(setting, shape):
    """An attention gives maps of the shape it got, for any batch, size and number of channels."""
    x = torch.randn(shape)

    assert make(setting, shape[1]).eval()(x).shape == x.shape


@every_setting
def test_every_parameter_learns(setting):
    """The gradient of a loss reaches the input and every parameter, and is not zero."""
    attention = drawn(setting, 64)  # several hidden units, of which ReLU leaves some
    x = torch.randn(8, 64, 6, 6, requires_grad=True)

    (attention(x) * torch.randn(8, 64, 6, 6)).sum().backward()

    assert x.grad is not None
    for name, parameter in attention.named_parameters():
        assert parameter.grad is not None, name
        if (setting[0], name) != ("gc", "key.bias"):  # softmax does not see it: its docstring
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("value", [0.0, 1e4, -1e4])
@every_setting
def test_extreme_maps_stay_finite(setting, value):
    """Maps of nothing but zeros or of 1e4 give finite outputs and gradients."""
    attention = drawn(setting, 16)
    x = torch.full((2, 16, 4, 4), value, requires_grad=True)

    y = attention(x)
    y.sum().backward()

    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in attention.parameters())


@pytest.mark.parametrize("setting", [s for s in SETTINGS if label(s) not in ADDING], ids=label)
def test_zeros_stay_zeros(setting):
    """A gate scales: where there is nothing, there is nothing after it."""
    x = torch.zeros(2, 16, 4, 4)

    assert drawn(setting, 16)(x).equal(x)


@every_setting
def test_meta_device_needs_no_memory(setting):
    """An attention can be made and called on the meta device, where tensors are only shapes."""
    with torch.device("meta"):
        y = make(setting, 16)(torch.empty(2, 16, 8, 8))

    assert y.is_meta
    assert y.shape == (2, 16, 8, 8)


@every_setting
def test_autocast_is_close_to_float32(setting):
    """Under bfloat16 autocast the output is that of float32 up to bfloat16's 8 bits."""
    torch.manual_seed(0)
    attention = make(setting, 16).eval()
    x = torch.randn(2, 16, 8, 8)

    with torch.autocast("cpu", torch.bfloat16):
        y = attention(x)

    # Two roundings to 8 significant bits, of the gate and of the product: 2 * 2^-8, and slack.
    torch.testing.assert_close(y.float(), attention(x), rtol=2**-6, atol=2**-6)


@every_setting
def test_memory_format_is_kept(setting):
    """Maps in channels_last come out in channels_last, and equal those of the plain format."""
    torch.manual_seed(0)
    attention = make(setting, 16)
    x = torch.randn(2, 16, 8, 8)

    y = attention(x.to(memory_format=torch.channels_last))

    assert y.is_contiguous(memory_format=torch.channels_last)
    # Means are summed in another order.
    torch.testing.assert_close(y, attention(x), rtol=1e-5, atol=1e-6)


@every_setting
def test_images_do_not_see_each_other(setting):
    """In evaluation each image's output is what it would be alone in the batch."""
    attention = drawn(setting, 16).eval()
    x = torch.randn(3, 16, 5, 5)

    alone = torch.cat([attention(image[None]) for image in x])

    # One image or three may take another kernel of the matrix product: float32 rounding.
    torch.testing.assert_close(attention(x), alone, rtol=1e-5, atol=1e-5)


@every_setting
def test_it_is_one_graph(setting):
    """torch.compile reads each without a break, and the graph computes the same."""
    attention = drawn(setting, 8).eval()
    x = torch.randn(2, 8, 4, 4)
    torch.compiler.reset()

    graph = torch.compile(attention, backend="eager", fullgraph=True)

    torch.testing.assert_close(graph(x), attention(x), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_it_is_compiled():
    """What PyTorch's own compiler makes of ECA computes the same, gradients too."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: PyTorch compiles for the CPU with it")
    attention = drawn(("eca", {}), 16)
    x = torch.randn(2, 16, 8, 8, requires_grad=True)

    outputs = [net(x) for net in (attention, torch.compile(attention, fullgraph=True))]
    slopes = [torch.autograd.grad(y.square().sum(), x)[0] for y in outputs]

    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-5, atol=1e-5)


# ---- what it costs ------------------------------------------------------------------------------


def formulas(setting: Setting) -> tuple[str, str, dict[str, str]]:
    """What the docstring says it costs: parameters, MACs, and what else is named there."""
    text = " ".join(catalogue.doc("attention", setting[0]).split())
    cost = re.search(r"Cost: `([^`]+)` parameters, `([^`]+)` MACs", text)
    assert cost, text
    named = re.findall(r"`(\w) = ([^`]+)`", text[cost.end() :])
    return cost[1], cost[2], dict(named)


@pytest.mark.parametrize(("channels", "height", "width"), [(16, 8, 8), (24, 7, 5), (320, 1, 3)])
@pytest.mark.parametrize("setting", [s for s in SETTINGS if s[0] not in BY_OTHERS], ids=label)
def test_it_costs_what_its_docstring_says(setting, channels, height, width):
    """Parameters and MACs are those of the formulas, which are worked out here as Python."""
    with torch.device("meta"):
        attention = make(setting, channels, kernel_size=5)
    params, macs, named = formulas(setting)
    names = {"k": 5, "C": channels, "H": height, "W": width, **completed(setting)}
    scope = {**vars(variants.module("attention", setting[0])), "max": max}
    for name, formula in named.items():
        names[name] = eval(formula, scope, names)

    assert count_params(attention) == eval(params, scope, names)
    assert count_macs(attention, channels, height, width) == eval(macs, scope, names)


@every_setting
def test_it_is_counted_as_torch_counts(setting):
    """MACs are FlopCounterMode's halved."""
    with torch.device("meta"):
        attention, same = make(setting, 32), make(setting, 32).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        same(torch.empty(1, 32, 9, 7, device="meta"))

    assert count_macs(attention, 32, 9, 7) == counter.get_total_flops() // 2


# ---- laws of gates ------------------------------------------------------------------------------

POOLING = [s for s in PRESENT if s[0] not in ("cbam", "timm")]
"""Those that see an image only as a set of pixels."""
ALIKE = ("se_var1",)
"""Those that treat all channels alike, whatever their weights."""


def commutes(attention: nn.Module, channels: int, order: torch.Tensor) -> bool:
    """Whether it makes no difference to permute the channels before or after."""
    x = torch.randn(2, channels, 4, 4, generator=torch.Generator().manual_seed(1))
    return torch.allclose(attention(x[:, order]), attention(x)[:, order], atol=1e-5)


@pytest.mark.parametrize("setting", POOLING, ids=label)
def test_the_order_of_pixels_does_not_matter(setting):
    """Permuted pixels come out as the permuted output: gates see whole maps, not places."""
    attention = drawn(setting, 8)
    x, order = torch.randn(2, 8, 4, 4), torch.randperm(16)
    permuted = x.flatten(2)[:, :, order].view_as(x)

    expected = attention(x).flatten(2)[:, :, order].view_as(x)
    # Sums over another order of summands.
    torch.testing.assert_close(attention(permuted), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("none", "timm")])
def test_the_order_of_channels_matters_where_weights_are_their_own(kind):
    """Only what treats all channels alike commutes with permuting them."""
    attention = drawn((kind, {}), 16).eval()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))

    assert commutes(attention, 16, order) == (kind in ALIKE)


@pytest.mark.parametrize("kind", ["eca", "ceca"])
def test_a_kernel_of_one_does_not_see_the_order_of_channels(kind):
    """ECA, circular or not, commutes with permuting channels at k = 1."""
    attention = make((kind, {}), 16, kernel_size=1)

    assert commutes(attention, 16, torch.randperm(16))


def test_only_a_ring_commutes_with_shifts():
    """Shifting the channels around shifts the gates of circular ECA; those of ECA at the ends not,
    nor those with weights for each channel.
    """
    shifted = torch.arange(16).roll(5)

    assert commutes(drawn(("ceca", {}), 16), 16, shifted)
    assert not commutes(drawn(("eca", {}), 16), 16, shifted)
    assert not commutes(drawn(("eca_ns", {}), 16), 16, shifted)


@pytest.mark.parametrize("kind", ["eca", "ceca"])
def test_a_symmetric_kernel_commutes_with_reversal(kind):
    """Reversed channels come out reversed exactly if the kernel reads the same from behind."""
    attention, reversal = make((kind, {}), 16), torch.arange(15, -1, -1)
    weight = next(attention.parameters()).data

    weight[0, 0] = torch.tensor([0.3, 0.5, 0.3])
    assert commutes(attention, 16, reversal)
    weight[0, 0] = torch.tensor([0.3, 0.5, -0.3])
    assert not commutes(attention, 16, reversal)


@pytest.mark.parametrize("kind", ["se", "se_var3"])
def test_permuted_weights_undo_permuted_channels(kind):
    """SE and the full matrix have no order: permute their weights with the channels."""
    attention, same = drawn((kind, {}), 16), drawn((kind, {}), 16)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    x = torch.randn(2, 16, 4, 4)
    with torch.no_grad():
        for name, weight in same.named_parameters():
            rows = name.startswith(("up", "conv"))
            columns = name.startswith(("down", "conv"))
            moved = weight[order] if rows else weight
            weight.copy_(moved[:, order] if columns else moved)

    torch.testing.assert_close(same(x[:, order]), attention(x)[:, order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("gate", "at_zero"),
    [("sigmoid", 0.5), ("hard_sigmoid", 0.5), ("tanh", 0.0), ("double_sigmoid", 1.0)],
)
@pytest.mark.parametrize("kind", ["eca", "ceca", "eca_ns", "se", "se_var2", "se_var3", "se_group"])
def test_without_weights_a_gate_is_what_it_is_at_zero(kind, gate, at_zero):
    """Zero weights scale every map by the gate of 0: half, nothing or as it is, exactly."""
    attention = make((kind, {"gate": gate}), 16)
    for parameter in attention.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 16, 4, 4)

    assert attention(x).equal(at_zero * x)


@pytest.mark.parametrize("kind", ["eca", "ceca", "eca_ns"])
@pytest.mark.parametrize("kernel_size", [-1, 0, 2, 4])
def test_even_kernels_are_refused(kind, kernel_size):
    """An even kernel would lose a channel."""
    with pytest.raises(ValueError, match=rf"positive odd number \(got {kernel_size}\)"):
        make((kind, {}), 16, kernel_size)


def test_a_ring_is_gone_around_once():
    """Circular ECA reaches C channels to either side, not more: 9 works at 4 channels, 11 not."""
    x = torch.randn(2, 4, 3, 3)

    assert make(("ceca", {}), 4, 9)(x).shape == x.shape
    with pytest.raises(ValueError, match="around 4 channels"):
        make(("ceca", {}), 4, 11)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "none"])
def test_the_mapping_goes_to_those_with_kernels(kind):
    """`mapping:` is filled in for an attention with a kernel size and refused by any other."""
    sized = catalogue.accepts("attention", kind, "kernel_size")
    told = config((kind, {}), "final", "resnet").model_dump(mode="json")
    assert (told["attention"]["mapping"] is not None) == sized
    told["attention"]["mapping"] = {"name": "constant", "kernel_size": 5}

    if sized:
        assert set(trainers.kernels(Config.model_validate(told)).values()) == {5}
    else:
        with pytest.raises(ValueError, match=f"{kind} has no kernel size to map to"):
            Config.model_validate(told)


# ---- in networks --------------------------------------------------------------------------------


def check(net: nn.Module) -> None:
    """Finite logits, a finite gradient for every parameter."""
    logits = net(torch.randn(2, 3, 8, 8))
    logits.square().sum().backward()

    assert logits.shape == (2, 10)
    assert logits.isfinite().all()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("setting", GATES, ids=label)
def test_every_position_with_every_gate(setting, position):
    """In any position a network trains, and what it costs is what was measured beforehand."""
    point = config(setting, position, "resnet")
    net = trainers.build(point)

    check(net)
    assert trainers.measure(point).params == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("backbone", [b for b in published.names() if not b.startswith("resnet")])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_every_position_of_every_other_backbone(kind, position, backbone):
    """The same at its defaults."""
    check(trainers.build(config((kind, {}), position, backbone)))


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "none"])
def test_a_network_with_it_is_portable(kind):
    """torch.export writes it down, and what it has written gives the same logits."""
    point = config((kind, {}), "final", "resnet")

    assert program(trainers.build(point).eval(), point)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "none"])
def test_a_trial_is_named_by_it(kind):
    """A run's name has the kind, kernels where it has kernels, and what a space chose for it."""
    point = config((kind, {}), "final", "resnet")
    kernels = trainers.kernels(point)

    said = named(point, kernels, {"attention": kind, f"attention.{kind}.gate": "tanh"})

    sizes = f" k{'-'.join(map(str, kernels.values()))}" if kernels else ""
    assert said == f"w0.25 {kind}{sizes} gate=tanh"
    assert bool(kernels) == catalogue.accepts("attention", kind, "kernel_size")
