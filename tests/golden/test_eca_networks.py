"""Networks and modules against numbers of others: the ECA-Net paper, its authors' repository,
torchvision and timm.
"""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.layers import EcaModule
from torch import nn

from spaces import catalogue
from spaces.config import Attention, Component
from spaces.mappings.log2 import mapping
from trainers.attention.eca import attention as eca
from trainers.complexity import Complexity, count
from trainers.datasets import Description
from trainers.network import assemble

IMAGENET = Description(classes=1000, channels=3, image_size=224)
CIFAR10 = Description(classes=10, channels=3, image_size=32)
NONE = Attention(name="none")
CALLS = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenetv2"]


def component(kind: str, **parts: Any) -> Component:
    return Component(**catalogue.check(kind, parts))


def backbone(call: str, **more: Any) -> Component:
    """`resnet50` as a component."""
    if call == "mobilenetv2":
        return component("backbone", name=call, **more)
    return component("backbone", name="resnet", depth=int(call.removeprefix("resnet")), **more)


def with_eca(position: str = "final", **mapping: Any) -> Attention:
    return Attention(
        name="eca",
        position=position,
        placement=component("placement", name="everywhere"),
        mapping=component("mapping", **mapping),
    )


def with_se(**params: Any) -> Attention:
    return Attention(
        **catalogue.check("attention", {"name": "se", **params}),
        position="final",
        placement=component("placement", name="everywhere"),
    )


def cost(call: str, attention: Attention = NONE) -> Complexity:
    return count(backbone(call), attention, IMAGENET)


def added(call: str, attention: Attention) -> Complexity:
    """What the attention adds to the plain network."""
    plain, dressed = cost(call), cost(call, attention)
    return Complexity(dressed.params - plain.params, dressed.macs - plain.macs)


# ---- whole networks -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "params", "macs"),
    [
        ("resnet18", 11_689_512, 1_814_073_344),
        ("resnet34", 21_797_672, 3_663_761_408),
        ("resnet50", 25_557_032, 4_089_184_256),
        ("resnet101", 44_549_160, 7_801_405_440),
        ("resnet152", 60_192_808, 11_513_626_624),
        ("mobilenetv2", 3_504_872, 300_774_272),
    ],
)
def test_imagenet_networks(call, params, macs):
    """Params are those of the paper's table 3 (in 2^20) and of torchvision; MACs are those of
    convolutions and the classifier at 224 pixels, v1.5 (computed by hand from the shapes).
    """
    assert cost(call) == Complexity(params, macs)


@pytest.mark.parametrize(
    ("depth", "identity", "projection"),
    [
        (20, 269_722, 272_474),
        (32, 464_154, 466_906),
        (44, 658_586, 661_338),
        (56, 853_018, 855_770),
        (110, 1_727_962, 1_730_714),
    ],
)
def test_cifar_networks(depth, identity, projection):
    """Params for 10 classes with either shortcut (projection: osmr/imgclsmob's table)."""
    for shortcut, params in (("identity", identity), ("projection", projection)):
        network = backbone(f"resnet{depth}", shortcut=shortcut)
        assert count(network, NONE, CIFAR10).params == params


def test_resnet20_macs():
    """ResNet-20 with projection shortcuts at 32 pixels: 40,813,184 MACs (closed form)."""
    assert count(backbone("resnet20"), NONE, CIFAR10).macs == 40_813_184


@pytest.mark.parametrize(
    "call",
    [
        "resnet18",
        "resnet50",
        "mobilenetv2",
        *(pytest.param(f"resnet{depth}", marks=pytest.mark.slow) for depth in (34, 101, 152)),
    ],
)
def test_torchvision_weights_fit_in_order(call):
    """The weights of torchvision, taken in their order, make the same function of an image."""
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, {"mobilenetv2": "mobilenet_v2"}.get(call, call))
    theirs = theirs(weights=None).eval()
    ours = assemble(backbone(call), IMAGENET, lambda site: nn.Identity()).eval()

    pairs = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(pairs))

    x = torch.randn(1, 3, 64, 64)
    # The same operations in the same order; pooling by mean or by AdaptiveAvgPool2d may round.
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.4])
def test_mobilenetv2_widths_are_torchvisions(width):
    """With one multiplier the channels are those of torchvision: equal shapes, one by one."""
    with torch.device("meta"):
        theirs = torchvision.models.mobilenet_v2(width_mult=width)
        ours = assemble(backbone("mobilenetv2", width=width), IMAGENET, lambda site: nn.Identity())

    expected = [p.shape for p in theirs.parameters()]
    assert [p.shape for p in ours.parameters()] == expected


@pytest.mark.parametrize(
    ("call", "theirs"),
    [
        ("resnet18", "resnet18"),
        ("resnet50", "resnet50"),
        ("resnet152", "resnet152"),
        ("mobilenetv2", "mobilenetv2_100"),
    ],
)
def test_timm_counts_the_same(call, theirs):
    """The network of timm with the same name has as many parameters."""
    with torch.device("meta"):
        net = timm.create_model(theirs)

    assert cost(call).params == sum(p.numel() for p in net.parameters())


# ---- what attention adds ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("nearest", [36, 74, 86, 171, 256, 59]),
        ("nearest_down", [32, 66, 80, 165, 250, 59]),
        ("floor", [28, 54, 74, 159, 244, 45]),
    ],
)
def test_eca_params_of_the_mapping(rounding, expected):
    """gamma=2, b=1 adds this many params, by rounding (the paper's figure 3: nearest, ties up)."""
    attention = with_eca(name="log2", rounding=rounding)

    assert [added(call, attention).params for call in CALLS] == expected


@pytest.mark.parametrize(("rounding", "expected"), [("nearest", 81), ("floor", 63)])
def test_eca_params_at_the_expanded_width(rounding, expected):
    """MobileNetV2's `mid` sees the expanded width: 32, 96, 144, ..., 960 channels."""
    attention = with_eca("mid", name="log2", rounding=rounding)

    assert added("mobilenetv2", attention).params == expected


@pytest.mark.parametrize(
    ("call", "kernel_sizes", "params"),
    [
        ("resnet18", [3, 5, 7, 7], 44),
        ("resnet34", [3, 3, 5, 7], 72),
        ("resnet50", [3, 5, 5, 7], 80),
        ("resnet101", [3, 3, 5, 7], 157),
        ("resnet152", [3, 3, 5, 7], 234),
        ("resnet50", [3, 3, 7, 7], 84),
        ("mobilenetv2", [1, 1, 1, 1, 3, 3, 3], 31),
    ],
)
def test_eca_params_of_released_profiles(call, kernel_sizes, params):
    """The kernel sizes of the released checkpoints (BangguWu/ECANet @b332f6b) add so many."""
    attention = with_eca(name="per_stage", kernel_sizes=kernel_sizes)

    assert added(call, attention).params == params


@pytest.mark.parametrize(
    ("kernel_sizes", "macs"),
    [([3, 5, 5, 7], 86_272), ([5, 5, 5, 7], 87_808), ([5, 5, 5, 5], 75_520), ([3] * 4, 45_312)],
)
def test_eca_macs_on_resnet50(kernel_sizes, macs):
    """MACs of the 16 one-dimensional convolutions: the sum of k * C (computed by hand)."""
    assert added("resnet50", with_eca(name="per_stage", kernel_sizes=kernel_sizes)).macs == macs


def test_eca_resnet50_totals():
    """ECA-ResNet-50: 25,557,112 params as released (3-5-5-7), 25,557,118 by the mapping."""
    released = with_eca(name="per_stage", kernel_sizes=[3, 5, 5, 7])

    assert cost("resnet50", released).params == 25_557_112
    assert cost("resnet50", with_eca(name="log2")).params == 25_557_118


@pytest.mark.parametrize(
    ("call", "reduction", "params"),
    [
        ("resnet18", 16, 87_040),
        ("resnet34", 16, 157_184),
        ("resnet50", 16, 2_514_944),
        ("resnet101", 16, 4_743_168),
        ("resnet152", 16, 6_578_176),
        ("mobilenetv2", 8, 56_928),
    ],
)
def test_se_params(call, reduction, params):
    """SE without bias adds the difference between the rows of the paper's table 3."""
    assert added(call, with_se(reduction=reduction)).params == params


def test_resnet50_in_the_papers_unit():
    """ResNet-50 has 24.3731 * 2^20 params: the paper's 24.37 "M" are binary (its table 3)."""
    assert round(cost("resnet50").params / 2**20, 4) == 24.3731


def test_se_resnet50_total():
    """SE-ResNet-50 has 28,071,976 params: 26.77 in units of 2^20 (the paper's table 3)."""
    params = cost("resnet50", with_se()).params

    assert params == 28_071_976
    assert round(params / 2**20, 2) == 26.77


@pytest.mark.parametrize(
    ("theirs", "twin", "call"),
    [
        ("ecaresnet50d", "resnet50d", "resnet50"),
        ("ecaresnet50t", "resnet50t", "resnet50"),
        ("ecaresnet101d", "resnet101d", "resnet101"),
    ],
)
def test_timm_adds_the_same(theirs, twin, call):
    """The ECA of timm adds to its ResNet what ours adds with the paper's mapping."""
    with torch.device("meta"):
        dressed, plain = timm.create_model(theirs), timm.create_model(twin)
    difference = sum(p.numel() for p in dressed.parameters()) - sum(
        p.numel() for p in plain.parameters()
    )

    assert added(call, with_eca(name="log2")).params == difference


def test_timm_adds_the_mappings_kernels_to_resnet26():
    """ecaresnet26t has 44 params more than resnet26t (timm 1.0.31): k of two blocks a stage."""
    with torch.device("meta"):
        dressed, plain = timm.create_model("ecaresnet26t"), timm.create_model("resnet26t")
    total, base = (sum(p.numel() for p in net.parameters()) for net in (dressed, plain))

    assert total - base == 44
    assert sum(2 * mapping(channels) for channels in (256, 512, 1024, 2048)) == 44


def test_timm_has_no_kernel_below_three():
    """The module of timm maps as the paper does, but never below 3: 3 for 4 channels, not 1."""
    assert EcaModule(channels=4).conv.kernel_size == (3,)
    assert mapping(4) == 1
    for channels in range(1, 4097):
        assert EcaModule(channels=channels).conv.kernel_size == (mapping(channels, k_min=3),)


# ---- the module ---------------------------------------------------------------------------------


def weighted(*weights: float) -> nn.Module:
    """An ECA module with these weights."""
    module = eca(1, len(weights))
    next(module.parameters()).data = torch.tensor([[weights]], dtype=torch.float32)
    return module


@pytest.mark.parametrize("seed", range(40))
def test_timm_module_agrees(seed):
    """With the same weights timm's EcaModule and ours agree to 1e-6, for random C, k and shapes."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    kernel_size, channels = 2 * draw(0, 7) + 1, draw(1, 300)
    x = 3 * torch.randn(draw(1, 4), channels, draw(1, 12), draw(1, 12), generator=generator)
    ours, theirs = eca(channels, kernel_size), EcaModule(kernel_size=kernel_size)
    theirs.load_state_dict(ours.state_dict())

    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)


def test_gates_by_hand():
    """Means 1, 2, 3, 4 and weights 0.5, 1, -0.5: logits 0, 1, 2, 5.5, zero-padded (by hand)."""
    x = torch.tensor([1.0, 2, 3, 4])[None, :, None, None].expand(1, 4, 3, 3)

    gates = (weighted(0.5, 1, -0.5)(x) / x)[0, :, 0, 0]

    expected = torch.tensor([0.5, 0.7310586, 0.8807971, 0.9959299])
    torch.testing.assert_close(gates, expected, rtol=1e-6, atol=1e-7)


def test_zero_weights_halve():
    """Zero weights give gates of exactly one half."""
    x = torch.randn(2, 8, 4, 4)

    assert weighted(0, 0, 0)(x).equal(0.5 * x)


def test_gates_depend_on_channel_means_alone():
    """Pixels may be permuted within an image: the output is the permuted output."""
    torch.manual_seed(0)
    x, order = torch.randn(2, 8, 4, 4), torch.randperm(16)
    permuted = x.flatten(2)[:, :, order].view_as(x)

    module = eca(8, 3)

    # A mean over another order of summands.
    expected = module(x).flatten(2)[:, :, order].view_as(x)
    torch.testing.assert_close(module(permuted), expected, rtol=1e-5, atol=1e-6)


def test_only_a_kernel_of_one_ignores_the_order_of_channels():
    """Permuting channels permutes the output for k = 1, and does not for k = 3."""
    torch.manual_seed(0)
    x, order = torch.randn(2, 8, 4, 4), torch.randperm(8)

    def commutes(module: nn.Module) -> bool:
        return torch.allclose(module(x[:, order]), module(x)[:, order], atol=1e-6)

    assert commutes(weighted(0.7))
    assert not commutes(weighted(0.2, 0.5, -0.9))


def test_symmetric_kernels_commute_with_reversal():
    """Reversing channels reverses the output if the kernel is symmetric, else not."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, 4, 4)

    def commutes(module: nn.Module) -> bool:
        return torch.allclose(module(x.flip(1)), module(x).flip(1), atol=1e-6)

    assert commutes(weighted(0.3, 0.5, 0.3))
    assert not commutes(weighted(0.3, 0.5, -0.3))


@pytest.mark.parametrize("kernel_size", [-3, -1, 0, 2, 4, 64])
def test_even_and_non_positive_kernels_are_refused(kernel_size):
    """An even kernel would lose a channel; the error says what is allowed and what was got."""
    with pytest.raises(ValueError, match=rf"positive odd number \(got {kernel_size}\)"):
        eca(64, kernel_size)


def test_kernels_wider_than_the_channels_work():
    """With zero padding k may exceed C."""
    x = torch.randn(2, 4, 3, 3)

    assert eca(4, 9)(x).shape == x.shape


@pytest.mark.parametrize(("kernel_size", "bound"), [(3, 0.57735), (5, 0.44721), (7, 0.37796)])
def test_first_weights_fill_their_range(kernel_size, bound):
    """Weights start uniform in +-1/sqrt(k), like the authors' (PyTorch's default)."""
    torch.manual_seed(0)
    weights = torch.cat([next(eca(8, kernel_size).parameters()).flatten() for _ in range(500)])

    assert weights.abs().max() <= bound + 1e-5
    assert weights.abs().max() > 0.99 * bound
    # 1,500 draws and more: the mean's standard error is below 0.009.
    assert weights.mean().abs() < 0.04
